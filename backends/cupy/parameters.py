"""Parameters and optimizer slots in one device buffer, in the layout of the CUDA kernels."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import Array
from ..errors import ConfigError
from ..generic_plan import check_state
from ..optimizers import Optimizer
from ..plan import Layer


class ParameterBuffer:
    """Buffer of parameters and slots; the layers' arrays become views of it, so the network sees every update.

    Attributes:
        state: (1 + slots, parameters): the parameters, then each slot; a layer's weight and then its bias, by rows.
    """

    def __init__(self, cupy: Any, layers: list[Layer], optimizer: Optimizer) -> None:
        self._layers = layers
        self._shapes = [layer.weight.shape for layer in layers]  # (in_features, out_features) each
        self._starts = list(accumulate(((n + 1) * m for n, m in self._shapes), initial=0))
        dtype = layers[0].weight.dtype
        self._slots = list(optimizer.init(np, np.empty(0, dtype=dtype)))
        self.state = cupy.zeros((1 + len(self._slots), self._starts[-1]), dtype=dtype)
        self._views = self._arrays(self.state[0])

    def take_in(self) -> None:
        """Copy arrays assigned to the layers since the last run into the buffer, and replace them by views.

        Raises:
            ConfigError: a shape or dtype differs from that when the plan was made.
        """
        for k, (layer, views) in enumerate(zip(self._layers, self._views, strict=True)):
            for name, view in zip(("weight", "bias"), views, strict=True):
                array = getattr(layer, name)
                if array is view:
                    continue
                if array.shape != view.shape or array.dtype != view.dtype:
                    raise ConfigError(
                        f"the {name} of layer {k} must stay {view.dtype} of shape {view.shape}, "
                        f"got {array.dtype} of shape {array.shape}; compile a new plan for another network"
                    )
                view[...] = array
                setattr(layer, name, view)

    def slots(self) -> dict[str, npt.NDArray[Any]]:
        """Return the optimizer's arrays on the host, named as in `Plan.state`, with one read."""
        on_host = self.state[1:].get() if self._slots else ()  # (slots, parameters)
        return {
            f"layers.{k}.{parameter}.{slot}": array.copy()
            for slot, numbers in zip(self._slots, on_host, strict=True)
            for k, arrays in enumerate(self._arrays(numbers))
            for parameter, array in zip(("weight", "bias"), arrays, strict=True)
        }

    def load_slots(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Load the optimizer's arrays from the host.

        Raises:
            ModelFileError: they belong to another network or optimizer.
        """
        expected = self.slots()  # in the buffer's order
        check_state(state, expected)
        if expected:
            numbers = np.concatenate([state[name].ravel() for name in expected])
            self.state[1:].set(numbers.reshape(len(self._slots), -1))  # (slots, parameters)

    def _arrays(self, numbers: Array) -> list[tuple[Array, Array]]:
        """Return each layer's weight (in_features, out_features) and bias (out_features,) as views of `numbers`."""
        arrays = []
        for (n, m), start in zip(self._shapes, self._starts, strict=False):
            weight = numbers[start : start + n * m].reshape(n, m)
            arrays.append((weight, numbers[start + n * m : start + (n + 1) * m]))
        return arrays

"""The NumPy plan: the generic one with all parameters in one array, for small networks, dominated by call overhead."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..activations import Array
from ..flat_gradients import Gradients
from ..generic_plan import GenericPlan, check_state
from ..override import override
from ..plan import TrainingJob

if TYPE_CHECKING:
    from ..base import Backend

# Of more parameters, the optimizer's passes over the memory take longer than the calls that are saved.
MOST_PARAMETERS = 50_000


class FlatPlan(GenericPlan):
    """Generic plan that updates all parameters at once: the same numbers, in fewer calls.

    Its arrays hold weights, then biases; the layers' arrays are views.
    """

    def __init__(self, backend: Backend, job: TrainingJob) -> None:
        super().__init__(backend, job)
        self.description = f"generic: a loop over the operations of {backend.name}, one update for all parameters"
        arrays = [layer.weight for layer in job.layers] + [layer.bias for layer in job.layers]
        ends = np.cumsum([0, *(array.size for array in arrays)])
        self._num_weights = int(ends[len(job.layers)])
        self._places = [(slice(a, b), array.shape) for (a, b), array in zip(pairwise(ends), arrays, strict=True)]
        self._parameters, self._grad = (np.empty(ends[-1], arrays[0].dtype) for _ in range(2))  # (parameters,) each
        self._views, self._grad_views = self._parts(self._parameters), self._parts(self._grad)
        self._slots = job.options.optimizer.init(np, self._parameters)
        self._states = []

    @override
    def _prepare_layers(self) -> None:
        """Put the views into the layers, with the numbers of other arrays there."""
        for layer, (weight, bias) in zip(self.job.layers, self._views, strict=True):
            if layer.weight is not weight or layer.bias is not bias:
                weight[...], bias[...] = layer.weight, layer.bias
                layer.weight, layer.bias = weight, bias

    def _parts(self, flat: Array) -> list[tuple[Array, Array]]:
        """Return views of an array (parameters,) for each layer: (in_features, out_features) and (out_features,)."""
        views = [flat[place].reshape(shape) for place, shape in self._places]
        layers = len(self.job.layers)
        return list(zip(views[:layers], views[layers:], strict=True))

    def _update(self, grads: Gradients, learning_rate: float, l2: float) -> None:
        """Apply one optimizer step to all weights and biases."""
        self.step += 1
        parameters, grad = self._parameters, self._grad
        for (of_weight, of_bias), (weight, bias) in zip(grads, self._grad_views, strict=True):
            weight[...], bias[...] = of_weight, of_bias
        if l2:
            grad[: self._num_weights] += float(l2) * parameters[: self._num_weights]
        updated, self._slots = self._backend.update(
            self.job.options.optimizer, parameters, grad, self._slots, step=self.step, learning_rate=learning_rate
        )
        if updated is not parameters:
            parameters[...] = updated

    @override
    def _named_slots(self, read: Callable[[Array], npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {
            f"layers.{k}.{parameter}.{slot}": read(part)
            for slot, array in self._slots.items()
            for k, parts in enumerate(self._parts(array))
            for parameter, part in zip(("weight", "bias"), parts, strict=True)
        }

    @override
    def load_state(self, state: dict[str, npt.NDArray[Any]], step: int) -> None:
        check_state(state, self.final_state())
        self.step = step
        for slot, array in self._slots.items():
            for k, (weight, bias) in enumerate(self._parts(array)):
                weight[...], bias[...] = state[f"layers.{k}.weight.{slot}"], state[f"layers.{k}.bias.{slot}"]

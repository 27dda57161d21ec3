"""Gradients of all layers in one flat buffer, for the all-reduce."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .activations import Array
from .operations import Operations
from .plan import Layer

Gradients = list[tuple[Array, Array]]  # (grad_weight, grad_bias) of each layer


class FlatGradients:
    """Flat buffer of all gradients, last layer first: the order of the backward pass.

    It is on the host or on the backend's device, as the communicator requires.

    Attributes:
        buffer: (parameters,).
        ends: end offset of each layer's gradient.
    """

    def __init__(self, backend: Operations, layers: Sequence[Layer], *, on_host: bool) -> None:
        shapes = [(tuple(layer.weight.shape), tuple(layer.bias.shape)) for layer in layers]
        sizes = [int(np.prod(weight)) + int(np.prod(bias)) for weight, bias in reversed(shapes)]
        places = np.cumsum([0, *sizes])[::-1].tolist()  # the end of each layer's part, from the first; then 0
        dtype = backend.to_numpy(layers[0].bias).dtype
        self.buffer: Array = np.zeros(sum(sizes), dtype)
        if not (on_host or backend.is_on_host):
            self.buffer = backend.put(self.buffer)
        self._shapes, self.ends, self._starts = shapes, places[:-1], places[1:]
        self._crosses, self._backend = on_host and not backend.is_on_host, backend

    def set(self, layer: int, grads: tuple[Array, Array]) -> None:
        """Copy the gradient of one layer into the buffer."""
        for place, grad in zip(self._places(layer), grads, strict=True):
            place[...] = self._backend.to_numpy(grad) if self._crosses else grad

    def layers(self) -> Gradients:
        """Return the gradient of each layer: views if the buffer is on the backend's device."""
        come = self._backend.put if self._crosses else lambda array: array
        return [(come(weight), come(bias)) for weight, bias in map(self._places, range(len(self._shapes)))]

    def _places(self, layer: int) -> tuple[Array, Array]:
        """Return views of a layer's part: (in_features, out_features) and (out_features,)."""
        (weight, bias), start, end = self._shapes[layer], self._starts[layer], self.ends[layer]
        of_weight = end - bias[0]
        return self.buffer[start:of_weight].reshape(weight), self.buffer[of_weight:end].reshape(bias)

"""The generic plan with a check of every intermediate array: it stops at the first that is not finite."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .activations import Array
from .errors import DivergenceError
from .finite import first_not_finite
from .flat_gradients import Gradients
from .generic_plan import GenericPlan, Sums
from .operations import Operations
from .optimizers import State
from .override import override
from .plan import Layer, Rows, TrainingJob


class NotFinite(DivergenceError):  # noqa: N818
    """An operation produced an infinity or a NaN.

    Attributes:
        step: number of the step, from 1.
        found: which array holds it, and where.
    """

    def __init__(self, step: int, found: str) -> None:
        super().__init__(f"step {step}: {found}")
        self.step, self.found = step, found


class CheckedPlan(GenericPlan):
    """The generic plan, with the result of each operation checked.

    Slower than any other plan; same arithmetic as the generic one.
    """

    overlaps_sums = False  # what was begun on one process cannot be called off on the others

    def __init__(self, backend: Operations, job: TrainingJob) -> None:
        self._checked = CheckedOperations(backend, job.layers)
        super().__init__(self._checked, job)
        self.description = f"checked: a loop over the operations of {backend.name}, with a check of each result"

    @override
    def _batch_gradients(
        self, order: Array | None, weights: npt.NDArray[np.float64] | None, batch: slice, size: float
    ) -> tuple[Gradients, list[Sums]]:
        """Compute gradients; before the all-reduce, every process learns of a fault on any of them."""
        self._checked.step = self.step + 1
        found, own = "", []
        try:
            own = [self._gradients(order, weights, part, batch.start, size) for part in self._reduction.parts(batch)]
        except NotFinite as error:
            found = error.found
        of_ranks = self.job.communicator.exchange(found)
        for rank, of_rank in enumerate(of_ranks):
            if of_rank:
                raise NotFinite(self.step + 1, f"rank {rank}: {of_rank}" if len(of_ranks) > 1 else of_rank)
        return self._reduction.gradients([grads for grads, _ in own]), [sums for _, sums in own]

    @override
    def _update(self, grads: Gradients, learning_rate: float, l2: float) -> None:
        """Update the weights; a failing step leaves them unchanged."""
        copied = partial(self._checked.xp.asarray, copy=True)
        before = [(copied(layer.weight), copied(layer.bias)) for layer in self.job.layers]
        try:
            super()._update(grads, learning_rate, l2)
        except NotFinite:
            for layer, (weight, bias) in zip(self.job.layers, before, strict=True):
                layer.weight, layer.bias = weight, bias
            raise


class CheckedOperations(Operations):
    """A backend's operations, each of whose results must be finite.

    Attributes:
        step: number of the current step.
    """

    name = "checked"

    def __init__(self, backend: Operations, layers: list[Layer]) -> None:
        super().__init__(backend.xp)
        self._backend, self._layers, self.step = backend, layers, 1
        self.scope, self.put, self.to_numpy = backend.scope, backend.put, backend.to_numpy  # type: ignore[method-assign]
        self.is_on_host = backend.is_on_host  # type: ignore[misc]
        self.tile_rows = backend.tile_rows  # type: ignore[misc]  # so that its sums are added up alike

    @override
    def gather(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        x, labels = self._backend.gather(rows, index, dtype)
        self._look({"the images": x})
        return x, labels

    @override
    def linear(self, x: Array, weight: Array, bias: Array, *, activation: str) -> Array:
        y = self._backend.linear(x, weight, bias, activation=activation)
        k = self._number(weight, "weight")
        self._look({"the logits" if k == len(self._layers) - 1 else f"the output of layers.{k}": y})
        return y

    @override
    def linear_backward(self, *arrays: Any, **options: Any) -> tuple[Array | None, Array, Array]:
        grad_x, grad_weight, grad_bias = self._backend.linear_backward(*arrays, **options)
        k = self._number(arrays[3], "weight")
        self._look({f"the gradient of layers.{k}.weight": grad_weight, f"the gradient of layers.{k}.bias": grad_bias})
        if grad_x is not None:
            self._look({f"the gradient of the output of layers.{k - 1}": grad_x})
        return grad_x, grad_weight, grad_bias

    @override
    def loss(self, *arrays: Any, **options: Any) -> tuple[Array, Array, Array]:
        loss_sum, correct, grad = self._backend.loss(*arrays, **options)
        self._look({"the loss": loss_sum, "the gradient of the logits": grad})
        return loss_sum, correct, grad

    @override
    def update(self, *arrays: Any, **options: Any) -> tuple[Array, State]:
        kind = "weight" if arrays[1].ndim == 2 else "bias"
        name = f"layers.{self._number(arrays[1], kind)}.{kind}"
        parameter, state = self._backend.update(*arrays, **options)
        self._look(
            {f"the {slot} of {name}": array for slot, array in state.items()} | {f"the updated {name}": parameter}
        )
        return parameter, state

    def _number(self, array: Array, kind: str) -> int:
        """Return the index of the layer that owns a weight or bias."""
        return next(k for k, layer in enumerate(self._layers) if getattr(layer, kind) is array)

    def _look(self, arrays: dict[str, Array]) -> None:
        """Raise `NotFinite` for the first array that is not finite."""
        if not self._backend.all_finite(arrays.values()):
            on_host = {name: self.to_numpy(array) for name, array in arrays.items()}
            raise NotFinite(self.step, first_not_finite(on_host) or "nothing")

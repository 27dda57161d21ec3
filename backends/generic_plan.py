"""The generic plan: a Python loop over the backend's operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .activations import Array
from .errors import ModelFileError
from .flat_gradients import Gradients
from .operations import Operations
from .optimizers import State
from .override import override
from .plan import NO_ROWS, Plan, Rows, Totals, TrainingJob, checked_order
from .reduction import reduction_of

Sums = tuple[Array, Array]  # sum of losses, and number of correct rows: () each


class GenericPlan(Plan):
    """Forward pass, backward pass and update, one batch at a time.

    Gradients are accumulated over tiles of at most `backend.tile_rows` or `job.tile_rows` rows, so a full batch needs
    no floating-point copy of the data set. In distributed training each process computes its part of a batch, and the
    gradients are all-reduced before the update; see `Reduction`.
    """

    overlaps_sums: ClassVar[bool] = True  # whether a sum may begin before the whole gradient is there

    def __init__(self, backend: Operations, job: TrainingJob) -> None:
        self.job = job
        self.step = 0
        self.description = f"generic: a loop over the operations of {backend.name}"
        self._backend = backend
        self._reduction = reduction_of(backend, job, overlap=self.overlaps_sums)
        self._host_dtype = backend.to_numpy(job.layers[0].bias).dtype
        self._arrays: list[Array] = []  # of the layers, after a run

    @cached_property
    def _states(self) -> list[tuple[State, State]]:
        """Optimizer state for weight and bias of each layer, initial unless `load_state` comes first."""
        init, xp = self.job.options.optimizer.init, self._backend.xp
        with self._backend.scope():
            return [(init(xp, layer.weight), init(xp, layer.bias)) for layer in self.job.layers]

    @override
    def feed(self, rows: Rows) -> None:
        options = self.job.options
        if options.batch_size is not None:
            options = replace(options, batch_size=None)
        self.job = replace(self.job, rows=rows, options=options)

    @override
    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        backend, job, options = self._backend, self.job, self.job.options
        samples = job.rows.images.shape[0]
        count = samples if order is None else len(order)
        on_host = None if order is None else checked_order(order, samples)  # (rows,)
        weights = job.rows.weights if on_host is None or job.rows.weights is None else job.rows.weights[on_host]
        learning_rates = job.learning_rates(self.step + 1, -(-count // job.batch_size))
        sums: list[Sums] = []  # of each step and each of this process's parts of it
        with backend.scope():
            self._prepare_layers()
            on_device = None if on_host is None else backend.put(on_host)  # (rows,)
            for learning_rate, batch in zip(learning_rates, _slices(0, count, job.batch_size), strict=True):
                # What the mean is over: the batch's rows, or what they weigh; if that is nothing, all gradients are 0.
                size = batch.stop - batch.start if weights is None else float(weights[batch].sum()) or 1.0
                grads, batch_sums = self._batch_gradients(on_device, weights, batch, size)
                if options.clip_norm is not None:
                    grads = self._clipped(grads, options.clip_norm)
                self._update(grads, float(learning_rate), options.penalty(size))
                sums += batch_sums
            if not sums:
                return totals
            of_parts = backend.read_sums(sums).reshape(len(learning_rates), -1, 2).swapaxes(0, 1)  # (parts, steps, 2)
        self._arrays = [array for layer in job.layers for array in (layer.weight, layer.bias)]
        return self._reduction.added(totals, of_parts, count)

    def _prepare_layers(self) -> None:
        """Make host arrays that others put into the layers read-only: the first update does not overwrite them."""
        if self._backend.is_on_host:
            own = set(map(id, self._arrays))
            for layer in self.job.layers:
                arrays = layer.weight, layer.bias
                layer.weight, layer.bias = (array if id(array) in own else _read_only(array) for array in arrays)

    def _batch_gradients(
        self, order: Array | None, weights: npt.NDArray[np.float64] | None, batch: slice, size: float
    ) -> tuple[Gradients, list[Sums]]:
        """Return the gradients of the mean loss over a batch, and the sums of each of this process's parts."""
        parts = self._reduction.parts(batch)
        found = [self._gradients(order, weights, part, batch.start, size) for part in parts]
        return self._reduction.gradients([grads for grads, _ in found]), [sums for _, sums in found]

    def _gradients(
        self, order: Array | None, weights: npt.NDArray[np.float64] | None, part: slice, batch_start: int, size: float
    ) -> tuple[Gradients, Sums]:
        """Return the contribution of part of a batch to the gradients of its mean loss, and the part's sums.

        Args:
            order: rows of the run, (rows,), on the device; None for all rows in sequence.
            weights: weights of those rows, (rows,), on the host; None for 1 each.
            part: slice of `order` to process, in tiles.
            batch_start: first row of the batch.
            size: denominator of the mean.
        """
        backend, job, layers = self._backend, self.job, self.job.layers
        rows = part.stop - part.start
        most = min(backend.tile_rows or rows, job.tile_rows or rows, rows) or 1
        grads: Gradients = []  # of the tiles so far
        sums: list[Sums] = []  # of each tile

        def accumulate(k: int, of_tile: tuple[Array, Array]) -> tuple[Array, Array]:
            if grads:
                of_tile = grads[k][0] + of_tile[0], grads[k][1] + of_tile[1]
            if tile.stop == part.stop:
                self._reduction.ready(k, of_tile)
            return of_tile

        for tile in list(_slices(part.start, part.stop, most)) or [part]:  # a part without rows has a gradient of 0
            index = tile if order is None else order[tile]  # (rows,)
            x, labels = backend.batch(job.rows, index, layers[0].weight.dtype)  # (rows, features), (rows,)
            grads, *of_tile = backend.gradients(
                layers, x, labels, loss=job.loss, size=size,
                weights=None if weights is None else backend.put(weights[tile]),  # (rows,)
                label_smoothing=job.options.label_smoothing,
                factors=self._factors(tile.start - batch_start, tile.stop - batch_start), transform=accumulate,
            )  # fmt: skip
            sums.append((of_tile[0], of_tile[1]))
            del x  # the next tile takes the same memory, which the system would else take back and clear
        return grads, reduce(lambda a, b: (a[0] + b[0], a[1] + b[1]), sums)

    def _factors(self, start: int, stop: int) -> list[Array]:
        """Return the dropout factors of each hidden layer for rows [start, stop) of a batch, (rows, units).

        Without dropout there are none.
        """
        if (dropout := self.job.dropout) is None:
            return []
        step, draw = self.step + 1, dropout.factors
        units = [(layer.bias.shape[0], self._host_dtype) for layer in self.job.layers[:-1]]
        return [self._backend.put(draw(step, k, start, stop, *each)) for k, each in enumerate(units)]

    def _clipped(self, grads: Gradients, most: float) -> Gradients:
        """Clip the gradients to a global norm of at most `most`.

        Source: Pascanu, Mikolov and Bengio 2013, algorithm 1.
        """
        xp = self._backend.xp
        squares = [xp.sum(xp.astype(grad, xp.float64) ** 2) for pair in grads for grad in pair]
        norm = xp.sqrt(xp.sum(xp.stack(squares)))  # ()
        factor = most / xp.where(norm > most, norm, xp.full_like(norm, most))  # (), at most 1; a NaN stays one
        return [(w * xp.astype(factor, w.dtype), b * xp.astype(factor, b.dtype)) for w, b in grads]

    def _update(self, grads: Gradients, learning_rate: float, l2: float) -> None:
        """Apply one optimizer step to all weights and biases."""
        self.step += 1
        update, optimizer = self._backend.update, self.job.options.optimizer
        now: dict[str, Any] = {"step": self.step, "learning_rate": learning_rate}
        for k, (layer, grad, state) in enumerate(zip(self.job.layers, grads, self._states, strict=True)):
            layer.weight, weight_state = update(optimizer, layer.weight, grad[0], state[0], l2=l2, **now)
            layer.bias, bias_state = update(optimizer, layer.bias, grad[1], state[1], l2=0.0, **now)
            self._states[k] = (weight_state, bias_state)

    @override
    def state(self) -> dict[str, npt.NDArray[Any]]:
        return self._named_slots(self._backend.to_numpy)

    @override
    def final_state(self) -> dict[str, npt.NDArray[Any]]:
        return self._named_slots(np.asarray) if self._backend.is_on_host else self.state()

    def _named_slots(self, read: Callable[[Array], npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Return the optimizer's arrays by name, each read by `read`."""
        return {
            f"layers.{k}.{parameter}.{slot}": read(array)
            for k, states in enumerate(self._states)
            for parameter, slots in zip(("weight", "bias"), states, strict=True)
            for slot, array in slots.items()
        }

    @override
    def load_state(self, state: dict[str, npt.NDArray[Any]], step: int) -> None:
        number, slots = np.zeros((), dtype=self._host_dtype), [*self.job.options.optimizer.init(np, np.empty(0))]
        shapes = {
            f"layers.{k}.{name}": getattr(layer, name).shape
            for k, layer in enumerate(self.job.layers)
            for name in ("weight", "bias")
        }
        expected = {name: np.broadcast_to(number, shape) for name, shape in shapes.items()}
        check_state(state, {f"{name}.{slot}": array for name, array in expected.items() for slot in slots})
        self.step = step
        put = _read_only if self._backend.is_on_host else self._backend.put
        states = [{slot: put(state[f"{name}.{slot}"]) for slot in slots} for name in shapes]
        self._states = list(zip(states[::2], states[1::2], strict=True))


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a view of an array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def check_state(state: dict[str, npt.NDArray[Any]], expected: dict[str, npt.NDArray[Any]]) -> None:
    """Check that an optimizer state belongs to this network and optimizer.

    Raises:
        ModelFileError: a name is missing or unknown, or a shape or dtype differs.
    """
    if state.keys() != expected.keys():
        differing = sorted(state.keys() ^ expected.keys())
        raise ModelFileError(f"the optimizer state is of another network or optimizer: {differing[0]!r} does not match")
    for name, array in expected.items():
        if state[name].shape != array.shape or state[name].dtype != array.dtype:
            raise ModelFileError(
                f"optimizer state {name!r} must be {array.dtype} of shape {array.shape}, "
                f"got {state[name].dtype} of shape {state[name].shape}"
            )


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Divide `[start, stop)` into consecutive slices of at most `size`."""
    return (slice(a, b) for a, b in pairwise([*range(start, stop, size), stop]))

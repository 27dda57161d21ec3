"""How the rows of a batch are dealt out to the ranks that train together, and how what they find is added up.

A rank takes its parts of each batch forward and backward. Before the step, the gradients of all parts are added up,
on every rank alike, so that all have the same weights again. Three ways:

- `WholeBatch`: one process, one part; there is nothing to add.
- `SumOverRanks`: a part for each rank, and one sum over a flat buffer. Its order is the communicator's own, so that
  other numbers of ranks agree up to rounding.
- `SumOfShards`: a batch is cut into shards by its size alone, whose gradients are added up in one fixed order, whoever
  has them: the same bits on any number of ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .activations import Array
from .communicator import Communicator
from .flat_gradients import FlatGradients, Gradients
from .operations import Operations
from .override import override
from .plan import Layer, Totals, TrainingJob

Span = tuple[int, int]  # of shards: first, and the one after the last

# A sum that begins while earlier layers go backward must be worth the hand-over to another thread. An estimate.
LEAST_BYTES = 1 << 20


class Reduction(ABC):
    """Deals out batches to the ranks, and adds up what they find."""

    @abstractmethod
    def parts(self, batch: slice) -> list[slice]:
        """Return this rank's parts of a batch, or of any other rows; a part may be empty."""

    @abstractmethod
    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        """Hear that the gradient of a layer is complete, while earlier layers still go backward.

        Called once for each layer and each part of a step, from the last layer to the first.
        """

    @abstractmethod
    def gradients(self, parts: Sequence[Gradients]) -> Gradients:
        """Return the sum of the gradients of the parts of all ranks, given this one's."""

    @abstractmethod
    def sum_flat(self, parts: Sequence[Array]) -> None:
        """Replace the first of this rank's buffers, one for each part, by the sum of those of all ranks.

        They are (numbers,), and lie where the communicator adds; the others may change, too.
        """

    @abstractmethod
    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum, (...), of figures of the parts of all ranks, given this one's on the host, (parts, ...)."""

    def added(self, totals: Totals, parts: npt.NDArray[np.float64], rows: int) -> Totals:
        """Return `totals` with the sums of some steps added, one step after the other.

        Args:
            totals: so far.
            parts: losses and correct rows of this rank's parts of each step, (parts, steps, 2).
            rows: of all those steps.
        """
        loss_sum, correct, rows_so_far = totals
        for loss_of_step, correct_of_step in self.total(parts).tolist():
            loss_sum, correct = loss_sum + loss_of_step, correct + int(correct_of_step)
        return Totals(loss_sum, correct, rows_so_far + rows)

    def totals(self, parts: Sequence[Totals]) -> Totals:
        """Return the sums over the rows of all ranks, given those over this one's parts."""
        loss_sum, correct, rows = self.total(np.array(parts, dtype=np.float64))
        return Totals(float(loss_sum), int(correct), int(rows))


class WholeBatch(Reduction):
    """Every batch is this process's, as a whole."""

    @override
    def parts(self, batch: slice) -> list[slice]:
        return [batch]

    @override
    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        """Do nothing: no other process takes part."""

    @override
    def gradients(self, parts: Sequence[Gradients]) -> Gradients:
        return parts[0]

    @override
    def sum_flat(self, parts: Sequence[Array]) -> None:
        """Do nothing: the first array is the only one."""

    @override
    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        whole: npt.NDArray[np.float64] = parts[0]
        return whole


class SumOverRanks(Reduction):
    """A part of each batch for each rank; one sum a step.

    Of a large network, the gradients of the last layers travel while the first ones are still being computed: as soon
    as some layers' are `LEAST_BYTES` together, their sum is begun.

    Args:
        backend: whose arrays the gradients are.
        layers: of the network.
        communicator: adds up.
        overlap: whether a sum may begin while earlier layers still go backward.
    """

    def __init__(
        self, backend: Operations, layers: Sequence[Layer], communicator: Communicator, *, overlap: bool = True
    ) -> None:
        self._backend, self._communicator, self._layers = backend, communicator, layers
        self._overlap, self._begun = overlap, 0
        self._waits: list[Callable[[], None]] = []

    @cached_property
    def _flat(self) -> FlatGradients:
        """Return the buffer; a plan that has one of its own needs none."""
        return FlatGradients(self._backend, self._layers, on_host=self._communicator.on_host)

    @override
    def parts(self, batch: slice) -> list[slice]:
        return [_share(batch, self._communicator.rank, self._communicator.size)]

    @override
    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        self._flat.set(layer, grads)
        part = self._flat.buffer[self._begun : self._flat.ends[layer]]
        if self._overlap and layer > 0 and part.nbytes >= LEAST_BYTES:
            self._waits.append(self._communicator.start_sum(part))
            self._begun = self._flat.ends[layer]

    @override
    def gradients(self, parts: Sequence[Gradients]) -> Gradients:
        """Return the sums, which `ready` has copied into the buffer."""
        for wait in self._waits:
            wait()
        self._communicator.sum(self._flat.buffer[self._begun :])
        self._waits, self._begun = [], 0
        return self._flat.layers()

    @override
    def sum_flat(self, parts: Sequence[Array]) -> None:
        self._communicator.sum(parts[0])

    @override
    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        whole: npt.NDArray[np.float64] = parts[0].copy()
        self._communicator.sum(whole)
        return whole


LEAST_SHARD_ROWS, MOST_SHARDS = 8, 32


def shards_of(batch_size: int) -> int:
    """Return into how many shards batches of so many rows are cut, whatever the number of ranks."""
    return max(1, min(batch_size // LEAST_SHARD_ROWS, MOST_SHARDS))


class SumOfShards(Reduction):
    """A fixed number of shards of each batch, each rank some of them; their gradients are added up pair by pair.

    The sum is a binary tree over the shards. A rank adds up the subtrees all of whose shards it has, the ranks exchange
    those, and each completes the tree for itself.

    Args:
        backend: whose arrays the gradients are.
        layers: of the network.
        communicator: exchanges sums.
        shards: into how many each batch is cut, at least one for each rank.
    """

    def __init__(self, backend: Operations, layers: Sequence[Layer], communicator: Communicator, shards: int) -> None:
        self._backend, self._layers, self._communicator, self._shards = backend, layers, communicator, shards
        of_ranks = [_share(slice(0, shards), rank, communicator.size) for rank in range(communicator.size)]
        self._spans = [_whole_spans((0, shards), own) for own in of_ranks]

    @cached_property
    def _flats(self) -> list[FlatGradients]:
        """Return a buffer for each of this rank's shards; see `SumOverRanks._flat`."""
        on_host, own = self._communicator.on_host, self.parts(slice(0, self._shards))
        return [FlatGradients(self._backend, self._layers, on_host=on_host) for _ in own]

    @override
    def parts(self, batch: slice) -> list[slice]:
        own = _share(slice(0, self._shards), self._communicator.rank, self._communicator.size)
        return [_share(batch, shard, self._shards) for shard in range(own.start, own.stop)]

    @override
    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        """Do nothing: the order of the sum is fixed, so it waits for all shards."""

    @override
    def gradients(self, parts: Sequence[Gradients]) -> Gradients:
        for flat, grads in zip(self._flats, parts, strict=True):
            for layer, of_layer in enumerate(grads):
                flat.set(layer, of_layer)
        self.sum_flat([flat.buffer for flat in self._flats])
        return self._flats[0].layers()

    @override
    def sum_flat(self, parts: Sequence[Array]) -> None:
        parts[0][...] = self._tree_sum(parts)

    @override
    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        whole: npt.NDArray[np.float64] = self._tree_sum(list(parts.copy()))
        return whole

    def _tree_sum(self, parts: Sequence[Array]) -> Array:
        """Return the sum of the arrays of all shards, given this rank's, each of one shape; they change."""
        spans = self._spans[self._communicator.rank]
        first = spans[0][0]
        known = {(first + k, first + k + 1): part for k, part in enumerate(parts)}
        own = [_tree(span, known) for span in spans]
        most = max(map(len, self._spans))
        for k in range(most):  # a rank with fewer sends its first once more, which nobody looks at
            gathered = self._communicator.gather(own[k] if k < len(own) else own[0])  # (size, ...)
            known |= {spans[k]: array for spans, array in zip(self._spans, gathered, strict=True) if k < len(spans)}
        return _tree((0, self._shards), known)


def _share(rows: slice, number: int, of: int) -> slice:
    """Return part number `number` of some rows, divided evenly into `of` parts."""
    count = rows.stop - rows.start
    return slice(rows.start + count * number // of, rows.start + count * (number + 1) // of)


def _halves(span: Span) -> tuple[Span, Span]:
    """Return both subtrees of a tree of two shards or more."""
    start, stop = span
    middle = (start + stop) // 2
    return (start, middle), (middle, stop)


def _whole_spans(span: Span, own: slice) -> list[Span]:
    """Return the largest subtrees of a tree all of whose shards are in `own`, from left to right."""
    start, stop = span
    if own.start <= start and stop <= own.stop:
        return [span]
    if stop <= own.start or own.stop <= start or stop - start == 1:
        return []
    return [whole for half in _halves(span) for whole in _whole_spans(half, own)]


def _tree(span: Span, known: dict[Span, Any]) -> Any:
    """Return the sum over a tree, some of whose subtrees are known; it may lie in the place of its first one."""
    if span in known:
        return known[span]
    left, right = (_tree(half, known) for half in _halves(span))
    left += right  # in place: room for a large network's sums would take as long to come by as the sums
    return left


def reduction_of(backend: Operations, job: TrainingJob, *, overlap: bool = True) -> Reduction:
    """Return how the ranks of a job share it."""
    if job.shards is not None:
        return SumOfShards(backend, job.layers, job.communicator, job.shards)
    if job.communicator.size > 1:
        return SumOverRanks(backend, job.layers, job.communicator, overlap=overlap and job.communicator.overlaps)
    return WholeBatch()

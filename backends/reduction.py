"""Data parallelism: partition of batches among ranks, and reduction of gradients and sums.

Each rank computes the gradients of its parts of a batch. Before the update they are summed over all parts, with the
same result on every rank, so that all ranks keep the same weights. `Reduction` is that of one process; of several:

- `SumOverRanks`: one part per rank, and an all-reduce of a flat buffer in the communicator's order: results for
  different numbers of ranks agree up to rounding.
- `SumOfShards`: shards that depend on the batch size alone, with gradients summed in a fixed order: bit-identical
  results for any number of ranks.
"""

from __future__ import annotations

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


class Reduction:
    """Partition of batches among ranks, and reduction over them: of a single process, whose batches are not divided."""

    def parts(self, batch: slice) -> list[slice]:
        """Return this rank's parts of a batch, or of other rows; a part may be empty."""
        return [batch]

    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        """Handle the complete gradient of a layer, during the backward pass of earlier layers.

        Called once per layer and part of a step, from the last layer to the first.
        """

    def gradients(self, parts: Sequence[Gradients]) -> Gradients:
        """Return the sum of the gradients over the parts of all ranks, given this rank's."""
        return parts[0]

    def sum_flat(self, parts: Sequence[Array]) -> None:
        """Replace the first of this rank's buffers, one per part, by the sum over all ranks.

        They are (numbers,), in memory that the communicator reduces; the others may be overwritten.
        """

    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum over the parts of all ranks, (...), given this rank's values on the host, (parts, ...)."""
        whole: npt.NDArray[np.float64] = parts[0]
        return whole

    def added(self, totals: Totals, parts: npt.NDArray[np.float64], rows: int) -> Totals:
        """Return `totals` plus the sums of some steps, which have `rows` rows, added step by step.

        `parts` are the losses and correct rows of this rank's parts of each step, (parts, steps, 2).
        """
        loss_sum, correct, rows_so_far = totals
        for loss_of_step, correct_of_step in self.total(parts).tolist():
            loss_sum, correct = loss_sum + loss_of_step, correct + int(correct_of_step)
        return Totals(loss_sum, correct, rows_so_far + rows)

    def totals(self, parts: Sequence[Totals]) -> Totals:
        """Return the totals over all ranks, given this rank's."""
        loss_sum, correct, rows = self.total(np.array(parts, dtype=np.float64))
        return Totals(float(loss_sum), int(correct), int(rows))


class SumOverRanks(Reduction):
    """One part of each batch per rank, and one all-reduce per step.

    For large networks, communication overlaps with the backward pass: an all-reduce starts as soon as the gradients of
    consecutive layers reach `LEAST_BYTES`, unless `overlap` is False.
    """

    def __init__(
        self, backend: Operations, layers: Sequence[Layer], communicator: Communicator, *, overlap: bool = True
    ) -> None:
        self._backend, self._communicator, self._layers = backend, communicator, layers
        self._overlap, self._begun = overlap, 0
        self._waits: list[Callable[[], None]] = []

    @cached_property
    def _flat(self) -> FlatGradients:
        """Return the buffer, allocated on first use: plans with their own need none."""
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
    """Return the number of shards for a batch size, independent of the number of ranks."""
    return max(1, min(batch_size // LEAST_SHARD_ROWS, MOST_SHARDS))


class SumOfShards(Reduction):
    """Fixed number of shards per batch, distributed over the ranks, with pairwise summation of gradients.

    The sum is a binary tree over the shards, at least one for each rank. Each rank sums the subtrees that it owns
    entirely, once all its shards are there; the ranks exchange these, and each completes the tree.
    """

    def __init__(self, backend: Operations, layers: Sequence[Layer], communicator: Communicator, shards: int) -> None:
        self._backend, self._layers, self._communicator, self._shards = backend, layers, communicator, shards
        of_ranks = [_share(slice(0, shards), rank, communicator.size) for rank in range(communicator.size)]
        self._spans = [_whole_spans((0, shards), own) for own in of_ranks]

    @cached_property
    def _flats(self) -> list[FlatGradients]:
        """Return one buffer per shard of this rank; see `SumOverRanks._flat`."""
        on_host, own = self._communicator.on_host, self.parts(slice(0, self._shards))
        return [FlatGradients(self._backend, self._layers, on_host=on_host) for _ in own]

    @override
    def parts(self, batch: slice) -> list[slice]:
        own = _share(slice(0, self._shards), self._communicator.rank, self._communicator.size)
        return [_share(batch, shard, self._shards) for shard in range(own.start, own.stop)]

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
        """Return the sum over all shards, given this rank's arrays of one shape, which are overwritten."""
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
    """Return part `number` of some rows, divided evenly into `of` parts."""
    count = rows.stop - rows.start
    return slice(rows.start + count * number // of, rows.start + count * (number + 1) // of)


def _halves(span: Span) -> tuple[Span, Span]:
    """Return the two subtrees of a tree of at least two shards."""
    start, stop = span
    middle = (start + stop) // 2
    return (start, middle), (middle, stop)


def _whole_spans(span: Span, own: slice) -> list[Span]:
    """Return the maximal subtrees whose shards are all in `own`, from left to right."""
    start, stop = span
    if own.start <= start and stop <= own.stop:
        return [span]
    if stop <= own.start or own.stop <= start or stop - start == 1:
        return []
    return [whole for half in _halves(span) for whole in _whole_spans(half, own)]


def _tree(span: Span, known: dict[Span, Any]) -> Any:
    """Return the sum over a tree with some known subtree sums; it may reuse the first one's memory."""
    if span in known:
        return known[span]
    left, right = (_tree(half, known) for half in _halves(span))
    left += right  # in place: room for a large network's sums would take as long to come by as the sums
    return left


def reduction_of(backend: Operations, job: TrainingJob, *, overlap: bool = True) -> Reduction:
    """Return the reduction of a job."""
    if job.shards is not None:
        return SumOfShards(backend, job.layers, job.communicator, job.shards)
    if job.communicator.size > 1:
        return SumOverRanks(backend, job.layers, job.communicator, overlap=overlap and job.communicator.overlaps)
    return Reduction()

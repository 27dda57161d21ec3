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
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .activations import Array
from .communicator import Communicator
from .plan import Layer, Totals, TrainingJob

if TYPE_CHECKING:
    from .base import Backend

Gradients = list[tuple[Array, Array]]  # (grad_weight, grad_bias) of each layer
Span = tuple[int, int]  # of shards: first, and the one after the last

# A sum that is begun while earlier layers still go backward must be worth the hand-over to another thread.
LEAST_BYTES = 1 << 20


class Reduction(ABC):
    """Deals out batches to the ranks, and adds up what they find."""

    @abstractmethod
    def parts(self, batch: slice) -> list[slice]:
        """Return this rank's parts of a batch, or of any other rows; a part may be empty."""

    @abstractmethod
    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        """Hear that the gradient of a layer is complete, while earlier layers still go backward."""

    @abstractmethod
    def gradients(self, parts: Sequence[Gradients]) -> Gradients:
        """Return the sum of the gradients of the parts of all ranks, given this one's."""

    @abstractmethod
    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum, (...), of figures of the parts of all ranks, given this one's on the host, (parts, ...)."""

    def totals(self, parts: Sequence[Totals]) -> Totals:
        """Return the sums over the rows of all ranks, given those over this one's parts."""
        loss_sum, correct, rows = self.total(np.array(parts, dtype=np.float64))
        return Totals(float(loss_sum), int(correct), int(rows))


class WholeBatch(Reduction):
    """Every batch is this process's, as a whole."""

    def parts(self, batch: slice) -> list[slice]:
        """See `Reduction.parts`."""
        return [batch]

    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        """See `Reduction.ready`; nobody waits for it."""

    def gradients(self, parts: Sequence[Gradients]) -> Gradients:
        """See `Reduction.gradients`."""
        return parts[0]

    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """See `Reduction.total`."""
        whole: npt.NDArray[np.float64] = parts[0]
        return whole


class FlatGradients:
    """A buffer of the gradients of all layers, the last layer first, as they come when one goes backward.

    It lies where the communicator adds: on the host, or on the backend's device.

    Args:
        backend: whose arrays the gradients are.
        layers: of the network.
        on_host: where it is to lie.

    Attributes:
        buffer: (parameters,).
        ends: where the gradient of each layer ends in it.
    """

    def __init__(self, backend: Backend, layers: Sequence[Layer], *, on_host: bool) -> None:
        shapes = [(tuple(layer.weight.shape), tuple(layer.bias.shape)) for layer in layers]
        sizes = [int(np.prod(weight)) + int(np.prod(bias)) for weight, bias in reversed(shapes)]
        places = np.cumsum([0, *sizes])[::-1].tolist()  # the end of each layer's part, from the first; then 0
        dtype = backend.to_numpy(layers[0].bias).dtype
        self.buffer: Array = np.zeros(sum(sizes), dtype)
        is_host = isinstance(layers[0].bias, np.ndarray)
        if not (on_host or is_host):
            self.buffer = backend.put(self.buffer)
        self._shapes, self.ends, self._starts = shapes, places[:-1], places[1:]
        self._crosses, self._backend = on_host and not is_host, backend

    def set(self, layer: int, grads: tuple[Array, Array]) -> None:
        """Copy the gradient of one layer to its place."""
        for place, grad in zip(self._places(layer), grads, strict=True):
            place[...] = self._backend.to_numpy(grad) if self._crosses else grad

    def layers(self) -> Gradients:
        """Return the gradient of each layer; where they lie on the backend's device, without a copy."""
        come = self._backend.put if self._crosses else lambda array: array
        return [(come(weight), come(bias)) for weight, bias in map(self._places, range(len(self._shapes)))]

    def _places(self, layer: int) -> tuple[Array, Array]:
        """Return views of a layer's part: (in_features, out_features) and (out_features,)."""
        (weight, bias), start, end = self._shapes[layer], self._starts[layer], self.ends[layer]
        of_weight = end - bias[0]
        return self.buffer[start:of_weight].reshape(weight), self.buffer[of_weight:end].reshape(bias)


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
        self, backend: Backend, layers: Sequence[Layer], communicator: Communicator, *, overlap: bool = True
    ) -> None:
        self._communicator, self._layers = communicator, layers
        self._flat = FlatGradients(backend, layers, on_host=communicator.on_host)
        self._overlap, self._begun = overlap, 0
        self._waits: list[Callable[[], None]] = []

    def parts(self, batch: slice) -> list[slice]:
        """See `Reduction.parts`."""
        return [_share(batch, self._communicator.rank, self._communicator.size)]

    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        """See `Reduction.ready`."""
        self._flat.set(layer, grads)
        part = self._flat.buffer[self._begun : self._flat.ends[layer]]
        if self._overlap and layer > 0 and part.nbytes >= LEAST_BYTES:
            self._waits.append(self._communicator.start_sum(part))
            self._begun = self._flat.ends[layer]

    def gradients(self, parts: Sequence[Gradients]) -> Gradients:  # noqa: ARG002 - `ready` has them
        """See `Reduction.gradients`."""
        for wait in self._waits:
            wait()
        self._communicator.sum(self._flat.buffer[self._begun :])
        self._waits, self._begun = [], 0
        return self._flat.layers()

    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """See `Reduction.total`."""
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

    def __init__(self, backend: Backend, layers: Sequence[Layer], communicator: Communicator, shards: int) -> None:
        self._communicator, self._shards = communicator, shards
        self._flats = [
            FlatGradients(backend, layers, on_host=communicator.on_host) for _ in self.parts(slice(0, shards))
        ]
        of_ranks = [_share(slice(0, shards), rank, communicator.size) for rank in range(communicator.size)]
        self._spans = [_whole_spans((0, shards), own) for own in of_ranks]

    def parts(self, batch: slice) -> list[slice]:
        """See `Reduction.parts`."""
        own = _share(slice(0, self._shards), self._communicator.rank, self._communicator.size)
        return [_share(batch, shard, self._shards) for shard in range(own.start, own.stop)]

    def ready(self, layer: int, grads: tuple[Array, Array]) -> None:
        """See `Reduction.ready`; the order of the sum is fixed, and it begins when all shards are there."""

    def gradients(self, parts: Sequence[Gradients]) -> Gradients:
        """See `Reduction.gradients`."""
        for flat, grads in zip(self._flats, parts, strict=True):
            for layer, of_layer in enumerate(grads):
                flat.set(layer, of_layer)
        self._flats[0].buffer[...] = self._tree_sum([flat.buffer for flat in self._flats])
        return self._flats[0].layers()

    def total(self, parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """See `Reduction.total`."""
        whole: npt.NDArray[np.float64] = self._tree_sum(list(parts))
        return whole

    def _tree_sum(self, parts: Sequence[Array]) -> Array:
        """Return the sum of the arrays of all shards, given this rank's, each of one shape."""
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
    """Return the sum over a tree, some of whose subtrees are known."""
    if span in known:
        return known[span]
    left, right = (_tree(half, known) for half in _halves(span))
    return left + right


def reduction_of(backend: Backend, job: TrainingJob, *, overlap: bool = True) -> Reduction:
    """Return how the ranks of a job share it."""
    if job.shards is not None:
        return SumOfShards(backend, job.layers, job.communicator, job.shards)
    if job.communicator.size > 1:
        return SumOverRanks(backend, job.layers, job.communicator, overlap=overlap)
    return WholeBatch()

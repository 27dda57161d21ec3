"""Arguments of the kernels: the problem, and the room that a run works in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...dropout import Dropout
from ..network.layout import CACHE_LINE, Layout, padded, rows_of
from ..network.masks import AnyMasks, Masks, NoMasks
from ..network.network import Network, Work
from ..network.optimizers import KernelState


class Problem(NamedTuple):
    """What is trained, and on what.

    Attributes:
        network: sizes and places of the layers.
        inputs: rows of all samples, sparse or dense.
        targets: of all samples.
    """

    network: Network
    inputs: Any
    targets: Any


class Room(NamedTuple):
    """All that a run works in.

    Attributes:
        state: parameters and slots, changed in place.
        own: what of them each thread has a copy of, (threads, ...) arrays.
        shards: gradient of each shard of a batch, (shards, parameters).
        parts: sums that a way of dividing the step adds up: what they are, the way says.
        works: room for a tile of each thread, (threads, ...) arrays.
    """

    state: KernelState
    own: KernelState
    shards: Any
    parts: Any
    works: Work


def new_masks(dropout: Dropout | None, units: list[int], tile_rows: int, threads: int, dtype: Any) -> AnyMasks:
    """Return room for each thread's masks of hidden layers with `units` units each and outputs of `dtype`."""
    if dropout is None or not units or dropout.largest_dropped < 0:
        return NoMasks()
    # A tile begins within a byte, and the last registers of a layer read beyond its units.
    sizes = [padded(tile_rows * count // 8 + CACHE_LINE, CACHE_LINE) for count in units]
    first_bytes = np.cumsum([0, *sizes])
    bits = rows_of(threads, int(first_bytes[-1]), np.uint8)
    factor = float(dropout.factor(dtype))
    return Masks(bits, first_bytes[:-1], np.array(units), dropout.largest_dropped, factor, dropout.seed, 1, 0)


def new_works(layout: Layout, tile_rows: int, threads: int, dtype: Any, dropout: Dropout | None = None) -> Work:
    """Return room for a tile of each thread, (threads, ...) arrays."""
    return Work(
        tile_rows,
        rows_of(threads, tile_rows * layout.output_units, dtype),
        rows_of(threads, tile_rows * layout.output_units, dtype),
        rows_of(threads, layout.transposed_count, dtype),
        rows_of(threads, tile_rows, np.float64),
        rows_of(threads, tile_rows, np.int64),
        new_masks(dropout, layout.hidden_units, tile_rows, threads, dtype),
    )

"""Arguments of the kernels: the problem, and the room that a run works in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..network.layout import Layout, rows_of
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


def new_works(layout: Layout, tile_rows: int, threads: int, dtype: Any) -> Work:
    """Return room for a tile of each thread, (threads, ...) arrays."""
    return Work(
        tile_rows,
        rows_of(threads, tile_rows * layout.output_units, dtype),
        rows_of(threads, tile_rows * layout.output_units, dtype),
        rows_of(threads, layout.transposed_count, dtype),
        rows_of(threads, tile_rows, np.float64),
        rows_of(threads, tile_rows, np.int64),
    )

"""What a run works on and works in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compiler.compile import inner_kernel
from ..network.layers import Hidden
from ..network.layout import Layout, rows_of
from ..network.network import Network, output_of
from ..network.optimizers import State


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


class Work(NamedTuple):
    """Room for a tile.

    Attributes:
        rows: rows that there is room for.
        outputs: of all layers, one layer after the other, (rows * units of all layers,).
        grads: gradients with respect to what goes into each layer's activation, alike.
        transposed: transposes of the weights after the first.
        losses: of each row, nats, (rows,).
        correct: whether each row is classified correctly, (rows,).
    """

    rows: int
    outputs: Any
    grads: Any
    transposed: Any
    losses: Any
    correct: Any


class Room(NamedTuple):
    """All that a run works in.

    Attributes:
        state: parameters and slots, changed in place.
        own: what of them each thread has a copy of, (threads, ...) arrays.
        shards: gradient of each shard of a batch, (shards, parameters).
        parts: sums that a way of dividing the step adds up: what they are, the way says.
        works: room for a tile of each thread, (threads, ...) arrays.
    """

    state: State
    own: State
    shards: Any
    parts: Any
    works: Work


@inner_kernel
def work_of(works: Work, me: int) -> Work:
    """Return one thread's room, of arrays whose first axis is the threads."""
    outputs, grads, transposed = works.outputs[me], works.grads[me], works.transposed[me]
    return Work(works.rows, outputs, grads, transposed, works.losses[me], works.correct[me])


@inner_kernel
def hidden_of(network: Network, k: int, work: Work) -> Hidden:
    """Return layer k's output and gradient."""
    output, grad = output_of(network, k, work.outputs, work.rows), output_of(network, k, work.grads, work.rows)
    return Hidden(output, grad, network.activations[k])


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

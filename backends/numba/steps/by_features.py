"""Steps by features, of a network whose first layer is very narrow, in small batches: each thread owns some features.

A chunk of features has rows of the first weight, which no other thread touches. Its owner multiplies the batch by them,
and these sums are all that the others see. After the one wait of a tile every thread adds up the chunks' sums, in their
order, and takes all rows through the other layers for itself, with a copy of their parameters of its own: these layers
are small, or the batch is. The threads do the same sums, and come to the same bits.
"""

from __future__ import annotations

from ..compiler.compile import kernel
from ..compiler.team import Side, share, wait_for_all
from ..first_layer.inputs import tile_of
from ..network.network import Matrix, following, weight_of, work_of
from ..network.optimizers import copy_parameters, state_of
from .batches import RunSteps, Sums, add_rows, at_tile, end_of_tile, update_of
from .later_layers import transpose_all
from .narrow import narrow_backward, narrow_forward
from .room import Problem, Room


@kernel
def train_by_features(side: Side, problem: Problem, room: Room, batches: RunSteps, sums: Sums) -> None:
    """Take all steps of a run, and add to `sums`.

    `room.own` has all parameters, slots and gradients, which all threads but the first use; `room.parts` two tiles of
    every chunk's products, (1, 2 * chunks * tile rows * units).
    """
    network, order, rows, me = problem.network, batches.order, batches.tile_rows, side.me
    work, alone = work_of(room.works, me), Side(0, 1, side.sync)
    state, units, width = room.state if me == 0 else state_of(room.own, me), network.units[0], network.widths[0]
    if me > 0:
        copy_parameters(room.state, 0, state, 0, state.parameters.shape[0])
    chunks = problem.inputs.bounds.shape[0] - 1
    first_chunk, end_chunk = share(side, chunks, 1)
    transpose_all(network, state.parameters, work, alone)
    start, parity = 0, 0
    while start < order.shape[0]:
        stop = end_of_tile(batches, start)
        tile = tile_of(problem.inputs, network, order[start:stop], me, start // rows, rows)
        products = following(Matrix(room.parts[0], 0, rows, width, units), parity * chunks)
        narrow_forward(network, tile, state.parameters, products, first_chunk, end_chunk)
        wait_for_all(side)  # all chunks' sums of the tile are there
        update = update_of(batches, state, start, stop)
        narrow_backward(problem, tile, update, at_tile(work, batches, start), products, first_chunk, end_chunk, alone)
        if me == 0:
            add_rows(sums, work.losses, work.correct, stop - start)
        start, parity = stop, 1 - parity
    if me > 0:
        weight = weight_of(network, 0, state.parameters)
        first_row, end_row = problem.inputs.bounds[first_chunk], problem.inputs.bounds[end_chunk]
        for block in range(units // width):
            at = weight.at + (block * weight.rows + first_row) * width
            copy_parameters(state, at, room.state, at, (end_row - first_row) * width)

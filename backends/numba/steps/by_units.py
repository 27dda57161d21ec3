"""Steps by units, of a deep network, or one of a single layer: each thread owns some of the first layer's units.

Two waits a tile. Before the second one every thread takes some rows from the first layer's output to the loss and back.
After it every thread takes its parts of the parameters, whose gradients it sums over all rows; it updates them, and at
once multiplies the next tile's rows by its blocks of the first layer's weights. No sum is shared: the result is the
same on any number of threads.
"""

from __future__ import annotations

from ..compiler.compile import kernel
from ..compiler.team import Side, share, wait_for_all
from ..compiler.vector_unit import ROWS
from ..first_layer.blocks import blocks_backward, blocks_forward
from ..first_layer.columns import list_features
from ..first_layer.inputs import tile_of
from ..network.layers import drop
from ..network.masks import draw
from ..network.network import Work, output_of, work_of
from .batches import RunSteps, Sums, add_rows, at_tile, end_of_tile, update_of
from .later_layers import later_layers_backward, through_layers, transpose_all
from .room import Problem, Room


@kernel
def train_by_units(side: Side, problem: Problem, room: Room, batches: RunSteps, sums: Sums) -> None:
    """Take all steps of a run, and add to `sums`.

    `room.works` is one for all threads, with the outputs of two tiles: while a tile is worked on, the next one's first
    layer is written.
    """
    network, state, order, rows = problem.network, room.state, batches.order, batches.tile_rows
    first_block, end_block = share(side, network.units[0] // network.widths[0], 1)
    shared = work_of(room.works, 0)
    transpose_all(network, state.parameters, shared, side)
    start, parity = 0, 0
    while start < order.shape[0]:
        stop = end_of_tile(batches, start)
        outputs = room.works.outputs[parity]
        work = at_tile(shared, batches, start)
        work = Work(rows, outputs, work.grads, work.transposed, work.losses, work.correct, work.masks)
        tile = tile_of(problem.inputs, network, order[start:stop], side.me, start // rows, rows)
        y, grad = output_of(network, 0, outputs, rows), output_of(network, 0, work.grads, rows)
        draw(work.masks, 0, first_block * y.width, end_block * y.width, 0, stop - start)
        blocks_forward(tile, network, state.parameters, first_block, end_block, y)
        drop(work.masks, 0, y, first_block * y.width, end_block * y.width, 0, stop - start, network.compiled.lanes)
        wait_for_all(side)  # the first layer's output is complete
        update = update_of(batches, state, start, stop)
        first_row, end_row = share(side, stop - start, ROWS)
        through_layers(problem, update, work, tile.index, first_row, end_row)
        list_features(tile.features, tile, rows)
        wait_for_all(side)  # the gradients of all layers' outputs are complete
        if side.me == 0:
            add_rows(sums, work.losses, work.correct, stop - start)
        later_layers_backward(network, update, work, side)
        blocks_backward(tile, network, update, first_block, end_block, grad)
        start, parity = stop, 1 - parity

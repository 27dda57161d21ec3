"""Steps of a wide network with one hidden layer: each thread owns some hidden units, and all that hangs on them.

A block of units has columns of the first weight and rows of the second. Its owner takes it forward to its part of the
logits, `h[:, block] @ weight[block, :]`, and that is all that the others see. After the one wait of a tile every thread
adds up the parts, in the blocks' order, and takes the softmax of all rows for itself: to do it as often as there are
threads takes less time than to wait for it once more and fetch it from another core. The rest is its own again: the
gradient of its units, both weights' updates, and the next tile's part of the logits.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel, kernel
from ..compiler.lane_types import Width
from ..compiler.lanes import load, store
from ..compiler.microtiles import panels_in
from ..compiler.team import Side, share, wait_for_all
from ..first_layer.blocks import blocks_backward, blocks_forward
from ..first_layer.columns import list_features
from ..first_layer.inputs import tile_of
from ..network.layers import Area, backward_panels, drop, gradient_of_bias, gradient_of_panels, products_of_blocks
from ..network.masks import draw
from ..network.network import Matrix, following, output_of, transpose, weight_of, work_of
from ..network.optimizers import copy_parameters, state_of
from .batches import RunSteps, Sums, add_rows, at_tile, end_of_tile, update_of
from .later_layers import loss_of_rows
from .room import Problem, Room


@inner_kernel
def add_parts(parts: Matrix, blocks: int, bias: Any, logits: Matrix, used: int, lanes: Width) -> None:
    """Write the logits, (rows, classes), of the rows in use: the bias, (classes,), and all blocks' parts."""
    for panel in range(logits.columns // logits.width):
        shift = load(bias, panel * logits.width, lanes)
        for row in range(used):
            at = (panel * logits.rows + row) * logits.width
            z = shift
            for block in range(blocks):
                z = z + load(parts.buffer, following(parts, block).at + at, lanes)
            store(logits.buffer, logits.at + at, z)


@kernel
def train_two_layers(side: Side, problem: Problem, room: Room, batches: RunSteps, sums: Sums) -> None:
    """Take all steps of a run, and add to `sums`.

    `room.own` has each thread's copy of the last bias, with its slots and gradient; `room.parts` two tiles of every
    block's part of the logits, (1, 2 * blocks * tile rows * classes).
    """
    network, state, order, rows, me = problem.network, room.state, batches.order, batches.tile_rows, side.me
    widths, width, lanes = network.compiled, network.widths[0], network.widths[1]
    work, last = work_of(room.works, me), state_of(room.own, me)
    hidden, logits = output_of(network, 0, work.outputs, rows), output_of(network, 1, work.outputs, rows)
    grad_hidden, grad = output_of(network, 0, work.grads, rows), output_of(network, 1, work.grads, rows)
    blocks, panels, bias_at = network.units[0] // width, network.units[1] // lanes, network.bias_at[1]
    first_block, end_block = share(side, blocks, 1)
    group = max(panels_in(widths.wide) * lanes // width, 1)  # blocks of a microtile
    weight = weight_of(network, 1, state.parameters)
    transpose(network, 1, state.parameters, work.transposed, first_block * width, end_block * width)
    copy_parameters(state, bias_at, last, 0, network.units[1])
    start, parity = 0, 0
    while start < order.shape[0]:
        stop = end_of_tile(batches, start)
        used = stop - start
        tile = tile_of(problem.inputs, network, order[start:stop], me, start // rows, rows)
        parts = following(Matrix(room.parts[0], 0, rows, lanes, network.units[1]), parity * blocks)
        tile_work = at_tile(work, batches, start)
        draw(tile_work.masks, 0, first_block * width, end_block * width, 0, used)
        for first in range(first_block, end_block, group):
            end = min(first + group, end_block)
            blocks_forward(tile, network, state.parameters, first, end, hidden)
            drop(tile_work.masks, 0, hidden, first * width, end * width, 0, used, widths.lanes)
            for block in range(first, end):
                products_of_blocks(hidden, weight, block, block + 1, following(parts, block), used, widths)
        wait_for_all(side)  # all parts of the tile's logits are there
        update, last_update = update_of(batches, state, start, stop), update_of(batches, last, start, stop)
        add_parts(parts, blocks, last.parameters, logits, used, widths.lanes)
        loss_of_rows(problem, work, tile.index, update.size, 0, used)
        if me == 0:
            add_rows(sums, work.losses, work.correct, used)
        list_features(tile.features, tile, rows)
        for first in range(first_block, end_block, group):
            end = min(first + group, end_block)
            first_unit, end_unit = first * width, end * width
            backward_panels(network, tile_work, Area(0, 0, used, first_unit // lanes, end_unit // lanes))
            gradient_of_panels(network, hidden, grad, Area(1, first_unit, end_unit, 0, panels), update)
            if update.is_last:
                transpose(network, 1, state.parameters, work.transposed, first_unit, end_unit)
            blocks_backward(tile, network, update, first, end, grad_hidden)
        for panel in range(panels):
            gradient_of_bias(grad, panel, 0, last_update, widths.lanes)
        start, parity = stop, 1 - parity
    if me == 0:
        copy_parameters(last, 0, state, bias_at, network.units[1])

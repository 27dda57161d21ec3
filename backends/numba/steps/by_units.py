"""The steps of a deep network, or one of a single layer: each thread owns some of the first layer's units.

Two waits a tile. Before the second one every thread takes some rows from the first layer's output to the loss and back.
After it every thread takes its parts of the parameters, whose gradients it sums over all rows; it updates them, and at
once multiplies the next tile's rows by its blocks of the first layer's weights. No sum is shared: the result is the
same on any number of threads.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel, kernel
from ..compiler.lane_types import TILE_ROWS
from ..compiler.team import Side, share, wait_for_all
from ..first_layer.blocks import block_backward, block_forward, list_features, prepare
from ..network.layers import Matrix, Widths
from ..network.network import Network, output_of, transpose
from ..network.optimizers import Rule, State
from ..network.targets import Targets
from .batches import Batches, Sums, add_tile, end_of_tile, position_of, size_of_batch
from .later_layers import Work, later_layers_backward, through_layers


@inner_kernel
def first_output(network: Network, buffer: Any, parity: int, rows: int) -> Matrix:
    """Return the first layer's output, (rows, units): while a tile is worked on, the next one's is written."""
    return Matrix(buffer, parity * rows * network.units[0], rows, network.widths[0], network.units[0])


@kernel
def train_by_units(
    side: Side,
    network: Network,
    inputs: Any,
    targets: Targets,
    state: State,
    grads: Any,
    first_outputs: Any,
    work: Work,
    batches: Batches,
    rule: Rule,
    sums: Sums,
    widths: Widths,
) -> None:
    """Take all steps of a run.

    Args:
        side: this thread's place in the team.
        network: sizes and places.
        inputs: images of all samples, sparse or dense.
        targets: of all samples.
        state: parameters and slots, changed in place.
        grads: of the batch so far, (parameters,).
        first_outputs: room for two tiles of the first layer's output, (2 * tile rows * units,).
        work: room for a tile of the other layers.
        batches: the work.
        rule: the optimizer.
        sums: gone on with.
        widths: of the kernels.
    """
    order, rows, count = batches.order, batches.tile_rows, batches.order.shape[0]
    first_block, end_block = share(side, network.units[0] // network.widths[0], 1)
    start, stop, parity = 0, end_of_tile(batches, 0), 0
    for k in range(1, network.inputs.shape[0]):
        first_row, end_row = share(side, network.inputs[k], network.widths[k])
        transpose(network, k, state.parameters, work.transposed, network.widths[k], first_row, end_row)
    prepare(inputs, order[start:stop], side.me, network, rows, widths)
    for block in range(first_block, end_block):
        y = first_output(network, first_outputs, parity, rows)
        block_forward(inputs, order[start:stop], side.me, network, state.parameters, block, y, widths)
    while start < count:
        wait_for_all(side)  # the first layer's output is complete
        index, used = order[start:stop], stop - start
        first = first_output(network, first_outputs, parity, rows)
        row, end_row = share(side, used, TILE_ROWS)
        size = size_of_batch(batches, start)
        through_layers(network, state.parameters, work, first, targets, index, row, end_row, size, widths)
        list_features(inputs, index, side.me, start // rows, rows)
        wait_for_all(side)  # the gradients of all layers' outputs are complete
        if side.me == 0:
            add_tile(sums, work.losses, work.correct, used)
        position = position_of(batches, rule, start, stop)
        later_layers_backward(network, state, grads, work, first, used, position, side, widths)
        grad = output_of(network, 0, work.grads, rows)
        for block in range(first_block, end_block):
            block_backward(inputs, index, side.me, start // rows, network, state, grads, block, grad, position, widths)
        start, parity = stop, 1 - parity
        stop = end_of_tile(batches, start)
        prepare(inputs, order[start:stop], side.me, network, rows, widths)
        y = first_output(network, first_outputs, parity, rows)
        for block in range(first_block, end_block):
            block_forward(inputs, order[start:stop], side.me, network, state.parameters, block, y, widths)

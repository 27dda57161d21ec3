"""The steps of a wide network with one hidden layer: each thread owns some hidden units, and all that hangs on them.

A block of units has columns of the first weight and rows of the second. Its owner takes it forward to its part of the
logits, `h[:, block] @ weight[block, :]`, and that is all that the others see. After the one wait of a tile every thread
adds up the parts, in the blocks' order, and takes the softmax of all rows for itself: to do it as often as there are
threads takes less time than to wait for it once more and fetch it from another core. The rest is its own again: the
gradient of its units, both weights' updates, and the next tile's part of the logits.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel, kernel
from ..compiler.lanes import load, store
from ..compiler.team import Side, share, wait_for_all
from ..first_layer.blocks import block_backward, block_forward, list_features, prepare
from ..network.layers import Matrix, Widths, backward_panel, gradient_of_bias, gradient_of_panel, products_of_panel
from ..network.network import Network, output_of, transpose, transposed_of, weight_of
from ..network.optimizers import Rule, State, copy_parameters
from ..network.targets import Targets, loss_of_row
from .batches import Batches, Sums, add_tile, end_of_tile, position_of, size_of_batch
from .later_layers import Work, work_of


@inner_kernel
def part_of_logits(
    network: Network, parameters: Any, block: int, hidden: Matrix, parts: Any, parity: int, used: int, widths: Widths
) -> None:
    """Write one block's part of the logits, `hidden[:, block] @ weight[block, :]`, (rows, classes)."""
    weight = weight_of(network, 1, parameters)
    blocks = hidden.columns // hidden.width
    at = (parity * blocks + block) * hidden.rows * weight.columns
    part = Matrix(parts, at, hidden.rows, weight.width, weight.columns)
    for panel in range(weight.columns // weight.width):
        products_of_panel(hidden, weight, panel, block, block + 1, part, used, widths)


@inner_kernel
def add_parts(parts: Any, parity: int, blocks: int, bias: Any, logits: Matrix, used: int, widths: Widths) -> None:
    """Write the logits, (rows, classes), of the rows in use: all blocks' parts and the bias, (classes,)."""
    size = logits.rows * logits.columns
    for panel in range(logits.columns // logits.width):
        shift = load(bias, panel * logits.width, widths.lanes)
        for row in range(used):
            at = (panel * logits.rows + row) * logits.width
            z = shift
            for block in range(blocks):
                z = z + load(parts, (parity * blocks + block) * size + at, widths.lanes)
            store(logits.buffer, logits.at + at, z)


@inner_kernel
def forward_blocks(
    network: Network,
    inputs: Any,
    index: Any,
    me: int,
    parameters: Any,
    hidden: Matrix,
    parts: Any,
    parity: int,
    first_block: int,
    end_block: int,
    widths: Widths,
) -> None:
    """Take a tile, the samples `index`, forward through some blocks of units to their parts of the logits."""
    prepare(inputs, index, me, network, hidden.rows, widths)
    for block in range(first_block, end_block):
        block_forward(inputs, index, me, network, parameters, block, hidden, widths)
        part_of_logits(network, parameters, block, hidden, parts, parity, index.shape[0], widths)


@kernel
def train_two_layers(
    side: Side,
    network: Network,
    inputs: Any,
    targets: Targets,
    state: State,
    grads: Any,
    parts: Any,
    works: Work,
    last_biases: State,
    last_grads: Any,
    batches: Batches,
    rule: Rule,
    sums: Sums,
    widths: Widths,
) -> None:
    """Take all steps of a run.

    Args:
        side: this thread's place in the team.
        network: sizes and places of two layers.
        inputs: images of all samples, sparse or dense.
        targets: of all samples.
        state: parameters and slots, changed in place.
        grads: of the batch so far, (parameters,).
        parts: room for two tiles of every block's part of the logits, (2 * blocks * tile rows * classes,).
        works: room for a tile of each thread, (threads, ...) arrays.
        last_biases: room for each thread's copy of the last bias and its slots, (threads, classes) arrays.
        last_grads: room for its gradient, alike.
        batches: the work.
        rule: the optimizer.
        sums: gone on with.
        widths: of the kernels.
    """
    order, rows, count, me = batches.order, batches.tile_rows, batches.order.shape[0], side.me
    work = work_of(works, me)
    last, last_grad = State(last_biases.parameters[me], last_biases.first[me], last_biases.second[me]), last_grads[me]
    hidden, logits = output_of(network, 0, work.outputs, rows), output_of(network, 1, work.outputs, rows)
    grad_hidden, grad = output_of(network, 0, work.grads, rows), output_of(network, 1, work.grads, rows)
    width, lanes = network.widths[0], network.widths[1]
    blocks, bias_at, code = network.units[0] // width, network.bias_at[1], network.activations[0]
    first_block, end_block = share(side, blocks, 1)
    transposed, weight_grad = transposed_of(network, 1, work.transposed, lanes), weight_of(network, 1, grads)
    transpose(network, 1, state.parameters, work.transposed, lanes, first_block * width, end_block * width)
    copy_parameters(state, bias_at, last, 0, logits.columns)
    start, stop, parity = 0, end_of_tile(batches, 0), 0
    forward_blocks(
        network, inputs, order[:stop], me, state.parameters, hidden, parts, parity, first_block, end_block, widths
    )
    while start < count:
        wait_for_all(side)  # all parts of the tile's logits are there
        index, used, size = order[start:stop], stop - start, size_of_batch(batches, start)
        position = position_of(batches, rule, start, stop)
        add_parts(parts, parity, blocks, last.parameters, logits, used, widths)
        for row in range(used):
            work.losses[row], work.correct[row] = loss_of_row(
                targets, index[row], logits, grad, row, network.classes, size, widths.lanes
            )
        if me == 0:
            add_tile(sums, work.losses, work.correct, used)
        list_features(inputs, index, me, start // rows, rows)
        for block in range(first_block, end_block):
            first_unit, end_unit = block * width, (block + 1) * width
            for panel in range(first_unit // lanes, end_unit // lanes):
                backward_panel(grad, transposed, panel, hidden, grad_hidden, code, 0, used, widths)
            for panel in range(grad.columns // lanes):
                gradient_of_panel(hidden, grad, panel, used, weight_grad, first_unit, end_unit, state, position, widths)
            if position.is_last:
                transpose(network, 1, state.parameters, work.transposed, lanes, first_unit, end_unit)
            block_backward(
                inputs, index, me, start // rows, network, state, grads, block, grad_hidden, position, widths
            )
        for panel in range(grad.columns // lanes):
            gradient_of_bias(grad, panel, used, last_grad, 0, last, position, widths.lanes)
        start, parity = stop, 1 - parity
        stop = end_of_tile(batches, start)
        forward_blocks(
            network, inputs, order[start:stop], me, state.parameters, hidden, parts, parity, first_block, end_block,
            widths,
        )  # fmt: skip
    if me == 0:
        copy_parameters(last, 0, state, bias_at, logits.columns)

"""The steps of a network whose first layer is very narrow, in small batches: each thread owns some of the features.

A chunk of features has rows of the first weight, which no other thread touches. Its owner multiplies the batch by them,
and these sums are all that the others see. After the one wait of a tile every thread adds up the chunks' sums, in their
order, and takes all rows through the other layers for itself, with a copy of their parameters of its own: these layers
are small, or the batch is. The threads do the same sums, and come to the same bits.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel, kernel
from ..compiler.team import Side, share, wait_for_all
from ..first_layer.blocks import prepare
from ..first_layer.chunks import chunk_backward, chunk_forward, finish_chunks
from ..network.layers import Matrix, Widths, gradient_of_bias
from ..network.network import Network, output_of, transpose, weight_of
from ..network.optimizers import Rule, State, copy_parameters
from ..network.targets import Targets
from .batches import Batches, Sums, add_tile, end_of_tile, position_of, size_of_batch
from .later_layers import Work, later_layers_backward, through_layers, work_of


@inner_kernel
def forward_chunks(
    network: Network,
    inputs: Any,
    index: Any,
    me: int,
    parameters: Any,
    parts: Any,
    parity: int,
    rows: int,
    first_chunk: int,
    end_chunk: int,
    widths: Widths,
) -> None:
    """Write the sums of some chunks for a tile, the samples `index`."""
    units, width = network.units[0], network.widths[0]
    chunks = inputs.bounds.shape[0] - 1
    prepare(inputs, index, me, network, rows, widths)
    for chunk in range(first_chunk, end_chunk):
        sums = Matrix(parts, (parity * chunks + chunk) * rows * units, rows, width, units)
        chunk_forward(inputs, index, me, network, parameters, chunk, sums, widths)


@kernel
def train_by_features(
    side: Side,
    network: Network,
    inputs: Any,
    targets: Targets,
    states: State,
    grads: Any,
    parts: Any,
    first_outputs: Any,
    works: Work,
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
        states: parameters and slots of each thread, (threads, parameters) arrays; the first thread's go in and out.
        grads: of the batch so far, of each thread, alike.
        parts: room for two tiles of every chunk's sums, (2 * chunks * tile rows * units,).
        first_outputs: room for a tile of the first layer's output of each thread, (threads, tile rows * units).
        works: room for a tile of each thread, (threads, ...) arrays.
        batches: the work.
        rule: the optimizer.
        sums: gone on with.
        widths: of the kernels.
    """
    order, rows, count, me = batches.order, batches.tile_rows, batches.order.shape[0], side.me
    work, alone = work_of(works, me), Side(0, 1, side.sync)
    given = State(states.parameters[0], states.first[0], states.second[0])
    state, own_grads = State(states.parameters[me], states.first[me], states.second[me]), grads[me]
    if me > 0:
        copy_parameters(given, 0, state, 0, state.parameters.shape[0])
    units, width = network.units[0], network.widths[0]
    first = Matrix(first_outputs[me], 0, rows, width, units)
    grad = output_of(network, 0, work.grads, rows)
    chunks = inputs.bounds.shape[0] - 1
    first_chunk, end_chunk = share(side, chunks, 1)
    for k in range(1, network.inputs.shape[0]):
        transpose(network, k, state.parameters, work.transposed, network.widths[k], 0, network.inputs[k])
    start, stop, parity = 0, end_of_tile(batches, 0), 0
    forward_chunks(
        network, inputs, order[:stop], me, state.parameters, parts, parity, rows, first_chunk, end_chunk, widths
    )
    while start < count:
        wait_for_all(side)  # all chunks' sums of the tile are there
        index, used, size = order[start:stop], stop - start, size_of_batch(batches, start)
        position = position_of(batches, rule, start, stop)
        tile_parts = parts[parity * chunks * rows * units :]
        finish_chunks(inputs, tile_parts, network, state.parameters, first, used, widths)
        through_layers(network, state.parameters, work, first, targets, index, 0, used, size, widths)
        if me == 0:
            add_tile(sums, work.losses, work.correct, used)
        later_layers_backward(network, state, own_grads, work, first, used, position, alone, widths)
        for block in range(units // width):
            gradient_of_bias(grad, block, used, own_grads, network.bias_at[0], state, position, widths.block)
        for chunk in range(first_chunk, end_chunk):
            chunk_backward(inputs, index, me, start // rows, network, state, own_grads, chunk, grad, position, widths)
        start, parity = stop, 1 - parity
        stop = end_of_tile(batches, start)
        forward_chunks(
            network, inputs, order[start:stop], me, state.parameters, parts, parity, rows, first_chunk, end_chunk,
            widths,
        )  # fmt: skip
    if me > 0:
        weight = weight_of(network, 0, state.parameters)
        first_row, end_row = inputs.bounds[first_chunk], inputs.bounds[end_chunk]
        for block in range(units // width):
            at = weight.at + (block * weight.rows + first_row) * width
            copy_parameters(state, at, given, at, (end_row - first_row) * width)

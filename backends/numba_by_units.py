"""A run in which each thread owns some of the first layer's units: for wide networks.

Two waits a tile. Between them, first every thread takes some rows from the first layer's output to the loss and back;
then every thread takes its blocks of units, whose gradients it sums over all rows: it updates their weights and at once
multiplies the next tile's rows by them. No sum is shared between threads, so the result is the same on any number.
"""

from __future__ import annotations

from typing import Any

from .numba_batches import Batches, Sums, end_of_tile, part_of, rows_of_batch
from .numba_compile import inner_kernel, kernel
from .numba_inputs import block_backward, block_forward, list_features, prepare
from .numba_lanes import TILE_ROWS
from .numba_layers import Matrix, Widths, gradient_of_bias
from .numba_network import Network, output_of, transpose
from .numba_optimizers import Rule, State
from .numba_rows import Work, later_layers_backward, through_layers
from .numba_team import Side, share, wait_for_all


@inner_kernel
def first_output(network: Network, buffer: Any, parity: int, rows: int) -> Matrix:
    """Return the first layer's output, (rows, units): while a tile is worked on, the next one's is written."""
    return Matrix(buffer, parity * rows * network.units[0], rows, network.widths[0], network.units[0])


@kernel
def train_by_units(
    side: Side,
    network: Network,
    inputs: Any,
    labels: Any,
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
        labels: of all samples, (samples,).
        state: parameters and slots, changed in place.
        grads: of the batch so far, where it has several tiles, (parameters,).
        first_outputs: room for two tiles of the first layer's output, (2 * tile rows * units,).
        work: room for a tile of the other layers.
        batches: the work.
        rule: the optimizer.
        sums: gone on with.
        widths: of the kernels.
    """
    order, rows, count = batches.order, batches.tile_rows, batches.order.shape[0]
    lo, hi = share(side, network.units[0] // network.widths[0], 1)
    start, stop, parity = 0, end_of_tile(batches, 0), 0
    for k in range(1, network.inputs.shape[0]):
        first_row, end_row = share(side, network.inputs[k], network.widths[k])
        transpose(network, k, state.parameters, work.transposed, network.widths[k], first_row, end_row)
    from_row, to_row = share(side, stop, 1)
    prepare(inputs, order[start:stop], parity, network, rows, from_row, to_row, widths.lanes)
    wait_for_all(side)
    for block in range(lo, hi):
        y = first_output(network, first_outputs, parity, rows)
        block_forward(inputs, order[start:stop], parity, network, state.parameters, block, y, widths)
    while start < count:
        wait_for_all(side)  # the first layer's output is complete
        index, used = order[start:stop], stop - start
        end = end_of_tile(batches, stop) if stop < count else stop
        following = order[stop:end]
        first = first_output(network, first_outputs, parity, rows)
        row, end_row = share(side, used, TILE_ROWS)
        size = rows_of_batch(batches, start)
        through_layers(network, state.parameters, work, first, labels, index, row, end_row, size, widths)
        list_features(inputs, index, rows, side.me)
        from_row, to_row = share(side, end - stop, 1)
        prepare(inputs, following, 1 - parity, network, rows, from_row, to_row, widths.lanes)
        wait_for_all(side)  # the gradients of all layers' outputs are complete
        part = part_of(batches, rule, start, stop)
        if side.me == 0:
            for row in range(used):
                sums.loss[0] += work.losses[row]
                sums.correct[0] += work.hits[row]
        later_layers_backward(network, state, grads, work, first, used, part, side, widths)
        grad = output_of(network, 0, work.grads, rows)
        y = first_output(network, first_outputs, 1 - parity, rows)
        for block in range(lo, hi):
            block_backward(inputs, parity, side.me, network, state, grads, block, grad, used, part, widths)
            gradient_of_bias(grad, block, used, grads, network.bias_at[0], state, part, widths.block)
            block_forward(inputs, following, 1 - parity, network, state.parameters, block, y, widths)
        start, stop, parity = stop, end, 1 - parity

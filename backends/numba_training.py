"""The steps of a run, gone through by all threads side by side, with two waits for each other in a tile of rows.

Before the second wait every thread takes some rows from the first layer's output to the loss and back. After it every
thread takes its parts of the parameters, whose gradients it sums over all rows: it updates them, and at once multiplies
the next tile's rows by its part of the first layer. Every sum is one thread's, or is added up in a fixed order: the
result is the same on any number of threads.
"""

from __future__ import annotations

from typing import Any

from .numba_batches import Batches, Sums, end_of_tile, position_of, rows_of_batch
from .numba_compile import inner_kernel, kernel
from .numba_inputs import finish_rows, list_features, part_backward, part_forward, parts_of, prepare
from .numba_lanes import TILE_ROWS
from .numba_layers import Matrix, Widths
from .numba_network import Network, output_of, transpose
from .numba_optimizers import Rule, State
from .numba_rows import Work, later_layers_backward, through_layers
from .numba_team import Side, share, wait_for_all


@inner_kernel
def first_output(network: Network, buffer: Any, parity: int, rows: int) -> Matrix:
    """Return the first layer's output, (rows, units): while a tile is worked on, the next one's is written."""
    return Matrix(buffer, parity * rows * network.units[0], rows, network.widths[0], network.units[0])


@kernel
def train(
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
    first_part, end_part = share(side, parts_of(inputs, network), 1)
    start, stop, parity = 0, end_of_tile(batches, 0), 0
    for k in range(1, network.inputs.shape[0]):
        first_row, end_row = share(side, network.inputs[k], network.widths[k])
        transpose(network, k, state.parameters, work.transposed, network.widths[k], first_row, end_row)
    from_row, to_row = share(side, stop, 1)
    prepare(inputs, order[start:stop], parity, network, rows, from_row, to_row, widths)
    wait_for_all(side)
    for part in range(first_part, end_part):
        y = first_output(network, first_outputs, parity, rows)
        part_forward(inputs, order[start:stop], parity, network, state.parameters, part, y, widths)
    while start < count:
        wait_for_all(side)  # all parts of the first layer's output are there
        index, used = order[start:stop], stop - start
        end = end_of_tile(batches, stop) if stop < count else stop
        following = order[stop:end]
        first = first_output(network, first_outputs, parity, rows)
        row, end_row = share(side, used, TILE_ROWS)
        size = rows_of_batch(batches, start)
        finish_rows(inputs, network, state.parameters, first, row, end_row, widths)
        through_layers(network, state.parameters, work, first, labels, index, row, end_row, size, widths)
        list_features(inputs, index, rows, side.me)
        from_row, to_row = share(side, end - stop, 1)
        prepare(inputs, following, 1 - parity, network, rows, from_row, to_row, widths)
        wait_for_all(side)  # the gradients of all layers' outputs are complete
        position = position_of(batches, rule, start, stop)
        if side.me == 0:
            for row in range(used):
                sums.loss[0] += work.losses[row]
                sums.correct[0] += work.hits[row]
        later_layers_backward(network, state, grads, work, first, used, position, side, widths)
        grad = output_of(network, 0, work.grads, rows)
        y = first_output(network, first_outputs, 1 - parity, rows)
        for part in range(first_part, end_part):
            part_backward(inputs, index, parity, side.me, network, state, grads, part, grad, position, widths)
        for part in range(first_part, end_part):
            part_forward(inputs, following, 1 - parity, network, state.parameters, part, y, widths)
        start, stop, parity = stop, end, 1 - parity

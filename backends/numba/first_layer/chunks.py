"""A narrow first layer, all of whose units are taken at once: its parts are chunks of features.

For each kind of input, as in `blocks`.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import chosen_by_kind, inner_kernel
from ..compiler.lanes import like, load, store, zeros
from ..network.functions import activated
from ..network.layers import Matrix, Widths, gradient_of_panel, products_of_panel
from ..network.network import Network, weight_of
from ..network.optimizers import DESCENT, Position, State, take_step
from .blocks import DenseInput, SparseInput, chosen_by_input, dense_tile, settle_features
from .columns import ByteColumns, Columns, KeptColumns, columns_of
from .sparse import add_gradient_of_chunk, products_of_chunk

# `chunk_forward` writes one chunk's part of the unscaled `x @ weight`, (rows, units).


def _chunk_forward_sparse(
    inputs: SparseInput,
    index: Any,
    me: int,
    network: Network,
    parameters: Any,
    chunk: int,
    sums: Matrix,
    widths: Widths,
) -> None:
    products_of_chunk(inputs.rows, index, chunk, weight_of(network, 0, parameters), sums, widths.block)


def _chunk_forward_dense(
    inputs: DenseInput, index: Any, me: int, network: Network, parameters: Any, chunk: int, sums: Matrix, widths: Widths
) -> None:
    x, weight = dense_tile(inputs, me, network, sums.rows), weight_of(network, 0, parameters)
    first, last = inputs.bounds[chunk] // x.width, inputs.bounds[chunk + 1] // x.width
    for panel in range(sums.columns // sums.width):
        products_of_panel(x, weight, panel, first, last, sums, index.shape[0], widths)


# `finish_chunks` makes the first layer's output `y` of the chunks' sums, (chunks * rows * units,), added in order.


@inner_kernel
def add_chunks(
    sums: Any, chunks: int, scale: float, network: Network, parameters: Any, y: Matrix, used: int, widths: Widths
) -> None:
    """Write the output `y`, (rows, units), of the rows in use."""
    for block in range(y.columns // y.width):
        bias = load(parameters, network.bias_at[0] + block * y.width, widths.block)
        for row in range(used):
            at = (block * y.rows + row) * y.width
            z = zeros(sums, widths.block)
            for chunk in range(chunks):
                z = z + load(sums, at + chunk * y.rows * y.columns, widths.block)
            store(y.buffer, y.at + at, activated(z * like(z, scale) + bias, network.activations[0]))


def _finish_chunks_sparse(
    inputs: SparseInput, sums: Any, network: Network, parameters: Any, y: Matrix, used: int, widths: Widths
) -> None:
    add_chunks(sums, inputs.bounds.shape[0] - 1, inputs.rows.scale, network, parameters, y, used, widths)


def _finish_chunks_dense(
    inputs: DenseInput, sums: Any, network: Network, parameters: Any, y: Matrix, used: int, widths: Widths
) -> None:
    add_chunks(sums, inputs.bounds.shape[0] - 1, 1.0, network, parameters, y, used, widths)


# `chunk_backward` settles the gradient of one chunk's weights.


def _backward_by_rows(
    columns: ByteColumns | Columns,
    inputs: SparseInput,
    index: Any,
    network: Network,
    state: State,
    grads: Any,
    chunk: int,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    step, scale = position.step, inputs.rows.scale
    if step.rule.kind == DESCENT and position.l2 == 0 and position.is_first and position.is_last:
        # w - rate * (g_1 + g_2 + ...): each row's part is taken off at once, and there need be no sum of them
        weight = weight_of(network, 0, state.parameters)
        add_gradient_of_chunk(inputs.rows, index, chunk, weight, grad, -step.learning_rate * scale, widths.block)
        return
    weight = weight_of(network, 0, grads)
    start = weight.at + inputs.bounds[chunk] * weight.width
    stop = weight.at + inputs.bounds[chunk + 1] * weight.width
    if position.is_first:
        for at in range(start, stop, weight.width):
            store(grads, at, zeros(grads, widths.block))
    add_gradient_of_chunk(inputs.rows, index, chunk, weight, grad, scale, widths.block)
    if position.is_last:
        for at in range(start, stop, weight.width):
            take_step(step, state, at, load(grads, at, widths.block), position.l2, widths.block)


def _backward_by_features(
    columns: KeptColumns,
    inputs: SparseInput,
    index: Any,
    network: Network,
    state: State,
    grads: Any,
    chunk: int,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    first, last = inputs.bounds[chunk], inputs.bounds[chunk + 1]
    for block in range(grad.columns // grad.width):
        settle_features(columns, inputs.rows.scale, block, first, last, network, state, grads, grad, position, widths)


backward_of_chunk = chosen_by_kind(
    {Columns: _backward_by_rows, ByteColumns: _backward_by_rows, KeptColumns: _backward_by_features}
)


def _chunk_backward_sparse(
    inputs: SparseInput,
    index: Any,
    me: int,
    tile: int,
    network: Network,
    state: State,
    grads: Any,
    chunk: int,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    columns = columns_of(inputs.columns, me, tile)
    backward_of_chunk(columns, inputs, index, network, state, grads, chunk, grad, position, widths)


def _chunk_backward_dense(
    inputs: DenseInput,
    index: Any,
    me: int,
    tile: int,
    network: Network,
    state: State,
    grads: Any,
    chunk: int,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    x, weight = dense_tile(inputs, me, network, grad.rows), weight_of(network, 0, grads)
    first, last = inputs.bounds[chunk], inputs.bounds[chunk + 1]
    for panel in range(grad.columns // grad.width):
        gradient_of_panel(x, grad, panel, index.shape[0], weight, first, last, state, position, widths)


chunk_forward = chosen_by_input(_chunk_forward_sparse, _chunk_forward_dense)
finish_chunks = chosen_by_input(_finish_chunks_sparse, _finish_chunks_dense)
chunk_backward = chosen_by_input(_chunk_backward_sparse, _chunk_backward_dense)

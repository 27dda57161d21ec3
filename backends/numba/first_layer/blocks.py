"""The first layer, for rows that are kept as lists of their entries and for rows that are kept as they came.

Two kinds of input, one set of functions: the compiler chooses by the input's type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..compiler.compile import chosen_by_kind, inner_kernel
from ..compiler.lanes import like, load, store
from ..network.functions import activated
from ..network.layers import Matrix, Widths, forward_panel, gather_tile, gradient_of_bias, gradient_of_panel
from ..network.network import Network, weight_of
from ..network.optimizers import Position, State, settle
from .columns import columns_of, gradient_of_feature, list_columns
from .sparse import Sparse, products_of_block


class SparseInput(NamedTuple):
    """Rows as lists of their entries.

    Attributes:
        rows: of all samples.
        columns: lists by feature: room for those of each thread's tile, (threads, ...) arrays, or those of all tiles.
        bounds: the first feature of each chunk, then the number of features, (chunks + 1,).
    """

    rows: Sparse
    columns: Any
    bounds: Any


class DenseInput(NamedTuple):
    """Rows as they came, and room for a tile of them for each thread as numbers of the network's type.

    Attributes:
        images: (samples, features).
        scale: what they are multiplied by.
        x: in blocks of one register, (threads, tile rows * features with padding).
        bounds: the first feature of each chunk, whole registers of them, then the number of features, (chunks + 1,).
    """

    images: Any
    scale: float
    x: Any
    bounds: Any


def chosen_by_input(sparse: Callable[..., Any], dense: Callable[..., Any]) -> Callable[..., Any]:
    """Return one function that is `sparse` for a SparseInput and `dense` for a DenseInput."""
    return chosen_by_kind({SparseInput: sparse, DenseInput: dense})


@inner_kernel
def dense_tile(inputs: DenseInput, me: int, network: Network, rows: int) -> Matrix:
    """Return the tile of thread `me`, (rows, features)."""
    return Matrix(inputs.x[me], 0, rows, network.widths[0], network.inputs[0])


# `prepare` makes a tile, the samples `index`, (rows in use,), ready for the thread `me`. Every thread does it for
# itself: what one writes and all read would travel between the cores with every tile, which takes longer.


def _prepare_sparse(inputs: SparseInput, index: Any, me: int, network: Network, rows: int, widths: Widths) -> None:
    pass  # the entries are read where they are


def _prepare_dense(inputs: DenseInput, index: Any, me: int, network: Network, rows: int, widths: Widths) -> None:
    gather_tile(inputs.images, inputs.scale, index, dense_tile(inputs, me, network, rows), widths.lanes)


# `list_features` goes before a tile's `block_backward`.


def _list_features_sparse(inputs: SparseInput, index: Any, me: int, tile: int, rows: int) -> None:
    list_columns(columns_of(inputs.columns, me, tile), inputs.rows, index, rows)


def _list_features_dense(inputs: DenseInput, index: Any, me: int, tile: int, rows: int) -> None:
    pass


# `block_forward` writes one block of units of the first layer's output `y`, (rows, units).


@inner_kernel
def finish_block(
    network: Network, parameters: Any, block: int, y: Matrix, used: int, scale: float, widths: Widths
) -> None:
    """Turn the unscaled `x @ weight` of one block of units into the layer's output, for the rows in use."""
    bias = load(parameters, network.bias_at[0] + block * y.width, widths.block)
    at = y.at + block * y.rows * y.width
    for _ in range(used):
        z = load(y.buffer, at, widths.block)
        store(y.buffer, at, activated(z * like(z, scale) + bias, network.activations[0]))
        at += y.width


def _block_forward_sparse(
    inputs: SparseInput, index: Any, me: int, network: Network, parameters: Any, block: int, y: Matrix, widths: Widths
) -> None:
    products_of_block(inputs.rows, index, weight_of(network, 0, parameters), block, y, widths.block)
    finish_block(network, parameters, block, y, index.shape[0], inputs.rows.scale, widths)


def _block_forward_dense(
    inputs: DenseInput, index: Any, me: int, network: Network, parameters: Any, block: int, y: Matrix, widths: Widths
) -> None:
    x, weight = dense_tile(inputs, me, network, y.rows), weight_of(network, 0, parameters)
    code, bias_at = network.activations[0], network.bias_at[0]
    forward_panel(x, weight, parameters, bias_at, y, block, code, 0, index.shape[0], widths)


# `block_backward` settles the gradients of one block's weights and biases, out of that of its output, `grad`.


@inner_kernel
def settle_features(
    columns: Any,
    scale: float,
    block: int,
    first: int,
    last: int,
    network: Network,
    state: State,
    grads: Any,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    """Settle the gradients of one block's weights for features first to last, out of a tile's lists."""
    weight = weight_of(network, 0, grads)
    grad_at = grad.at + block * grad.rows * grad.width
    at = weight.at + (block * weight.rows + first) * weight.width
    for feature in range(first, last):
        g = gradient_of_feature(columns, feature, grad.rows, grad.buffer, grad_at, widths.block)
        settle(position, state, grads, at, g * like(g, scale), position.l2, widths.block)
        at += weight.width


def _block_backward_sparse(
    inputs: SparseInput,
    index: Any,
    me: int,
    tile: int,
    network: Network,
    state: State,
    grads: Any,
    block: int,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    columns, features = columns_of(inputs.columns, me, tile), network.inputs[0]
    settle_features(columns, inputs.rows.scale, block, 0, features, network, state, grads, grad, position, widths)
    gradient_of_bias(grad, block, index.shape[0], grads, network.bias_at[0], state, position, widths.block)


def _block_backward_dense(
    inputs: DenseInput,
    index: Any,
    me: int,
    tile: int,
    network: Network,
    state: State,
    grads: Any,
    block: int,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    x, used = dense_tile(inputs, me, network, grad.rows), index.shape[0]
    gradient_of_panel(x, grad, block, used, weight_of(network, 0, grads), 0, x.columns, state, position, widths)
    gradient_of_bias(grad, block, used, grads, network.bias_at[0], state, position, widths.block)


prepare = chosen_by_input(_prepare_sparse, _prepare_dense)
list_features = chosen_by_input(_list_features_sparse, _list_features_dense)
block_forward = chosen_by_input(_block_forward_sparse, _block_forward_dense)
block_backward = chosen_by_input(_block_backward_sparse, _block_backward_dense)

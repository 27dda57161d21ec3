"""The first layer, for rows that are kept as lists of their entries and for rows that are mostly not zero.

Two kinds of input, one set of functions: the compiler chooses by the input's type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba.extending import overload

from .numba_compile import OPTIONS, inner_kernel
from .numba_functions import activated
from .numba_lanes import Width, like, load, store
from .numba_layers import Matrix, Widths, forward_panel, gather_tile, gradient_of_panel
from .numba_network import Network, weight_of
from .numba_optimizers import Part, State, settle
from .numba_sparse import (
    Columns,
    Sparse,
    add_gradient_of_rows,
    gradient_of_feature,
    list_columns,
    products_of_block,
    products_of_rows,
)


class SparseInput(NamedTuple):
    """Rows as lists of their entries, and room for each thread's lists of a tile by feature, (threads, ...) arrays."""

    rows: Sparse
    columns: Columns


class DenseInput(NamedTuple):
    """Rows as they came, and room for tiles of them as numbers of the network's type.

    Attributes:
        images: (samples, features).
        scale: what they are multiplied by.
        x: tiles in blocks of one register, (tiles * tile rows * features with padding,).
    """

    images: Any
    scale: float
    x: Any


def chosen_by_input(sparse: Callable[..., Any], dense: Callable[..., Any]) -> Callable[..., Any]:
    """Return one function that is `sparse` for a SparseInput and `dense` for a DenseInput."""

    def function(inputs: Any, *args: Any) -> Any:
        return (sparse if isinstance(inputs, SparseInput) else dense)(inputs, *args)

    @overload(function, strict=False, jit_options=OPTIONS)
    def choose(inputs: Any, *args: Any) -> Any:  # noqa: ARG001
        return sparse if inputs.instance_class is SparseInput else dense

    return function


@inner_kernel
def dense_tile(inputs: DenseInput, number: int, network: Network, rows: int) -> Matrix:
    """Return where one of the tiles lies, (rows, features)."""
    features, width = network.inputs[0], network.widths[0]
    return Matrix(inputs.x, number * rows * features, rows, width, features)


@inner_kernel
def finish_block(network: Network, parameters: Any, block: int, y: Matrix, used: int, scale: float, width: Width) -> None:
    """Turn the unscaled products `x @ weight` of one block into the layer's output, for the rows in use."""
    bias = load(parameters, network.bias_at[0] + block * y.width, width)
    at = y.at + block * y.rows * y.width
    for _ in range(used):
        z = load(y.buffer, at, width)
        store(y.buffer, at, activated(z * like(z, scale) + bias, network.activations[0]))
        at += y.width


# `prepare` makes room number `number` hold the samples `index`, (rows in use,), rows start to stop of them.


def _prepare_sparse(
    inputs: SparseInput, index: Any, number: int, network: Network, rows: int, start: int, stop: int, lanes: Width
) -> None:
    pass  # the entries are read where they are


def _prepare_dense(
    inputs: DenseInput, index: Any, number: int, network: Network, rows: int, start: int, stop: int, lanes: Width
) -> None:
    gather_tile(inputs.images, inputs.scale, index, dense_tile(inputs, number, network, rows), start, stop, lanes)


# `list_features` does what the gradient of a tile needs. Every thread lists all of them for itself: lists that one
# writes and all read would travel between the cores with every tile, which takes longer than to write them.


def _list_features_sparse(inputs: SparseInput, index: Any, rows: int, me: int) -> None:
    columns = inputs.columns
    own = Columns(columns.count[me], columns.rows[me], columns.values[me])
    list_columns(inputs.rows, index, own, rows)


def _list_features_dense(inputs: DenseInput, index: Any, rows: int, me: int) -> None:
    pass


# `block_forward` writes one block of units of the first layer's output `y`, (rows, units).


def _block_forward_sparse(
    inputs: SparseInput, index: Any, number: int, network: Network, parameters: Any, block: int, y: Matrix, widths: Widths
) -> None:
    products_of_block(inputs.rows, index, weight_of(network, 0, parameters), block, y, widths.block)
    finish_block(network, parameters, block, y, index.shape[0], inputs.rows.scale, widths.block)


def _block_forward_dense(
    inputs: DenseInput, index: Any, number: int, network: Network, parameters: Any, block: int, y: Matrix, widths: Widths
) -> None:
    x, weight = dense_tile(inputs, number, network, y.rows), weight_of(network, 0, parameters)
    code, bias_at = network.activations[0], network.bias_at[0]
    forward_panel(x, weight, parameters, bias_at, y, block, code, 0, index.shape[0], widths)


# `block_backward` settles the gradient of one block of the first layer's weight, out of that of its output, `grad`.


def _block_backward_sparse(
    inputs: SparseInput,
    number: int,
    me: int,
    network: Network,
    state: State,
    grads: Any,
    block: int,
    grad: Matrix,
    used: int,
    part: Part,
    widths: Widths,
) -> None:
    weight, columns = weight_of(network, 0, grads), inputs.columns
    own = Columns(columns.count[me], columns.rows[me], columns.values[me])
    grad_at = grad.at + block * grad.rows * grad.width
    at = weight.at + block * weight.rows * weight.width
    for feature in range(weight.rows):
        g = gradient_of_feature(own, feature, grad.rows, grad.buffer, grad_at, widths.block)
        settle(part, state, grads, at, g * like(g, inputs.rows.scale), part.l2, widths.block)
        at += weight.width


def _block_backward_dense(
    inputs: DenseInput,
    number: int,
    me: int,
    network: Network,
    state: State,
    grads: Any,
    block: int,
    grad: Matrix,
    used: int,
    part: Part,
    widths: Widths,
) -> None:
    x = dense_tile(inputs, number, network, grad.rows)
    gradient_of_panel(x, grad, block, used, weight_of(network, 0, grads), 0, x.columns, state, part, widths)


# `rows_forward` and `rows_backward` are the same for a narrow layer, all of whose units are taken at once.


def _rows_forward_sparse(
    inputs: SparseInput, index: Any, number: int, network: Network, parameters: Any, y: Matrix, widths: Widths
) -> None:
    products_of_rows(inputs.rows, index, weight_of(network, 0, parameters), y, widths.block)
    finish_block(network, parameters, 0, y, index.shape[0], inputs.rows.scale, widths.block)


def _rows_forward_dense(
    inputs: DenseInput, index: Any, number: int, network: Network, parameters: Any, y: Matrix, widths: Widths
) -> None:
    for block in range(y.columns // y.width):
        _block_forward_dense_kernel(inputs, index, number, network, parameters, block, y, widths)


def _rows_backward_sparse(
    inputs: SparseInput,
    index: Any,
    number: int,
    network: Network,
    state: State,
    grads: Any,
    grad: Matrix,
    part: Part,
    widths: Widths,
) -> None:
    weight = weight_of(network, 0, grads)
    if part.is_first:
        grads[weight.at : weight.at + weight.rows * weight.width] = 0
    add_gradient_of_rows(inputs.rows, index, weight, grad, widths.block)


def _rows_backward_dense(
    inputs: DenseInput,
    index: Any,
    number: int,
    network: Network,
    state: State,
    grads: Any,
    grad: Matrix,
    part: Part,
    widths: Widths,
) -> None:
    for block in range(grad.columns // grad.width):
        _block_backward_dense_kernel(
            inputs, number, 0, network, state, grads, block, grad, index.shape[0], part, widths
        )


_block_forward_dense_kernel = inner_kernel(_block_forward_dense)
_block_backward_dense_kernel = inner_kernel(_block_backward_dense)

prepare = chosen_by_input(_prepare_sparse, _prepare_dense)
list_features = chosen_by_input(_list_features_sparse, _list_features_dense)
block_forward = chosen_by_input(_block_forward_sparse, _block_forward_dense)
block_backward = chosen_by_input(_block_backward_sparse, _block_backward_dense)
rows_forward = chosen_by_input(_rows_forward_sparse, _rows_forward_dense)
rows_backward = chosen_by_input(_rows_backward_sparse, _rows_backward_dense)

"""The first layer of a wide network: its parts are blocks of units, and a part's owner sees all features.

A unit's gradient is summed over all rows by one thread, which updates its weights and at once multiplies the next tile's
rows by them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .numba_compile import inner_kernel
from .numba_functions import activated
from .numba_lanes import like, load, store
from .numba_layers import Matrix, Widths, forward_panel, gather_tile, gradient_of_bias, gradient_of_panel
from .numba_network import Network, weight_of
from .numba_optimizers import Position, State, settle
from .numba_sparse import Columns, Sparse, gradient_of_feature, list_columns, products_of_block


class SparseUnits(NamedTuple):
    """Rows as lists of their entries, and room for each thread's lists of a tile by feature, (threads, ...) arrays."""

    rows: Sparse
    columns: Columns


class DenseUnits(NamedTuple):
    """Rows as they came, and room for two tiles of them as numbers of the network's type.

    Attributes:
        images: (samples, features).
        scale: what they are multiplied by.
        x: two tiles in blocks of one register, (2 * tile rows * features with padding,).
    """

    images: Any
    scale: float
    x: Any


@inner_kernel
def tile_at(inputs: Any, number: int, features: int, rows: int, width: int) -> Matrix:
    """Return where one of the two tiles of numbers lies, (rows, features)."""
    return Matrix(inputs.x, number * rows * features, rows, width, features)


def parts(inputs: Any, network: Network) -> int:
    """Return the number of blocks of units."""
    return network.units[0] // network.widths[0]


# Rows that are kept as lists of entries


def prepare_sparse(
    inputs: SparseUnits, index: Any, number: int, network: Network, rows: int, start: int, stop: int, widths: Widths
) -> None:
    """Nothing: the entries are read where they are."""


def list_features_sparse(inputs: SparseUnits, index: Any, rows: int, me: int) -> None:
    """List the tile by feature. Every thread does it for itself: lists that one writes and all read would travel
    between the cores with every tile, which takes longer than to write them.
    """
    columns = inputs.columns
    list_columns(inputs.rows, index, Columns(columns.count[me], columns.rows[me], columns.values[me]), rows)


def forward_sparse(
    inputs: SparseUnits, index: Any, number: int, network: Network, parameters: Any, part: int, y: Matrix, widths: Widths
) -> None:
    """Write one block of the first layer's output."""
    products_of_block(inputs.rows, index, weight_of(network, 0, parameters), part, y, widths.block)
    bias = load(parameters, network.bias_at[0] + part * y.width, widths.block)
    at = y.at + part * y.rows * y.width
    for _ in range(index.shape[0]):
        z = load(y.buffer, at, widths.block)
        store(y.buffer, at, activated(z * like(z, inputs.rows.scale) + bias, network.activations[0]))
        at += y.width


def backward_sparse(
    inputs: SparseUnits,
    index: Any,
    number: int,
    me: int,
    network: Network,
    state: State,
    grads: Any,
    part: int,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    """Settle the gradient of one block's weights and biases."""
    weight, columns = weight_of(network, 0, grads), inputs.columns
    own = Columns(columns.count[me], columns.rows[me], columns.values[me])
    grad_at = grad.at + part * grad.rows * grad.width
    at = weight.at + part * weight.rows * weight.width
    for feature in range(weight.rows):
        g = gradient_of_feature(own, feature, grad.rows, grad.buffer, grad_at, widths.block)
        settle(position, state, grads, at, g * like(g, inputs.rows.scale), position.l2, widths.block)
        at += weight.width
    gradient_of_bias(grad, part, index.shape[0], grads, network.bias_at[0], state, position, widths.block)


# Rows that are kept as they came


def prepare_dense(
    inputs: DenseUnits, index: Any, number: int, network: Network, rows: int, start: int, stop: int, widths: Widths
) -> None:
    """Gather rows start to stop of a tile."""
    x = tile_at(inputs, number, network.inputs[0], rows, network.widths[0])
    gather_tile(inputs.images, inputs.scale, index, x, start, stop, widths.lanes)


def list_features_dense(inputs: DenseUnits, index: Any, rows: int, me: int) -> None:
    """Nothing: all features are taken."""


def forward_dense(
    inputs: DenseUnits, index: Any, number: int, network: Network, parameters: Any, part: int, y: Matrix, widths: Widths
) -> None:
    """Write one block of the first layer's output."""
    x = tile_at(inputs, number, network.inputs[0], y.rows, y.width)
    weight, code = weight_of(network, 0, parameters), network.activations[0]
    forward_panel(x, weight, parameters, network.bias_at[0], y, part, code, 0, index.shape[0], widths)


def backward_dense(
    inputs: DenseUnits,
    index: Any,
    number: int,
    me: int,
    network: Network,
    state: State,
    grads: Any,
    part: int,
    grad: Matrix,
    position: Position,
    widths: Widths,
) -> None:
    """Settle the gradient of one block's weights and biases."""
    x = tile_at(inputs, number, network.inputs[0], grad.rows, grad.width)
    used, weight = index.shape[0], weight_of(network, 0, grads)
    gradient_of_panel(x, grad, part, used, weight, 0, x.columns, state, position, widths)
    gradient_of_bias(grad, part, used, grads, network.bias_at[0], state, position, widths.block)


def finish_rows(
    inputs: Any, network: Network, parameters: Any, y: Matrix, start: int, stop: int, widths: Widths
) -> None:
    """Nothing: each part of the output is complete."""

"""The first layer of a narrow network: its parts are chunks of features, and a part's owner sees all units.

All of a row's units fill a few registers. Each thread multiplies the rows by the weights of its features, which no other
thread ever touches; what travels between the cores is the sums of some rows and units. The chunks' sums are added up in
their order, whoever took them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .numba_compile import inner_kernel
from .numba_functions import activated
from .numba_lanes import TILE_ROWS, like, load, store, store_rows, zeros
from .numba_layers import (
    Matrix,
    Widths,
    gather_tile,
    gradient_of_bias,
    gradient_of_panel,
    place_of,
    tile_of_product,
)
from .numba_network import Network, weight_of
from .numba_optimizers import Position, State, take_step
from .numba_sparse import Sparse, add_gradient_of_chunk, products_of_chunk
from .numba_units import tile_at


class SparseFeatures(NamedTuple):
    """Rows as lists of their entries.

    Attributes:
        rows: of all samples.
        sums: room for a tile's `x @ weight` of each chunk, (chunks * tile rows * units,).
    """

    rows: Sparse
    sums: Any


class DenseFeatures(NamedTuple):
    """Rows as they came.

    Attributes:
        images: (samples, features).
        scale: what they are multiplied by.
        x: two tiles in blocks of one register, (2 * tile rows * features with padding,).
        sums: room for a tile's `x @ weight` of each chunk, (chunks * tile rows * units,).
        bounds: the first block of features of each chunk, then the number of blocks, (chunks + 1,).
    """

    images: Any
    scale: float
    x: Any
    sums: Any
    bounds: Any


@inner_kernel
def sums_of(sums: Any, part: int, y: Matrix) -> Matrix:
    """Return one chunk's part of the sums, like the output `y`, (rows, units)."""
    return Matrix(sums, part * y.rows * y.columns, y.rows, y.width, y.columns)


@inner_kernel
def add_up(
    sums: Any, chunks: int, scale: float, network: Network, parameters: Any, y: Matrix, start: int, stop: int, widths: Widths
) -> None:
    """Write the first layer's output for rows start to stop: the sums of all chunks, scale, bias and activation."""
    for block in range(y.columns // y.width):
        bias = load(parameters, network.bias_at[0] + block * y.width, widths.block)
        for row in range(start, stop):
            at = (block * y.rows + row) * y.width
            z = load(sums, at, widths.block)
            for _ in range(1, chunks):
                at += y.rows * y.columns
                z = z + load(sums, at, widths.block)
            z = activated(z * like(z, scale) + bias, network.activations[0])
            store(y.buffer, place_of(y, row, block * y.width), z)


# Rows that are kept as lists of entries


def parts_sparse(inputs: SparseFeatures, network: Network) -> int:
    """Return the number of chunks."""
    return inputs.rows.bounds.shape[0] - 1


def prepare_sparse(
    inputs: SparseFeatures, index: Any, number: int, network: Network, rows: int, start: int, stop: int, widths: Widths
) -> None:
    """Nothing: the entries are read where they are."""


def list_features(inputs: Any, index: Any, rows: int, me: int) -> None:
    """Nothing: a narrow gradient is summed row by row."""


def forward_sparse(
    inputs: SparseFeatures, index: Any, number: int, network: Network, parameters: Any, part: int, y: Matrix, widths: Widths
) -> None:
    """Write one chunk's sums."""
    weight = weight_of(network, 0, parameters)
    products_of_chunk(inputs.rows, index, part, weight, sums_of(inputs.sums, part, y), widths.block)


def finish_rows_sparse(
    inputs: SparseFeatures, network: Network, parameters: Any, y: Matrix, start: int, stop: int, widths: Widths
) -> None:
    """Add up the chunks' sums of some rows."""
    chunks = inputs.rows.bounds.shape[0] - 1
    add_up(inputs.sums, chunks, inputs.rows.scale, network, parameters, y, start, stop, widths)


def backward_sparse(
    inputs: SparseFeatures,
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
    """Settle the gradient of one chunk's weights; the first chunk's owner settles the biases."""
    weight = weight_of(network, 0, grads)
    start = weight.at + inputs.rows.bounds[part] * weight.width
    stop = weight.at + inputs.rows.bounds[part + 1] * weight.width
    if position.is_first:
        for at in range(start, stop, weight.width):
            store(grads, at, zeros(grads, widths.block))
    add_gradient_of_chunk(inputs.rows, index, part, weight, grad, widths.block)
    if position.is_last:
        for at in range(start, stop, weight.width):
            take_step(position.step, state, at, load(grads, at, widths.block), position.l2, widths.block)
    if part == 0:
        gradient_of_bias(grad, 0, index.shape[0], grads, network.bias_at[0], state, position, widths.block)


# Rows that are kept as they came


def parts_dense(inputs: DenseFeatures, network: Network) -> int:
    """Return the number of chunks."""
    return inputs.bounds.shape[0] - 1


def prepare_dense(
    inputs: DenseFeatures, index: Any, number: int, network: Network, rows: int, start: int, stop: int, widths: Widths
) -> None:
    """Gather rows start to stop of a tile."""
    x = tile_at(inputs, number, network.inputs[0], rows, network.widths[0])
    gather_tile(inputs.images, inputs.scale, index, x, start, stop, widths.lanes)


def forward_dense(
    inputs: DenseFeatures, index: Any, number: int, network: Network, parameters: Any, part: int, y: Matrix, widths: Widths
) -> None:
    """Write one chunk's sums."""
    x, weight = tile_at(inputs, number, network.inputs[0], y.rows, y.width), weight_of(network, 0, parameters)
    sums, first, last = sums_of(inputs.sums, part, y), inputs.bounds[part], inputs.bounds[part + 1]
    for panel in range(y.columns // y.width):
        for row in range(0, index.shape[0], TILE_ROWS):
            z = tile_of_product(x, row, weight, panel, first, last, zeros(parameters, widths.tile), widths.lanes)
            store_rows(sums.buffer, place_of(sums, row, panel * sums.width), sums.width, z, widths.lanes)


def finish_rows_dense(
    inputs: DenseFeatures, network: Network, parameters: Any, y: Matrix, start: int, stop: int, widths: Widths
) -> None:
    """Add up the chunks' sums of some rows."""
    add_up(inputs.sums, inputs.bounds.shape[0] - 1, 1.0, network, parameters, y, start, stop, widths)


def backward_dense(
    inputs: DenseFeatures,
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
    """Settle the gradient of one chunk's weights; the first chunk's owner settles the biases."""
    x, weight = tile_at(inputs, number, network.inputs[0], grad.rows, grad.width), weight_of(network, 0, grads)
    used, width = index.shape[0], grad.width
    first, last = inputs.bounds[part] * width, inputs.bounds[part + 1] * width
    for panel in range(grad.columns // width):
        gradient_of_panel(x, grad, panel, used, weight, first, last, state, position, widths)
        if part == 0:
            gradient_of_bias(grad, panel, used, grads, network.bias_at[0], state, position, widths.block)

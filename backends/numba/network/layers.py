"""The matrix products of a layer, forward and backward, with what follows on each in the same registers.

Matrices lie in blocks of columns. A matrix of (rows, units) with blocks of `width` units is an array of
(units / width, rows, width): a block's rows follow each other without a gap, so that a block fills the first-level
cache evenly and a row of it is a few registers. Weights (in_features, out_features) lie alike.

Each product is made of tiles of 8 rows by one register: the tile stays in registers while its sum over the inner index
is taken, one product of a column and a row at a time. Each number's sum is taken in one order, by whatever thread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compiler.compile import inner_kernel
from ..compiler.lane_types import TILE_ROWS, Width, lanes_of
from ..compiler.lanes import item, like, load, load_numbers, prefetch, put, store, zeros
from ..compiler.tiles import add_outer, load_rows, repeated, store_rows
from .functions import activated, activated_backward
from .optimizers import Position, State, settle

# Blocks of a tile lie far apart, and another core may have written them: they are asked for so many blocks ahead, a
# cache line of numbers at a time.
BLOCKS_AHEAD, LINE_NUMBERS = 2, 16


class Widths(NamedTuple):
    """The widths that kernels are compiled for.

    Attributes:
        lanes: one register.
        tile: 8 registers.
        block: units of a block of the first layer.
    """

    lanes: Width
    tile: Width
    block: Width


def widths_of(dtype: Any, block: int) -> Widths:
    """Return the widths for a floating type and the first layer's blocks."""
    return Widths(Width(lanes_of(dtype)), Width(lanes_of(dtype) * TILE_ROWS), Width(block))


class Matrix(NamedTuple):
    """A matrix in blocks of columns, somewhere in a buffer.

    Attributes:
        buffer: what it lies in.
        at: where it begins.
        rows: rows of each block; not all of them need be in use.
        width: columns of a block.
        columns: how many there are, whole blocks of them.
    """

    buffer: Any
    at: int
    rows: int
    width: int
    columns: int


@inner_kernel
def place_of(matrix: Matrix, row: int, column: int) -> int:
    """Return where in the buffer an element of the matrix is."""
    if column < matrix.width:  # most are in the first block, and a division takes long
        return matrix.at + row * matrix.width + column
    block = column // matrix.width
    return matrix.at + (block * matrix.rows + row) * matrix.width + (column - block * matrix.width)


@inner_kernel
def tile_of_product(
    x: Matrix, row: int, weight: Matrix, panel: int, first: int, last: int, tile: Any, lanes: Width
) -> Any:
    """Return `tile + x[row : row + 8] @ weight[:, panel]`, (8 * lanes,), over blocks first to last of `x`, in order."""
    at = weight.at + (panel * weight.rows + first * x.width) * weight.width
    for block in range(first, last):
        x_at = x.at + (block * x.rows + row) * x.width
        for i in range(0, TILE_ROWS * x.width, LINE_NUMBERS):
            prefetch(x.buffer, x_at + BLOCKS_AHEAD * x.rows * x.width + i)
        for i in range(x.width):
            tile = add_outer(tile, x.buffer, x_at + i, x.width, load(weight.buffer, at, lanes))
            at += weight.width
    return tile


@inner_kernel
def forward_panel(
    x: Matrix,
    weight: Matrix,
    bias: Any,
    bias_at: int,
    y: Matrix,
    panel: int,
    code: int,
    start: int,
    stop: int,
    widths: Widths,
) -> None:
    """Write `activation(x @ weight + bias)` of one register's units, for rows start to stop, in eights."""
    zero = zeros(bias, widths.tile)
    shift = repeated(load(bias, bias_at + panel * y.width, widths.lanes), zero)  # (8 * lanes,)
    for row in range(start, stop, TILE_ROWS):
        z = tile_of_product(x, row, weight, panel, 0, x.columns // x.width, shift, widths.lanes)
        store_rows(y.buffer, place_of(y, row, panel * y.width), y.width, activated(z, code), widths.lanes)


@inner_kernel
def forward(
    x: Matrix, weight: Matrix, bias: Any, bias_at: int, y: Matrix, code: int, start: int, stop: int, widths: Widths
) -> None:
    """Write `activation(x @ weight + bias)`, rows start to stop, in eights: x (rows, n), weight (n, m), y (rows, m)."""
    for panel in range(y.columns // y.width):
        forward_panel(x, weight, bias, bias_at, y, panel, code, start, stop, widths)


@inner_kernel
def products_of_panel(
    x: Matrix, weight: Matrix, panel: int, first: int, last: int, y: Matrix, used: int, widths: Widths
) -> None:
    """Write `x @ weight` of one register's units over the blocks first to last of `x`, for the rows in use."""
    zero = zeros(x.buffer, widths.tile)
    for row in range(0, used, TILE_ROWS):
        z = tile_of_product(x, row, weight, panel, first, last, zero, widths.lanes)
        store_rows(y.buffer, place_of(y, row, panel * y.width), y.width, z, widths.lanes)


@inner_kernel
def backward_panel(
    grad_y: Matrix,
    transposed: Matrix,
    panel: int,
    x: Matrix,
    grad_x: Matrix,
    code: int,
    start: int,
    stop: int,
    widths: Widths,
) -> None:
    """Write the gradient of the layer before: `(grad_y @ weight.T) * activation'`, one register's units of it.

    Args:
        grad_y: gradient with respect to this layer's `z = x @ weight + bias`, (rows, m).
        transposed: the weight's transpose, (m, n).
        panel: which of its columns.
        x: what the layer before gave out, (rows, n).
        grad_x: result, with respect to what went into its activation, (rows, n).
        code: the activation of the layer before.
        start: first row, in eights.
        stop: the row after the last.
        widths: of the kernels.
    """
    zero, blocks = zeros(x.buffer, widths.tile), grad_y.columns // grad_y.width
    column = panel * transposed.width
    for row in range(start, stop, TILE_ROWS):
        grad = tile_of_product(grad_y, row, transposed, panel, 0, blocks, zero, widths.lanes)
        y = load_rows(x.buffer, place_of(x, row, column), x.width, zero, widths.lanes)
        at = place_of(grad_x, row, column)
        store_rows(grad_x.buffer, at, grad_x.width, activated_backward(grad, y, code), widths.lanes)


@inner_kernel
def tile_of_gradient(x: Matrix, column: int, grad: Matrix, panel: int, rows: int, tile: Any, lanes: Width) -> Any:
    """Return `tile + x[:, column : column + 8].T @ grad[:, panel]`, (8 * lanes,): rows from 0 to the last."""
    x_at = place_of(x, 0, column)
    at = grad.at + panel * grad.rows * grad.width
    for _ in range(rows):
        tile = add_outer(tile, x.buffer, x_at, 1, load(grad.buffer, at, lanes))
        x_at += x.width
        at += grad.width
    return tile


@inner_kernel
def gradient_of_panel(
    x: Matrix,
    grad: Matrix,
    panel: int,
    used: int,
    weight: Matrix,
    start: int,
    stop: int,
    state: State,
    position: Position,
    widths: Widths,
) -> None:
    """Settle the gradient `x.T @ grad` of one register's units and the inputs start to stop, in eights.

    Args:
        x: the layer's input, (rows, n).
        grad: gradient with respect to `z = x @ weight + bias`, (rows, m).
        panel: which units.
        used: rows in use.
        weight: where the gradient has its place among those of the batch so far, (n, m).
        start: first input.
        stop: the input after the last.
        state: parameters and slots.
        position: where in its batch the tile stands.
        widths: of the kernels.
    """
    zero = zeros(x.buffer, widths.tile)
    for column in range(start, stop, TILE_ROWS):
        g = tile_of_gradient(x, column, grad, panel, used, zero, widths.lanes)
        at = weight.at + (panel * weight.rows + column) * weight.width
        settle(position, state, weight.buffer, at, g, position.l2, widths.tile)


@inner_kernel
def gradient_of_bias(
    grad: Matrix, block: int, used: int, grads: Any, bias_at: int, state: State, position: Position, width: Width
) -> None:
    """Settle the gradient of one block's biases, the sum over the rows in use."""
    at = grad.at + block * grad.rows * grad.width
    g = zeros(grad.buffer, width)
    for _ in range(used):
        g = g + load(grad.buffer, at, width)
        at += grad.width
    settle(position, state, grads, bias_at + block * grad.width, g, 0.0, width)


@inner_kernel
def gather_tile(images: Any, scale: float, index: Any, x: Matrix, lanes: Width) -> None:
    """Write `scale` times the samples `index`, (rows in use,), into a tile, (rows, features)."""
    features = images.shape[1]
    pattern = zeros(x.buffer, lanes)
    for row in range(index.shape[0]):
        image_at = item(index, row) * features
        for column in range(0, features, x.width):
            at = x.at + column * x.rows + row * x.width
            if column + x.width <= features:
                store(x.buffer, at, load_numbers(images, image_at + column, pattern) * like(pattern, scale))
            else:
                for i in range(features - column):
                    number = x.buffer.dtype.type(item(images, image_at + column + i))
                    put(x.buffer, at + i, number * x.buffer.dtype.type(scale))

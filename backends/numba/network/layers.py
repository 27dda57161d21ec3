"""Matrix products of a layer, forward and backward, with what follows on each in the same registers.

Matrices lie in blocks of columns. A matrix of (rows, units) with blocks of `width` units is an array of
(units / width, rows, width): a block's rows follow each other without a gap, so that a block fills the first-level
cache evenly and a row of it is a few registers. Weights (in_features, out_features) lie alike.

Each product is made of microtiles of 8 rows by one register, which stay in registers while their sums over the inner
index are taken, one product of a column and a row at a time. Each number's sum is taken in one order, by any thread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compiler.compile import inner_kernel
from ..compiler.lane_types import MICROTILE_ROWS, Width
from ..compiler.lanes import item, like, load, load_numbers, prefetch, put, store, zeros
from ..compiler.microtiles import add_outer, load_rows, repeated, store_rows
from .functions import activated, activated_backward
from .optimizers import Update, accumulate_or_step

# Blocks of a tile lie far apart, and another core may have written them: they are asked for so many blocks ahead, a
# cache line of numbers at a time.
BLOCKS_AHEAD, LINE_NUMBERS = 2, 16


class Widths(NamedTuple):
    """Numbers of lanes that kernels are compiled for.

    Attributes:
        lanes: one register.
        microtile: 8 registers.
        block: units of a block of the first layer.
    """

    lanes: Width
    microtile: Width
    block: Width


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


class LayerParameters(NamedTuple):
    """Parameters of a layer, in one buffer.

    Attributes:
        weight: (inputs, units).
        bias_at: where the bias begins in the weight's buffer.
        activation: what the kernels call the activation.
    """

    weight: Matrix
    bias_at: int
    activation: int


class Hidden(NamedTuple):
    """A layer whose units feed another.

    Attributes:
        output: its output, (rows, units).
        grad: gradient with respect to what goes into its activation, alike.
        activation: what the kernels call the activation.
    """

    output: Matrix
    grad: Matrix
    activation: int


@inner_kernel
def place_of(matrix: Matrix, row: int, column: int) -> int:
    """Return where in the buffer an element of the matrix is."""
    if column < matrix.width:  # most are in the first block, and a division takes long
        return matrix.at + row * matrix.width + column
    block = column // matrix.width
    return matrix.at + (block * matrix.rows + row) * matrix.width + (column - block * matrix.width)


@inner_kernel
def following(matrix: Matrix, k: int) -> Matrix:
    """Return number `k` of matrices of one shape that follow each other in a buffer, of which `matrix` is number 0."""
    at = matrix.at + k * matrix.rows * matrix.columns
    return Matrix(matrix.buffer, at, matrix.rows, matrix.width, matrix.columns)


@inner_kernel
def product_of_rows(
    x: Matrix, row: int, weight: Matrix, panel: int, first: int, last: int, sums: Any, lanes: Width
) -> Any:
    """Return the microtile `sums + x[row : row + 8] @ weight[:, panel]` over blocks first to last of `x`, in order."""
    at = weight.at + (panel * weight.rows + first * x.width) * weight.width
    for block in range(first, last):
        x_at = x.at + (block * x.rows + row) * x.width
        for i in range(0, MICROTILE_ROWS * x.width, LINE_NUMBERS):
            prefetch(x.buffer, x_at + BLOCKS_AHEAD * x.rows * x.width + i)
        for i in range(x.width):
            sums = add_outer(sums, x.buffer, x_at + i, x.width, load(weight.buffer, at, lanes))
            at += weight.width
    return sums


@inner_kernel
def forward_panel(
    x: Matrix, layer: LayerParameters, panel: int, y: Matrix, start: int, stop: int, widths: Widths
) -> None:
    """Write `activation(x @ weight + bias)` of one panel of units, for rows start to stop, in eights."""
    weight, zero = layer.weight, zeros(layer.weight.buffer, widths.microtile)
    bias = load(weight.buffer, layer.bias_at + panel * y.width, widths.lanes)
    for row in range(start, stop, MICROTILE_ROWS):
        z = product_of_rows(x, row, weight, panel, 0, x.columns // x.width, repeated(bias, zero), widths.lanes)
        y_at = place_of(y, row, panel * y.width)
        store_rows(y.buffer, y_at, y.width, activated(z, layer.activation), widths.lanes)


@inner_kernel
def products_of_panel(
    x: Matrix, weight: Matrix, panel: int, first: int, last: int, y: Matrix, used: int, widths: Widths
) -> None:
    """Write `x @ weight` of one panel of units over the blocks first to last of `x`, for the rows in use."""
    zero = zeros(x.buffer, widths.microtile)
    for row in range(0, used, MICROTILE_ROWS):
        z = product_of_rows(x, row, weight, panel, first, last, zero, widths.lanes)
        store_rows(y.buffer, place_of(y, row, panel * y.width), y.width, z, widths.lanes)


@inner_kernel
def backward_panel(
    grad_y: Matrix, transposed: Matrix, panel: int, below: Hidden, start: int, stop: int, widths: Widths
) -> None:
    """Write the gradient of one panel of units of the layer below: `(grad_y @ weight.T) * activation'`.

    Args:
        grad_y: gradient with respect to this layer's `z = x @ weight + bias`, (rows, m).
        transposed: the weight's transpose, (m, n).
        panel: which of its columns.
        below: the layer whose n units feed this one.
        start: first row, in eights.
        stop: the row after the last.
        widths: of the kernels.
    """
    x, grad_x = below.output, below.grad
    zero, blocks = zeros(x.buffer, widths.microtile), grad_y.columns // grad_y.width
    column = panel * transposed.width
    for row in range(start, stop, MICROTILE_ROWS):
        grad = product_of_rows(grad_y, row, transposed, panel, 0, blocks, zero, widths.lanes)
        y = load_rows(x.buffer, place_of(x, row, column), x.width, zero, widths.lanes)
        grad = activated_backward(grad, y, below.activation)
        store_rows(grad_x.buffer, place_of(grad_x, row, column), grad_x.width, grad, widths.lanes)


@inner_kernel
def gradient_of_panel(
    x: Matrix, grad: Matrix, panel: int, weight: Matrix, start: int, stop: int, update: Update, widths: Widths
) -> None:
    """Accumulate, or step with, the gradient `x.T @ grad` of one panel of units and inputs start to stop, in eights.

    Args:
        x: the layer's input, (rows, n).
        grad: gradient with respect to `z = x @ weight + bias`, (rows, m).
        panel: which units.
        weight: where the gradient has its place among those of the batch so far, (n, m).
        start: first input.
        stop: the input after the last.
        update: what becomes of the gradient.
        widths: of the kernels.
    """
    for column in range(start, stop, MICROTILE_ROWS):
        x_at, grad_at = place_of(x, 0, column), grad.at + panel * grad.rows * grad.width
        g = zeros(x.buffer, widths.microtile)
        for _ in range(update.rows):
            g = add_outer(g, x.buffer, x_at, 1, load(grad.buffer, grad_at, widths.lanes))
            x_at += x.width
            grad_at += grad.width
        at = weight.at + (panel * weight.rows + column) * weight.width
        accumulate_or_step(update, at, g, update.l2, widths.microtile)


@inner_kernel
def gradient_of_bias(grad: Matrix, block: int, bias_at: int, update: Update, width: Width) -> None:
    """Accumulate, or step with, the gradient of one block's biases, the sum over the rows in use."""
    at = grad.at + block * grad.rows * grad.width
    g = zeros(grad.buffer, width)
    for _ in range(update.rows):
        g = g + load(grad.buffer, at, width)
        at += grad.width
    accumulate_or_step(update, bias_at + block * grad.width, g, 0.0, width)


@inner_kernel
def gather_rows(images: Any, scale: float, index: Any, x: Matrix, lanes: Width) -> None:
    """Write `scale` times the samples `index`, (rows in use,), into a matrix, (rows, features)."""
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

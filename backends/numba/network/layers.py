"""Matrix products of a layer, forward and backward, with what follows on each in the same registers.

Each product is made of microtiles of 8 rows by one register, which stay in registers while their sums over the inner
index are taken, one product of a column and a row at a time. Each number's sum is taken in one order, by any thread.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import chosen_by_kind, inner_kernel
from ..compiler.lane_types import MICROTILE_ROWS, Width
from ..compiler.lanes import count_of, item, like, load, load_numbers, prefetch, put, store, zeros
from ..compiler.microtiles import add_outer, load_rows, repeated, store_rows
from ..compiler.philox import chosen_by_bits
from .functions import activated, activated_backward
from .masks import AnyMasks, Masks, NoMasks, before_dropout
from .network import Matrix, Network, Widths, Work, output_of, place_of, transposed_of, weight_of
from .optimizers import Update, accumulate_or_step

# Blocks of a tile lie far apart, and another core may have written them: they are asked for so many blocks ahead, a
# cache line of numbers at a time.
BLOCKS_AHEAD, LINE_NUMBERS = 2, 16


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
    network: Network, k: int, parameters: Any, x: Matrix, y: Matrix, panel: int, start: int, stop: int
) -> None:
    """Write layer k's `activation(x @ weight + bias)`, one panel of its units, for rows start to stop, in eights."""
    weight, widths = weight_of(network, k, parameters), network.compiled
    bias = load(parameters, network.bias_at[k] + panel * y.width, widths.lanes)
    shift = repeated(bias, zeros(parameters, widths.microtile))
    for row in range(start, stop, MICROTILE_ROWS):
        z = product_of_rows(x, row, weight, panel, 0, x.columns // x.width, shift, widths.lanes)
        y_at = place_of(y, row, panel * y.width)
        store_rows(y.buffer, y_at, y.width, activated(z, network.activations[k]), widths.lanes)


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
def backward_panel(network: Network, k: int, work: Work, panel: int, start: int, stop: int) -> None:
    """Write `(grad @ weight.T) * activation'` of layer k, the gradient of one panel of units of the layer below.

    The rows start to stop, in eights, of the gradients and outputs of both are in `work`, and the weight's transpose.
    """
    grad, x = output_of(network, k, work.grads, work.rows), output_of(network, k - 1, work.outputs, work.rows)
    grad_x, lanes = output_of(network, k - 1, work.grads, work.rows), network.compiled.lanes
    transposed = transposed_of(network, k, work.transposed, grad.width)
    zero, blocks, column = zeros(x.buffer, network.compiled.microtile), grad.columns // grad.width, panel * grad.width
    for row in range(start, stop, MICROTILE_ROWS):
        g = product_of_rows(grad, row, transposed, panel, 0, blocks, zero, lanes)
        y = load_rows(x.buffer, place_of(x, row, column), x.width, zero, lanes)
        g = activated_backward(g, before_dropout(work.masks, y), network.activations[k - 1])
        store_rows(grad_x.buffer, place_of(grad_x, row, column), grad_x.width, g, lanes)
    drop(work.masks, k - 1, grad_x, column, column + grad.width, start, stop, lanes)


@inner_kernel
def gradient_of_panel(
    network: Network, k: int, x: Matrix, grad: Matrix, panel: int, start: int, stop: int, update: Update
) -> None:
    """Accumulate, or step with, layer k's `x.T @ grad` of one panel of units and the inputs start to stop, in eights.

    `x` is the layer's input, (rows, inputs), and `grad` the gradient of its activation's input, (rows, units).
    """
    weight, widths = weight_of(network, k, update.state.grads), network.compiled
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


def _drop(masks: Masks, k: int, y: Matrix, first_unit: int, end_unit: int, start: int, stop: int, lanes: Width) -> None:
    units = masks.units[k]
    factor = like(zeros(y.buffer, lanes), masks.factor)
    first_bit = 8 * masks.first_bytes[k] + masks.row * units % 8
    for unit in range(first_unit, end_unit, count_of(factor)):
        at, bit = place_of(y, start, unit), first_bit + start * units + unit
        for _ in range(start, stop):
            # A product, since a NaN must stay NaN where it is dropped.
            store(y.buffer, at, load(y.buffer, at, lanes) * chosen_by_bits(masks.bits, bit, factor))
            at += y.width
            bit += units


@chosen_by_kind({NoMasks: lambda *args: None, Masks: _drop})
def drop(
    masks: AnyMasks, k: int, y: Matrix, first_unit: int, end_unit: int, start: int, stop: int, lanes: Width
) -> None:
    """Multiply hidden layer k's output or its gradient, (rows, units), by the masks that were drawn.

    Args:
        masks: of the tile.
        k: the layer.
        y: the output or the gradient.
        first_unit: the first of the units, whole registers.
        end_unit: one past the last of them.
        start: the first row.
        stop: one past the last row.
        lanes: one register.
    """

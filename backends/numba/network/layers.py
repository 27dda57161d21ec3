"""Matrix products of a layer, forward and backward, with what follows on each in the same registers.

Each product is made of microtiles, which stay in registers while their sums over the inner index are taken, one product
of a column and a row at a time: of two panels, and of one for what is left over. Each number's sum is taken in one
order, by any microtile and any thread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compiler.compile import chosen_by_kind, inner_kernel
from ..compiler.lane_types import Shape, Width
from ..compiler.lanes import count_of, count_of_lanes, item, like, load, load_numbers, prefetch, put, store, zeros
from ..compiler.microtiles import (
    add_outer,
    filled,
    in_memory,
    load_rows,
    panels_in,
    part_of,
    rows_in,
    store_rows,
    zero_sums,
)
from ..compiler.philox import chosen_by_bits
from .functions import activated, activated_backward
from .masks import AnyMasks, Masks, NoMasks, before_dropout
from .network import Matrix, Network, Widths, Work, output_of, place_of, transposed_of, weight_of
from .optimizers import Update, accumulate_or_step

# Blocks of a tile lie far apart, and another core may have written them: they are asked for so many blocks ahead, a
# cache line of numbers at a time.
BLOCKS_AHEAD, LINE_NUMBERS = 2, 16


class Area(NamedTuple):
    """Some rows and panels of a layer's output, or of its weight.

    Attributes:
        layer: number of the layer.
        start: the first row.
        stop: one past the last row; those up to the next multiple of eight may be written, too.
        first: the first panel.
        end: one past the last panel.
    """

    layer: int
    start: int
    stop: int
    first: int
    end: int


@inner_kernel
def rest_of(area: Area, shape: Shape) -> Area:
    """Return the panels that microtiles of `shape`, from the first panel on, leave over."""
    first = area.end - (area.end - area.first) % panels_in(shape)
    return Area(area.layer, area.start, area.stop, first, area.end)


@inner_kernel
def product_of_rows(x: Matrix, row: int, weight: Matrix, panel: int, first: int, last: int, sums: Any) -> Any:
    """Return the microtile `sums + x[row:] @ weight[:, panel:]` over blocks first to last of `x`, in order."""
    at = weight.at + (panel * weight.rows + first * x.width) * weight.width
    for block in range(first, last):
        x_at = x.at + (block * x.rows + row) * x.width
        for i in range(0, rows_in(sums) * x.width, LINE_NUMBERS):
            prefetch(x.buffer, x_at + BLOCKS_AHEAD * x.rows * x.width + i)
        for i in range(x.width):
            sums = add_outer(sums, x.buffer, x_at + i, x.width, weight.buffer, at, weight.rows * weight.width)
            at += weight.width
    return sums


@inner_kernel
def parts_in(shape: Shape, widths: Widths) -> int:
    """Return how many parts a microtile has."""
    return rows_in(shape) * panels_in(shape) // rows_in(widths.wide)


@inner_kernel
def offset_of_part(matrix: Matrix, i: int, shape: Shape, widths: Widths) -> int:
    """Return how far behind its beginning part `i` of a microtile lies in a matrix.

    A block of the matrix has one panel, or whole microtiles of them.
    """
    rows, lanes = i * rows_in(widths.wide), count_of_lanes(widths.lanes)
    to_next_panel = lanes if matrix.width > lanes else matrix.rows * lanes
    return rows // rows_in(shape) * to_next_panel + rows % rows_in(shape) * matrix.width


@inner_kernel
def forward_panels(network: Network, parameters: Any, x: Matrix, y: Matrix, area: Area) -> None:
    """Write a layer's `activation(x @ weight + bias)` for an area of its output `y`."""
    wide, tall = network.compiled.wide, network.compiled.tall
    _forward_panels(network, parameters, x, y, area, wide)
    _forward_panels(network, parameters, x, y, rest_of(area, wide), tall)


@inner_kernel
def _forward_panels(network: Network, parameters: Any, x: Matrix, y: Matrix, area: Area, shape: Shape) -> None:
    weight, widths = weight_of(network, area.layer, parameters), network.compiled
    bias_at, code = network.bias_at[area.layer], network.activations[area.layer]
    for panel in range(area.first, area.end - panels_in(shape) + 1, panels_in(shape)):
        bias, y_at = filled(parameters, bias_at + panel * y.width, y.width, shape), place_of(y, 0, panel * y.width)
        for row in range(area.start, area.stop, rows_in(shape)):
            z = in_memory(product_of_rows(x, row, weight, panel, 0, x.columns // x.width, bias))
            for i in range(parts_in(shape, widths)):
                at = y_at + row * y.width + offset_of_part(y, i, shape, widths)
                store_rows(y.buffer, at, y.width, activated(part_of(z, i, widths.part), code), widths.lanes)


@inner_kernel
def products_of_blocks(x: Matrix, weight: Matrix, first: int, last: int, y: Matrix, used: int, widths: Widths) -> None:
    """Write `x @ weight` of all units over the blocks first to last of `x`, for the rows in use."""
    area = Area(0, 0, used, 0, y.columns // y.width)
    _products_of_blocks(x, weight, first, last, y, area, widths, widths.wide)
    _products_of_blocks(x, weight, first, last, y, rest_of(area, widths.wide), widths, widths.tall)


@inner_kernel
def _products_of_blocks(
    x: Matrix, weight: Matrix, first: int, last: int, y: Matrix, area: Area, widths: Widths, shape: Shape
) -> None:
    zero = zero_sums(x.buffer, shape)
    for panel in range(area.first, area.end - panels_in(shape) + 1, panels_in(shape)):
        y_at = place_of(y, 0, panel * y.width)
        for row in range(area.start, area.stop, rows_in(shape)):
            z = in_memory(product_of_rows(x, row, weight, panel, first, last, zero))
            for i in range(parts_in(shape, widths)):
                at = y_at + row * y.width + offset_of_part(y, i, shape, widths)
                store_rows(y.buffer, at, y.width, part_of(z, i, widths.part), widths.lanes)


@inner_kernel
def backward_panels(network: Network, work: Work, area: Area) -> None:
    """Write `(grad @ weight.T) * activation'` of the layer above, the gradient of an area of a layer's output.

    The gradients and outputs of both layers are in `work`, and the weight's transpose.
    """
    grad_x, width = output_of(network, area.layer, work.grads, work.rows), count_of_lanes(network.compiled.lanes)
    _backward_panels(network, work, area, network.compiled.wide)
    _backward_panels(network, work, rest_of(area, network.compiled.wide), network.compiled.tall)
    drop(
        work.masks, area.layer, grad_x, area.first * width, area.end * width, area.start, area.stop,
        network.compiled.lanes,
    )  # fmt: skip


@inner_kernel
def _backward_panels(network: Network, work: Work, area: Area, shape: Shape) -> None:
    k, widths, code = area.layer, network.compiled, network.activations[area.layer]
    x, grad_x = output_of(network, k, work.outputs, work.rows), output_of(network, k, work.grads, work.rows)
    grad = output_of(network, k + 1, work.grads, work.rows)
    transposed = transposed_of(network, k + 1, work.transposed, grad.width)
    zero, pattern, blocks = zero_sums(x.buffer, shape), zeros(x.buffer, widths.part), grad.columns // grad.width
    for panel in range(area.first, area.end - panels_in(shape) + 1, panels_in(shape)):
        x_at = place_of(x, 0, panel * grad.width)
        for row in range(area.start, area.stop, rows_in(shape)):
            g = in_memory(product_of_rows(grad, row, transposed, panel, 0, blocks, zero))
            for i in range(parts_in(shape, widths)):
                at = x_at + row * x.width + offset_of_part(x, i, shape, widths)
                y = before_dropout(work.masks, load_rows(x.buffer, at, x.width, pattern, widths.lanes))
                part = activated_backward(part_of(g, i, widths.part), y, code)
                store_rows(grad_x.buffer, at - x.at + grad_x.at, grad_x.width, part, widths.lanes)


@inner_kernel
def gradient_of_panels(network: Network, x: Matrix, grad: Matrix, area: Area, update: Update) -> None:
    """Accumulate, or step with, a layer's `x.T @ grad` of an area of its weight.

    `x` is the layer's input, (rows, inputs), and `grad` the gradient of its activation's input, (rows, units).
    """
    wide, tall = network.compiled.wide, network.compiled.tall
    _gradient_of_panels(network, x, grad, area, update, wide)
    _gradient_of_panels(network, x, grad, rest_of(area, wide), update, tall)


@inner_kernel
def _gradient_of_panels(network: Network, x: Matrix, grad: Matrix, area: Area, update: Update, shape: Shape) -> None:
    weight, widths = weight_of(network, area.layer, update.state.grads), network.compiled
    zero = zero_sums(x.buffer, shape)
    for panel in range(area.first, area.end - panels_in(shape) + 1, panels_in(shape)):
        for column in range(area.start, area.stop, rows_in(shape)):
            x_at, grad_at, g = place_of(x, 0, column), grad.at + panel * grad.rows * grad.width, zero
            for _ in range(update.rows):
                g = add_outer(g, x.buffer, x_at, 1, grad.buffer, grad_at, grad.rows * grad.width)
                x_at += x.width
                grad_at += grad.width
            sums, weight_at = in_memory(g), weight.at + (panel * weight.rows + column) * weight.width
            for i in range(parts_in(shape, widths)):
                at = weight_at + offset_of_part(weight, i, shape, widths)
                accumulate_or_step(update, at, part_of(sums, i, widths.part), update.l2, widths.part)


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

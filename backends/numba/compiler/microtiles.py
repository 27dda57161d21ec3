"""Microtiles: some rows of a matrix by some panels, whose sums stay in registers while a product is taken.

What follows on a product goes by parts of a microtile: a few rows of one panel, in a single vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from .lane_types import (
    INT32,
    LanesType,
    MicrotileInMemoryType,
    MicrotileType,
    Shape,
    call_intrinsic,
    compiled_as,
    element_address,
    shuffled,
)
from .lanes import load, store


def rows_in(shape: Any) -> int:
    """Return the rows of a shape, or of a microtile."""
    return int(shape.rows if isinstance(shape, Shape) else shape.shape[1])


@compiled_as(rows_in, lambda shape: types.intp)
def _rows_in(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.get_constant(types.intp, sig.args[0].rows)


def panels_in(shape: Any) -> int:
    """Return the panels of a shape."""
    return int(shape.panels)


@compiled_as(panels_in, lambda shape: types.intp)
def _panels_in(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.get_constant(types.intp, sig.args[0].panels)


def _panels_at(context: Any, builder: Any, kinds: Any, args: Any, shape: Any) -> list[Any]:
    """Load the lanes of each panel from an array: the first at a position, each next one a stride later.

    Args:
        context: Numba's target context.
        builder: LLVM's builder of instructions.
        kinds: types of the array, the position and the stride.
        args: their values.
        shape: type of the shape.
    """
    pointer, stride = (
        element_address(context, builder, kinds, args),
        context.cast(builder, args[2], kinds[2], types.intp),
    )
    vector, panels = ir.VectorType(context.get_data_type(kinds[0].dtype), shape.lanes), []
    for _ in range(shape.panels):
        panels.append(builder.load(builder.bitcast(pointer, vector.as_pointer())))
        panels[-1].align = kinds[0].dtype.bitwidth // 8
        pointer = builder.gep(pointer, [stride])
    return panels


def filled(array: Any, at: int, stride: int, shape: Any) -> Any:
    """Return a microtile of equal rows: the lanes of its panels in an array, at `at` and every `stride` from there."""
    panels = [load(array, at + panel * stride, shape.lanes) for panel in range(shape.panels)]
    return np.stack([np.tile(lanes, (shape.rows, 1)) for lanes in panels])  # (panels, rows, lanes)


@compiled_as(filled, lambda array, at, stride, shape: MicrotileType(array.dtype, shape))
def _filled(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    shape, microtile = sig.args[3], ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
    for panel, lanes in enumerate(_panels_at(context, builder, sig.args, args, shape)):
        for row in range(shape.rows):
            microtile = builder.insert_value(microtile, lanes, panel * shape.rows + row)
    return microtile


def zero_sums(array: Any, shape: Any) -> Any:
    """Return a microtile of zeros of a shape and an array's type."""
    return np.zeros((shape.panels, shape.rows, shape.lanes), dtype=array.dtype)


@compiled_as(zero_sums, lambda array, shape: MicrotileType(array.dtype, shape))
def _zero_sums(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return ir.Constant(context.get_value_type(sig.return_type), None)


def add_outer(microtile: Any, x: Any, at: int, stride: int, w: Any, w_at: int, w_stride: int) -> Any:
    """Return `microtile + outer(column of x, row of w)`: the heart of a matrix product, of rank one.

    Args:
        microtile: the sums so far.
        x: array with a column of the microtile's rows in its buffer.
        at: where the column begins.
        stride: from one of its numbers to the next.
        w: array with a row in its buffer.
        w_at: where its first panel's lanes begin.
        w_stride: from the lanes of one panel to those of the next.
    """
    panels, rows, lanes = microtile.shape
    column = x.reshape(-1)[at:][: (rows - 1) * stride + 1 : stride]  # (rows,)
    row = np.stack([load(w, w_at + panel * w_stride, lanes) for panel in range(panels)])  # (panels, lanes)
    return microtile + column[None, :, None] * row[:, None, :]


@compiled_as(add_outer, lambda microtile, x, at, stride, w, w_at, w_stride: microtile)
def _add_outer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    microtile, shape = args[0], sig.args[0].shape
    panels = _panels_at(context, builder, sig.args[4:], args[4:], shape)
    pointer = element_address(context, builder, sig.args[1:3], args[1:3])
    stride = context.cast(builder, args[3], sig.args[3], types.intp)
    for row in range(shape.rows):
        number = builder.load(pointer)
        one = builder.insert_element(ir.Constant(ir.VectorType(number.type, 1), ir.Undefined), number, INT32(0))
        spread = shuffled(builder, one, [0] * shape.lanes)
        for panel, lanes in enumerate(panels):
            at = panel * shape.rows + row
            sums = call_intrinsic(builder, "fmuladd", lanes.type, [spread, lanes, builder.extract_value(microtile, at)])
            microtile = builder.insert_value(microtile, sums, at)
        pointer = builder.gep(pointer, [stride])
    return microtile


def transpose_square(source: Any, at: int, target: Any, target_at: int, width: int) -> None:
    """Write the transpose of a square of `width` rows, which lie one after the other in a buffer, to another."""
    square = load(source, at, width * width).reshape(width, width)
    store(target, target_at, square.T.reshape(-1))


@compiled_as(transpose_square, lambda source, at, target, target_at, width: types.none)
def _transpose_square(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    count, bytes_of_number = sig.args[4].count, sig.args[0].dtype.bitwidth // 8
    vector = ir.VectorType(context.get_data_type(sig.args[0].dtype), count)
    places = [element_address(context, builder, sig.args[i : i + 2], args[i : i + 2]) for i in (0, 2)]
    first, last = (builder.bitcast(place, vector.as_pointer()) for place in places)
    rows = [builder.load(builder.gep(first, [INT32(i)])) for i in range(count)]
    for row in rows:
        row.align = bytes_of_number
    half = count // 2
    while half:  # of each square of 2 * half rows, the two quarters off the diagonal change places
        upper, lower = ([j // half % 2 * (count - half) + j + of_row * half for j in range(count)] for of_row in (0, 1))
        for i in (i for i in range(count) if i // half % 2 == 0):
            pair = rows[i], rows[i + half]
            rows[i], rows[i + half] = (shuffled(builder, pair[0], mask, pair[1]) for mask in (upper, lower))
        half //= 2
    for i, row in enumerate(rows):
        builder.store(row, builder.gep(last, [INT32(i)])).align = bytes_of_number
    return context.get_dummy_value()


def in_memory(microtile: Any) -> Any:
    """Store a microtile on the stack, where a variable can index its parts."""
    return microtile.reshape(-1)


@compiled_as(in_memory, lambda microtile: MicrotileInMemoryType(microtile.dtype))
def _in_memory(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    place = cgutils.alloca_once(builder, args[0].type)
    builder.store(args[0], place)
    return builder.bitcast(place, context.get_value_type(sig.return_type))


def part_of(microtile: Any, i: int, width: int) -> Any:
    """Return part `i` of a microtile in memory: `width` lanes, which are rows of one panel, panel after panel."""
    return microtile[i * width : (i + 1) * width]


@compiled_as(part_of, lambda microtile, i, width: LanesType(microtile.dtype, width.count))
def _part_of(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    vector = context.get_value_type(sig.return_type)
    place = builder.bitcast(args[0], vector.as_pointer())
    part = builder.load(builder.gep(place, [context.cast(builder, args[1], sig.args[1], types.intp)]))
    part.align = sig.args[0].dtype.bitwidth // 8
    return part


def load_rows(array: Any, at: int, stride: int, part: Any, width: int) -> Any:
    """Return one like `part`: rows of `width` elements, each `stride` after the one before, from `at` on."""
    rows = len(part) // width
    return np.concatenate([load(array, at + i * stride, width) for i in range(rows)])


@compiled_as(load_rows, lambda array, at, stride, part, width: part)
def _load_rows(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    part, width = args[3].type, sig.args[4].count
    vector = ir.VectorType(part.element, width)
    pointer, parts = element_address(context, builder, sig.args, args), []
    for _ in range(part.count // width):
        parts.append(builder.load(builder.bitcast(pointer, vector.as_pointer())))
        parts[-1].align = sig.args[0].dtype.bitwidth // 8
        pointer = builder.gep(pointer, [args[2]])
    while len(parts) > 1:  # two and two are put together
        both = list(range(2 * parts[0].type.count))
        mask = ir.Constant(ir.VectorType(INT32, len(both)), both)
        parts = [builder.shuffle_vector(a, b, mask) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def store_rows(array: Any, at: int, stride: int, part: Any, width: int) -> None:
    """Write the rows of a microtile's part, of `width` lanes each: each `stride` after the one before, from `at` on."""
    for i in range(len(part) // width):
        store(array, at + i * stride, part[i * width : (i + 1) * width])


@compiled_as(store_rows, lambda array, at, stride, part, width: types.none)
def _store_rows(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    part, width = args[3], sig.args[4].count
    pointer = element_address(context, builder, sig.args, args)
    for i in range(part.type.count // width):
        row = shuffled(builder, part, list(range(i * width, (i + 1) * width)))
        address = builder.bitcast(pointer, row.type.as_pointer())
        builder.store(row, address).align = sig.args[0].dtype.bitwidth // 8
        pointer = builder.gep(pointer, [args[2]])
    return context.get_dummy_value()

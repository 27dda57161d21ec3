"""Microtiles: some rows of a matrix by so many lanes, one row after the other in a single vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from .lane_types import INT32, call_intrinsic, compiled_as, element_address, shuffled
from .lanes import load, store


def add_outer(microtile: Any, x: Any, at: int, stride: int, w: Any) -> Any:
    """Return `microtile[i, j] + x[at + i * stride] * w[j]`: the heart of a matrix product, of rank one.

    Args:
        microtile: (rows * lanes,).
        x: array with a column of `rows` numbers in its buffer.
        at: where the column begins.
        stride: from one of its numbers to the next.
        w: (lanes,).
    """
    rows = len(microtile) // len(w)
    return microtile + np.outer(x.reshape(-1)[at : at + rows * stride : stride][:rows], w).reshape(-1)


@compiled_as(add_outer, lambda microtile, x, at, stride, w: microtile)
def _add_outer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    microtile, _, _, stride, w = args
    rows = microtile.type.count // w.type.count
    pointer = element_address(context, builder, sig.args[1:3], args[1:3])
    column = ir.Constant(ir.VectorType(w.type.element, rows), ir.Undefined)
    for i in range(rows):
        column = builder.insert_element(column, builder.load(pointer), INT32(i))
        pointer = builder.gep(pointer, [stride])
    spread = shuffled(builder, column, [i for i in range(rows) for _ in range(w.type.count)])
    repeated = shuffled(builder, w, list(range(w.type.count)) * rows)
    return call_intrinsic(builder, "fma", microtile.type, [spread, repeated, microtile])


def load_rows(array: Any, at: int, stride: int, microtile: Any, width: int) -> Any:
    """Return one like `microtile`: rows of `width` elements, each `stride` after the one before, from `at` on."""
    rows = len(microtile) // width
    return np.concatenate([load(array, at + i * stride, width) for i in range(rows)])


@compiled_as(load_rows, lambda array, at, stride, microtile, width: microtile)
def _load_rows(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    microtile, width = args[3].type, sig.args[4].count
    vector = ir.VectorType(microtile.element, width)
    pointer, parts = element_address(context, builder, sig.args, args), []
    for _ in range(microtile.count // width):
        parts.append(builder.load(builder.bitcast(pointer, vector.as_pointer())))
        parts[-1].align = sig.args[0].dtype.bitwidth // 8
        pointer = builder.gep(pointer, [args[2]])
    while len(parts) > 1:  # two and two are put together
        both = list(range(2 * parts[0].type.count))
        mask = ir.Constant(ir.VectorType(INT32, len(both)), both)
        parts = [builder.shuffle_vector(a, b, mask) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def store_rows(array: Any, at: int, stride: int, microtile: Any, width: int) -> None:
    """Write the rows of a microtile, of `width` lanes each: each `stride` after the one before, from `at` on."""
    for i in range(len(microtile) // width):
        store(array, at + i * stride, microtile[i * width : (i + 1) * width])


@compiled_as(store_rows, lambda array, at, stride, microtile, width: types.none)
def _store_rows(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    microtile, width = args[3], sig.args[4].count
    pointer = element_address(context, builder, sig.args, args)
    for i in range(microtile.type.count // width):
        row = shuffled(builder, microtile, list(range(i * width, (i + 1) * width)))
        address = builder.bitcast(pointer, row.type.as_pointer())
        builder.store(row, address).align = sig.args[0].dtype.bitwidth // 8
        pointer = builder.gep(pointer, [args[2]])
    return context.get_dummy_value()


def repeated(lanes: Any, microtile: Any) -> Any:
    """Return a microtile like `microtile`, each row of which is `lanes`."""
    return np.tile(lanes, len(microtile) // len(lanes))


@compiled_as(repeated, lambda lanes, microtile: microtile)
def _repeated(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    count = args[0].type.count
    return shuffled(builder, args[0], list(range(count)) * (args[1].type.count // count))

"""Operations on lanes: some neighbouring numbers that are worked on at once and stay in registers.

Every operation is first a plain Python function on NumPy arrays: that is what it means, and what runs with
`NUMBA_DISABLE_JIT=1`. Below it stands what the compiler puts in its place. None of them checks an index.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable

from .lane_types import INT32, LanesType, call_intrinsic, compiled_as, constant, element_address, shuffled

# Numbers in and out


def item(array: Any, at: int) -> Any:
    """Return element `at` of an array's buffer."""
    return array.reshape(-1)[at]


@compiled_as(item, lambda array, at: array.dtype)
def _item(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(element_address(context, builder, sig.args, args))


def whole(array: Any, at: int) -> int:
    """Return element `at` of an array of integers as one of Python's."""
    return int(array.reshape(-1)[at])


@compiled_as(whole, lambda array, at: types.int64)
def _whole(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number = builder.load(element_address(context, builder, sig.args, args))
    return context.cast(builder, number, sig.args[0].dtype, types.int64)


def put(array: Any, at: int, number: Any) -> None:
    """Write a number, converted to the array's type, to element `at` of its buffer."""
    array.reshape(-1)[at] = number


@compiled_as(put, lambda array, at, number: types.none)
def _put(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number = context.cast(builder, args[2], sig.args[2], sig.args[0].dtype)
    builder.store(number, element_address(context, builder, sig.args, args))
    return context.get_dummy_value()


def prefetch(array: Any, at: int) -> None:
    """Ask for an element of an array's buffer to be brought near, for later; it may lie beyond the end."""


@compiled_as(prefetch, lambda array, at: types.none)
def _prefetch(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer = ir.IntType(8).as_pointer()
    function_type = ir.FunctionType(ir.VoidType(), [pointer, INT32, INT32, INT32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], function_type)
    address = builder.bitcast(element_address(context, builder, sig.args, args), pointer)
    builder.call(function, [address, INT32(0), INT32(3), INT32(1)])  # to be read, again and again, data
    return context.get_dummy_value()


def load(array: Any, at: int, width: int) -> Any:
    """Return `width` elements of an array's buffer from `at` on."""
    return array.reshape(-1)[at : at + width].copy()


@compiled_as(load, lambda array, at, width: LanesType(array.dtype, width.count))
def _load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    vector = context.get_value_type(sig.return_type)
    pointer = builder.bitcast(element_address(context, builder, sig.args, args), vector.as_pointer())
    lanes = builder.load(pointer)
    lanes.align = sig.args[0].dtype.bitwidth // 8
    return lanes


def load_numbers(array: Any, at: int, pattern: Any) -> Any:
    """Return elements of an array's buffer from `at` on, integers or others, as lanes like `pattern`."""
    return array.reshape(-1)[at : at + len(pattern)].astype(pattern.dtype)


@compiled_as(load_numbers, lambda array, at, pattern: pattern)
def _load_numbers(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, result = sig.args[0].dtype, args[2].type
    source = ir.VectorType(context.get_data_type(kind), result.count)
    pointer = element_address(context, builder, sig.args, args)
    lanes = builder.load(builder.bitcast(pointer, source.as_pointer()))
    lanes.align = kind.bitwidth // 8
    if isinstance(kind, types.Integer):
        return (builder.sitofp if kind.signed else builder.uitofp)(lanes, result)  # type: ignore[attr-defined, unused-ignore]
    if source == result:
        return lanes
    return (builder.fpext if kind.bitwidth < sig.return_type.dtype.bitwidth else builder.fptrunc)(lanes, result)


def store(array: Any, at: int, lanes: Any) -> None:
    """Write lanes to an array's buffer from element `at` on."""
    array.reshape(-1)[at : at + len(lanes)] = lanes


@compiled_as(store, lambda array, at, lanes: types.none)
def _store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer = builder.bitcast(element_address(context, builder, sig.args, args), args[2].type.as_pointer())
    builder.store(args[2], pointer).align = sig.args[0].dtype.bitwidth // 8
    return context.get_dummy_value()


def zeros(array: Any, width: int) -> Any:
    """Return lanes of the array's type that all hold 0."""
    return np.zeros(width, dtype=array.dtype)


@compiled_as(zeros, lambda array, width: LanesType(array.dtype, width.count))
def _zeros(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return constant(context.get_value_type(sig.return_type), 0.0)


def like(pattern: Any, number: Any) -> Any:
    """Return as many lanes of the same type that all hold one number; like a single number, that number of its type."""
    return np.full(pattern.shape, number, dtype=pattern.dtype)[()]


@compiled_as(like, lambda pattern, number: pattern)
def _like(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    if not isinstance(kind, LanesType):
        return context.cast(builder, args[1], sig.args[1], kind)
    number = context.cast(builder, args[1], sig.args[1], kind.dtype)
    one = ir.Constant(ir.VectorType(number.type, 1), ir.Undefined)
    return shuffled(builder, builder.insert_element(one, number, INT32(0)), [0] * kind.count)


def count_of(pattern: Any) -> int:
    """Return the number of lanes."""
    return len(pattern)


@compiled_as(count_of, lambda pattern: types.intp)
def _count_of(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.get_constant(types.intp, args[0].type.count)


def count_of_lanes(width: int) -> int:
    """Return the number of lanes of a width."""
    return int(width)


@compiled_as(count_of_lanes, lambda width: types.intp)
def _count_of_lanes(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.get_constant(types.intp, sig.args[0].count)


def positions(pattern: Any) -> Any:
    """Return as many lanes of the same type that hold 0, 1, 2, ..."""
    return np.arange(len(pattern), dtype=pattern.dtype)


@compiled_as(positions, lambda pattern: pattern)
def _positions(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return ir.Constant(args[0].type, [float(i) for i in range(args[0].type.count)])


# Arithmetic, lane by lane


def _binary(operation: Any, name: str) -> None:
    """Compile an operator between lanes of one type."""

    def result(a: Any, b: Any) -> Any:
        return a if isinstance(a, LanesType) and a == b else None

    type_callable(operation)(lambda context: result)

    @lower_builtin(operation, LanesType, LanesType)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # A product and the sum after it may become one operation, as in the kernels' plain arithmetic.
        return getattr(builder, name)(*args, flags=("contract",))


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
_binary(operator.truediv, "fdiv")


def fma(a: Any, b: Any, c: Any) -> Any:
    """Return `a * b + c`; compiled, it is rounded once where the processor has such an instruction."""
    return a * b + c


@compiled_as(fma, lambda a, b, c: c)
def _fma(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return call_intrinsic(builder, "fmuladd", args[2].type, list(args))


def square_root(a: Any) -> Any:
    """Return the square root of each lane."""
    return np.sqrt(a)


@compiled_as(square_root, lambda a: a)
def _square_root(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return call_intrinsic(builder, "sqrt", args[0].type, list(args))


def nearest(a: Any) -> Any:
    """Return the whole number nearest to each lane, the even one of two."""
    return np.rint(a)


@compiled_as(nearest, lambda a: a)
def _nearest(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return call_intrinsic(builder, "rint", args[0].type, list(args))


def power_of_two(a: Any) -> Any:
    """Return 2 to the power of each lane, a whole number from the exponents of the type's normal numbers."""
    return np.exp2(a)


@compiled_as(power_of_two, lambda a: a)
def _power_of_two(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    # IEEE 754: a number's exponent, shifted by the bias, stands above the fraction's bits. A sum with 1.5 times two to
    # the length of the fraction has the whole number in its last bits; a NaN has something there, and is no error.
    bits, fraction, bias = (32, 23, 127) if sig.return_type.dtype == types.float32 else (64, 52, 1023)
    vector, whole = args[0].type, ir.VectorType(ir.IntType(bits), sig.return_type.count)
    shifted = builder.bitcast(builder.fadd(args[0], constant(vector, 1.5 * 2.0**fraction)), whole)
    exponent = builder.add(shifted, constant(whole, bias))
    return builder.bitcast(builder.shl(exponent, constant(whole, fraction)), vector)


def where_less(a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Return the lanes of `yes` where `a < b`, else those of `no`: also where one of them is not a number."""
    return np.where(a < b, yes, no)


@compiled_as(where_less, lambda a, b, yes, no: yes)
def _where_less(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    a, b, yes, no = args
    return builder.select(builder.fcmp_ordered("<", a, b), yes, no)


# Across the lanes


def largest(a: Any) -> Any:
    """Return the largest of the lanes that are numbers."""
    return np.fmax.reduce(a)


@compiled_as(largest, lambda a: a.dtype)
def _largest(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    lanes, count = args[0], sig.args[0].count
    while count > 1:  # a power of two; LLVM's own reduction goes from lane to lane, which takes twice as long
        count //= 2
        halves = [shuffled(builder, lanes, [*range(start, start + count)]) for start in (0, count)]
        lanes = call_intrinsic(builder, "maxnum", halves[0].type, halves)
    return builder.extract_element(lanes, INT32(0))


def total(a: Any) -> Any:
    """Return the sum of the lanes, in an order of the compiler's choice."""
    return np.sum(a)


@compiled_as(total, lambda a: a.dtype)
def _total(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    zero = ir.Constant(args[0].type.element, 0.0)
    return call_intrinsic(builder, "vector.reduce.fadd", args[0].type.element, [zero, args[0]], fastmath=("reassoc",))


def count_equal(a: Any, b: Any) -> Any:
    """Return in how many lanes `a` and `b` are equal."""
    return int(np.sum(a == b))


@compiled_as(count_equal, lambda a, b: types.intp)
def _count_equal(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    equal = builder.bitcast(builder.fcmp_ordered("==", *args), ir.IntType(sig.args[0].count))
    return builder.zext(builder.ctpop(equal), ir.IntType(64))


def first_equal(a: Any, b: Any) -> Any:
    """Return the position of the first lane in which `a` and `b` are equal; the number of lanes if there is none."""
    return int(np.argmax(np.append(a == b, True)))


@compiled_as(first_equal, lambda a, b: types.intp)
def _first_equal(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    count = sig.args[0].count
    mask = ir.IntType(count + 1)  # one bit more than lanes: it is always set, so that there is a first one
    equal = builder.bitcast(builder.fcmp_ordered("==", *args), ir.IntType(count))
    bits = builder.or_(builder.zext(equal, mask), ir.Constant(mask, 1 << count))
    position = builder.cttz(bits, ir.Constant(ir.IntType(1), 1))
    return builder.zext(position, ir.IntType(64)) if count < 63 else builder.trunc(position, ir.IntType(64))

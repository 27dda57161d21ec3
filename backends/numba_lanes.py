"""Vectors in kernels: some neighbouring numbers that are worked on at once and stay in registers.

Numba turns loops over small arrays into loads and stores of every number. Here a value of type `Lanes` is an LLVM vector
of so many numbers, 16 or 64 say, which LLVM cuts into the registers that the machine has, whatever their size.

Every operation is first a plain Python function on NumPy arrays: that is what it means, and what runs with
`NUMBA_DISABLE_JIT=1`. Below it stands what the compiler does in its place. None of them checks an index.

Sources: Numba's manual, "Low-level extension API"; LLVM's language reference, "Vector Operations".
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import (
    NativeValue,
    lower_builtin,
    models,
    register_model,
    type_callable,
    typeof_impl,
    unbox,
)

# Bytes of the widest vector register that compilers use here: AVX-512's, or two of NEON's, or AVX's.
REGISTER_BYTES = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32
TILE_ROWS = 8

INT32 = ir.IntType(32)


def lanes_of(dtype: Any) -> int:
    """Return how many numbers of a floating type one register takes, but no fewer than a tile has rows."""
    return max(REGISTER_BYTES // np.dtype(dtype).itemsize, TILE_ROWS)


class Width(int):
    """A number of lanes that is part of a kernel's type: each width is compiled for itself."""


class WidthType(types.Type):  # type: ignore[misc]
    """Numba's type of a `Width`."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Width({count})")


class LanesType(types.Type):  # type: ignore[misc]
    """Numba's type of a vector of `count` numbers of type `dtype`."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")


register_model(WidthType)(models.OpaqueModel)


@register_model(LanesType)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """A vector as LLVM knows it."""

    def __init__(self, manager: Any, lanes: LanesType) -> None:
        element = manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))


@typeof_impl.register(Width)
def _typeof_width(width: Width, context: Any) -> WidthType:  # noqa: ARG001
    return WidthType(int(width))


@unbox(WidthType)
def _unbox_width(width: WidthType, value: Any, context: Any) -> NativeValue:  # noqa: ARG001
    return NativeValue(context.context.get_dummy_value())


def compiled_as(function: Callable[..., Any], result: Callable[..., Any]) -> Callable[..., Any]:
    """Register how a call of `function` is compiled: `result` gives its type from those of the arguments."""

    def register(lower: Callable[..., Any]) -> Callable[..., Any]:
        type_callable(function)(lambda context: result)  # noqa: ARG005
        lower_builtin(function, types.VarArg(types.Any))(lower)
        return lower

    return register


def element_address(context: Any, builder: Any, kinds: Any, args: Any) -> Any:
    """Return the address of an array's element: an array and a position, then their types."""
    data = cgutils.create_struct_proxy(kinds[0])(context, builder, args[0]).data
    return builder.gep(data, [context.cast(builder, args[1], kinds[1], types.intp)])


def _constant(vector: Any, number: float) -> Any:
    return ir.Constant(vector, [number] * vector.count)


def _shuffled(builder: Any, vector: Any, positions: list[int]) -> Any:
    """Return the lanes of a vector at some positions."""
    mask = ir.Constant(ir.VectorType(INT32, len(positions)), positions)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _intrinsic(builder: Any, name: str, result: Any, args: list[Any], fastmath: tuple[str, ...] = ()) -> Any:
    """Call one of LLVM's own functions, which is named by the type of its last argument."""
    kind = args[-1].type
    count, element = (f"v{kind.count}", kind.element) if isinstance(kind, ir.VectorType) else ("", kind)
    suffix = f"{count}{'f32' if isinstance(element, ir.FloatType) else 'f64'}"
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{suffix}")
    return builder.call(function, args, fastmath=fastmath)


# Numbers in and out


def item(array: Any, at: int) -> Any:
    """Return element `at` of an array's buffer."""
    return array.reshape(-1)[at]


@compiled_as(item, lambda array, at: array.dtype)  # noqa: ARG005
def _item(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(element_address(context, builder, sig.args, args))


def put(array: Any, at: int, number: Any) -> None:
    """Write a number, converted to the array's type, to element `at` of its buffer."""
    array.reshape(-1)[at] = number


@compiled_as(put, lambda array, at, number: types.none)  # noqa: ARG005
def _put(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number = context.cast(builder, args[2], sig.args[2], sig.args[0].dtype)
    builder.store(number, element_address(context, builder, sig.args, args))
    return context.get_dummy_value()


def prefetch(array: Any, at: int) -> None:
    """Ask for an element of an array's buffer to be brought near, for later; it may lie beyond the end."""


@compiled_as(prefetch, lambda array, at: types.none)  # noqa: ARG005
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


@compiled_as(load, lambda array, at, width: LanesType(array.dtype, width.count))  # noqa: ARG005
def _load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    vector = context.get_value_type(sig.return_type)
    pointer = builder.bitcast(element_address(context, builder, sig.args, args), vector.as_pointer())
    lanes = builder.load(pointer)
    lanes.align = sig.args[0].dtype.bitwidth // 8
    return lanes


def load_numbers(array: Any, at: int, pattern: Any) -> Any:
    """Return elements of an array's buffer from `at` on, integers or others, as lanes like `pattern`."""
    return array.reshape(-1)[at : at + len(pattern)].astype(pattern.dtype)


@compiled_as(load_numbers, lambda array, at, pattern: pattern)  # noqa: ARG005
def _load_numbers(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, result = sig.args[0].dtype, args[2].type
    source = ir.VectorType(context.get_data_type(kind), result.count)
    pointer = element_address(context, builder, sig.args, args)
    lanes = builder.load(builder.bitcast(pointer, source.as_pointer()))
    lanes.align = kind.bitwidth // 8
    if isinstance(kind, types.Integer):
        return (builder.sitofp if kind.signed else builder.uitofp)(lanes, result)
    if source == result:
        return lanes
    return (builder.fpext if kind.bitwidth < sig.return_type.dtype.bitwidth else builder.fptrunc)(lanes, result)


def store(array: Any, at: int, lanes: Any) -> None:
    """Write lanes to an array's buffer from element `at` on."""
    array.reshape(-1)[at : at + len(lanes)] = lanes


@compiled_as(store, lambda array, at, lanes: types.none)  # noqa: ARG005
def _store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer = builder.bitcast(element_address(context, builder, sig.args, args), args[2].type.as_pointer())
    builder.store(args[2], pointer).align = sig.args[0].dtype.bitwidth // 8
    return context.get_dummy_value()


def splat(number: Any, width: int) -> Any:
    """Return lanes that all hold one number, of the number's type."""
    return np.full(width, number)


@compiled_as(splat, lambda number, width: LanesType(number, width.count))
def _splat(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    one = ir.Constant(ir.VectorType(args[0].type, 1), ir.Undefined)
    return _shuffled(builder, builder.insert_element(one, args[0], INT32(0)), [0] * sig.return_type.count)


def zeros(array: Any, width: int) -> Any:
    """Return lanes of the array's type that all hold 0."""
    return np.zeros(width, dtype=array.dtype)


@compiled_as(zeros, lambda array, width: LanesType(array.dtype, width.count))
def _zeros(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return _constant(context.get_value_type(sig.return_type), 0.0)


def like(pattern: Any, number: Any) -> Any:
    """Return as many lanes of the same type that all hold one number; like a single number, that number of its type."""
    return np.full(pattern.shape, number, dtype=pattern.dtype)[()]


@compiled_as(like, lambda pattern, number: pattern)  # noqa: ARG005
def _like(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    if not isinstance(kind, LanesType):
        return context.cast(builder, args[1], sig.args[1], kind)
    number = context.cast(builder, args[1], sig.args[1], kind.dtype)
    one = ir.Constant(ir.VectorType(number.type, 1), ir.Undefined)
    return _shuffled(builder, builder.insert_element(one, number, INT32(0)), [0] * kind.count)


def count_of(pattern: Any) -> int:
    """Return the number of lanes."""
    return len(pattern)


@compiled_as(count_of, lambda pattern: types.intp)  # noqa: ARG005
def _count_of(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return context.get_constant(types.intp, args[0].type.count)


def positions(pattern: Any) -> Any:
    """Return as many lanes of the same type that hold 0, 1, 2, ..."""
    return np.arange(len(pattern), dtype=pattern.dtype)


@compiled_as(positions, lambda pattern: pattern)
def _positions(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return ir.Constant(args[0].type, [float(i) for i in range(args[0].type.count)])


# Arithmetic, lane by lane


def _binary(operation: Any, name: str) -> None:
    """Compile an operator between lanes of one type."""

    def result(a: Any, b: Any) -> Any:
        return a if isinstance(a, LanesType) and a == b else None

    type_callable(operation)(lambda context: result)  # noqa: ARG005

    @lower_builtin(operation, LanesType, LanesType)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
        # A product and the sum after it may become one operation, as in the kernels' plain arithmetic.
        return getattr(builder, name)(*args, flags=("contract",))


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
_binary(operator.truediv, "fdiv")


def fma(a: Any, b: Any, c: Any) -> Any:
    """Return `a * b + c`; compiled, it is rounded once."""
    return a * b + c


@compiled_as(fma, lambda a, b, c: c)  # noqa: ARG005
def _fma(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return _intrinsic(builder, "fma", args[2].type, list(args))


def square_root(a: Any) -> Any:
    """Return the square root of each lane, or of a number."""
    return np.sqrt(a)


@compiled_as(square_root, lambda a: a)
def _square_root(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return _intrinsic(builder, "sqrt", args[0].type, list(args))


def nearest(a: Any) -> Any:
    """Return the whole number nearest to each lane, the even one of two."""
    return np.rint(a)


@compiled_as(nearest, lambda a: a)
def _nearest(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return _intrinsic(builder, "rint", args[0].type, list(args))


def power_of_two(a: Any) -> Any:
    """Return 2 to the power of each lane, a whole number from the exponents of the type's normal numbers."""
    return np.exp2(a)


@compiled_as(power_of_two, lambda a: a)
def _power_of_two(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    # IEEE 754: a number's exponent, shifted by the bias, stands above the fraction's bits. A sum with 1.5 times two to the
    # length of the fraction has the whole number in its last bits; a NaN has something there, and is no error.
    bits, fraction, bias = (32, 23, 127) if sig.return_type.dtype == types.float32 else (64, 52, 1023)
    vector, whole = args[0].type, ir.VectorType(ir.IntType(bits), sig.return_type.count)
    shifted = builder.bitcast(builder.fadd(args[0], _constant(vector, 1.5 * 2.0**fraction)), whole)
    exponent = builder.add(shifted, _constant(whole, bias))
    return builder.bitcast(builder.shl(exponent, _constant(whole, fraction)), vector)


def where_less(a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Return the lanes of `yes` where `a < b`, else those of `no`: also where one of them is not a number."""
    return np.where(a < b, yes, no)


@compiled_as(where_less, lambda a, b, yes, no: yes)  # noqa: ARG005
def _where_less(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    a, b, yes, no = args
    return builder.select(builder.fcmp_ordered("<", a, b), yes, no)


# Across the lanes


def largest(a: Any) -> Any:
    """Return the largest of the lanes that are numbers."""
    return np.fmax.reduce(a)


@compiled_as(largest, lambda a: a.dtype)
def _largest(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    return _intrinsic(builder, "vector.reduce.fmax", args[0].type.element, list(args))


def total(a: Any) -> Any:
    """Return the sum of the lanes, in an order of the compiler's choice."""
    return np.sum(a)


@compiled_as(total, lambda a: a.dtype)
def _total(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    zero = ir.Constant(args[0].type.element, 0.0)
    return _intrinsic(builder, "vector.reduce.fadd", args[0].type.element, [zero, args[0]], fastmath=("reassoc",))


def first_equal(a: Any, b: Any) -> Any:
    """Return the position of the first lane in which `a` and `b` are equal; the number of lanes if there is none."""
    return int(np.argmax(np.append(a == b, True)))


@compiled_as(first_equal, lambda a, b: types.intp)  # noqa: ARG005
def _first_equal(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    count = sig.args[0].count
    mask = ir.IntType(count + 1)  # one bit more than lanes: it is always set, so that there is a first one
    equal = builder.bitcast(builder.fcmp_ordered("==", *args), ir.IntType(count))
    bits = builder.or_(builder.zext(equal, mask), ir.Constant(mask, 1 << count))
    position = builder.cttz(bits, ir.Constant(ir.IntType(1), 1))
    return builder.zext(position, ir.IntType(64)) if count < 63 else builder.trunc(position, ir.IntType(64))


# A tile of some rows by so many lanes, one row after the other in a single vector


def add_outer(tile: Any, x: Any, at: int, stride: int, w: Any) -> Any:
    """Return `tile[i, j] + x[at + i * stride] * w[j]`: the heart of a matrix product, of rank one.

    Args:
        tile: (rows * lanes,).
        x: array with a column of `rows` numbers in its buffer.
        at: where the column begins.
        stride: from one of its numbers to the next.
        w: (lanes,).
    """
    rows = len(tile) // len(w)
    return tile + np.outer(x.reshape(-1)[at : at + rows * stride : stride][:rows], w).reshape(-1)


@compiled_as(add_outer, lambda tile, x, at, stride, w: tile)  # noqa: ARG005
def _add_outer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    tile, _, _, stride, w = args
    rows = tile.type.count // w.type.count
    pointer = element_address(context, builder, sig.args[1:3], args[1:3])
    column = ir.Constant(ir.VectorType(w.type.element, rows), ir.Undefined)
    for i in range(rows):
        column = builder.insert_element(column, builder.load(pointer), INT32(i))
        pointer = builder.gep(pointer, [stride])
    spread = _shuffled(builder, column, [i for i in range(rows) for _ in range(w.type.count)])
    repeated = _shuffled(builder, w, list(range(w.type.count)) * rows)
    return _intrinsic(builder, "fma", tile.type, [spread, repeated, tile])


def load_rows(array: Any, at: int, stride: int, tile: Any, width: int) -> Any:
    """Return a tile like `tile`: rows of `width` elements, each `stride` after the one before, from `at` on."""
    rows = len(tile) // width
    return np.concatenate([load(array, at + i * stride, width) for i in range(rows)])


@compiled_as(load_rows, lambda array, at, stride, tile, width: tile)  # noqa: ARG005
def _load_rows(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    tile, width = args[3].type, sig.args[4].count
    vector = ir.VectorType(tile.element, width)
    pointer, parts = element_address(context, builder, sig.args, args), []
    for _ in range(tile.count // width):
        parts.append(builder.load(builder.bitcast(pointer, vector.as_pointer())))
        parts[-1].align = sig.args[0].dtype.bitwidth // 8
        pointer = builder.gep(pointer, [args[2]])
    while len(parts) > 1:  # two and two are put together
        both = list(range(2 * parts[0].type.count))
        mask = ir.Constant(ir.VectorType(INT32, len(both)), both)
        parts = [builder.shuffle_vector(a, b, mask) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def store_rows(array: Any, at: int, stride: int, tile: Any, width: int) -> None:
    """Write the rows of a tile, of `width` lanes each: each `stride` after the one before, from `at` on."""
    for i in range(len(tile) // width):
        store(array, at + i * stride, tile[i * width : (i + 1) * width])


@compiled_as(store_rows, lambda array, at, stride, tile, width: types.none)  # noqa: ARG005
def _store_rows(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    tile, width = args[3], sig.args[4].count
    pointer = element_address(context, builder, sig.args, args)
    for i in range(tile.type.count // width):
        row = _shuffled(builder, tile, list(range(i * width, (i + 1) * width)))
        address = builder.bitcast(pointer, row.type.as_pointer())
        builder.store(row, address).align = sig.args[0].dtype.bitwidth // 8
        pointer = builder.gep(pointer, [args[2]])
    return context.get_dummy_value()


def repeated(lanes: Any, tile: Any) -> Any:
    """Return a tile like `tile`, each row of which is `lanes`."""
    return np.tile(lanes, len(tile) // len(lanes))


@compiled_as(repeated, lambda lanes, tile: tile)  # noqa: ARG005
def _repeated(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ARG001
    count = args[0].type.count
    return _shuffled(builder, args[0], list(range(count)) * (args[1].type.count // count))

"""The type of a vector in a kernel, and what its operations are compiled with.

Numba turns loops over small arrays into loads and stores of every number. A value of type `Lanes` is an LLVM vector of
so many numbers, 16 or 64 say, which LLVM cuts into the registers that the machine has, whatever their size.

Sources: Numba's manual, "Low-level extension API"; LLVM's language reference, "Vector Operations".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import NativeValue, lower_builtin, models, register_model, type_callable, typeof_impl, unbox

# Bytes of the widest vector register that compilers use here: AVX-512's, or two of NEON's, or AVX's.
REGISTER_BYTES = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32
MICROTILE_ROWS = 8

INT32 = ir.IntType(32)


def lanes_of(dtype: Any) -> int:
    """Return how many numbers of a floating type one register takes, but no fewer than a microtile has rows."""
    return max(REGISTER_BYTES // int(np.dtype(dtype).itemsize), MICROTILE_ROWS)


class Width(int):
    """A number of lanes that is part of a kernel's type: each width is compiled for itself."""


class WidthType(types.Type):
    """Numba's type of a `Width`."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Width({count})")


class LanesType(types.Type):
    """Numba's type of a vector of `count` numbers of type `dtype`."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")


register_model(WidthType)(models.OpaqueModel)


@register_model(LanesType)
class LanesModel(models.PrimitiveModel):
    """A vector as LLVM knows it."""

    def __init__(self, manager: Any, lanes: LanesType) -> None:
        element = manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))


@typeof_impl.register(Width)
def _typeof_width(width: Width, context: Any) -> WidthType:
    return WidthType(int(width))


@unbox(WidthType)
def _unbox_width(width: WidthType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def compiled_as(function: Callable[..., Any], result: Callable[..., Any]) -> Callable[..., Any]:
    """Register how a call of `function` is compiled: `result` gives its type from those of the arguments."""

    def register(lower: Callable[..., Any]) -> Callable[..., Any]:
        type_callable(function)(lambda context: result)
        lower_builtin(function, types.VarArg(types.Any))(lower)  # type: ignore[attr-defined, unused-ignore]
        return lower

    return register


def element_address(context: Any, builder: Any, kinds: Any, args: Any) -> Any:
    """Return the address of an array's element: an array and a position, then their types."""
    data = cgutils.create_struct_proxy(kinds[0])(context, builder, args[0]).data
    return builder.gep(data, [context.cast(builder, args[1], kinds[1], types.intp)])


def constant(vector: Any, number: float) -> Any:
    """Return a vector of one number."""
    return ir.Constant(vector, [number] * vector.count)


def shuffled(builder: Any, vector: Any, positions: list[int]) -> Any:
    """Return the lanes of a vector at some positions."""
    mask = ir.Constant(ir.VectorType(INT32, len(positions)), positions)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def call_intrinsic(builder: Any, name: str, result: Any, args: list[Any], fastmath: tuple[str, ...] = ()) -> Any:
    """Call one of LLVM's own functions, which is named by the type of its last argument, a vector."""
    kind = args[-1].type
    suffix = f"v{kind.count}{'f32' if isinstance(kind.element, ir.FloatType) else 'f64'}"
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{suffix}")
    return builder.call(function, args, fastmath=fastmath)

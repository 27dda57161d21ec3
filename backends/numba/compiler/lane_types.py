"""The type of a vector in a kernel, and what its operations are compiled with.

Numba turns loops over small arrays into loads and stores of every number. A value of type `Lanes` is an LLVM vector of
so many numbers, 16 or 64 say, which LLVM cuts into the registers that the machine has, whatever their size.

Sources: Numba's manual, "Low-level extension API"; LLVM's language reference, "Vector Operations".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import NativeValue, lower_builtin, models, register_model, type_callable, typeof_impl, unbox

INT32 = ir.IntType(32)


class Width(int):
    """A number of lanes that is part of a kernel's type: each width is compiled for itself."""


class WidthType(types.Type):
    """Numba's type of a `Width`."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Width({count})")


@dataclass(frozen=True)
class Shape:
    """Rows and panels of a microtile, and the lanes of a panel: part of a kernel's type, as a `Width` is."""

    rows: int
    panels: int
    lanes: int


class ShapeType(types.Type):
    """Numba's type of a `Shape`."""

    def __init__(self, rows: int, panels: int, lanes: int) -> None:
        self.rows, self.panels, self.lanes = rows, panels, lanes
        super().__init__(name=f"Shape({rows}, {panels}, {lanes})")


class LanesType(types.Type):
    """Numba's type of a vector of `count` numbers of type `dtype`."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")


class MicrotileType(types.Type):
    """Numba's type of a microtile of one shape: `rows` vectors of a panel's lanes, then those of the next panel."""

    def __init__(self, dtype: Any, shape: ShapeType) -> None:
        self.dtype, self.shape, self.rows = dtype, shape, shape.rows
        super().__init__(name=f"Microtile({dtype}, {shape.name})")


class MicrotileInMemoryType(types.Type):
    """Numba's type of a microtile on the stack."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"MicrotileInMemory({dtype})")


register_model(WidthType)(models.OpaqueModel)
register_model(ShapeType)(models.OpaqueModel)


@register_model(LanesType)
class LanesModel(models.PrimitiveModel):
    """A vector as LLVM knows it."""

    def __init__(self, manager: Any, lanes: LanesType) -> None:
        element = manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))


@register_model(MicrotileType)
class MicrotileModel(models.PrimitiveModel):
    """An array of vectors, not one vector: LLVM splits vectors well only if their length is a power of two."""

    def __init__(self, manager: Any, microtile: MicrotileType) -> None:
        shape = microtile.shape
        vector = ir.VectorType(manager.lookup(microtile.dtype).get_value_type(), shape.lanes)
        super().__init__(manager, microtile, ir.ArrayType(vector, shape.rows * shape.panels))


@register_model(MicrotileInMemoryType)
class MicrotileInMemoryModel(models.PrimitiveModel):
    """The address of its first number."""

    def __init__(self, manager: Any, microtile: MicrotileInMemoryType) -> None:
        super().__init__(manager, microtile, manager.lookup(microtile.dtype).get_value_type().as_pointer())


@typeof_impl.register(Width)
def _typeof_width(width: Width, context: Any) -> WidthType:
    return WidthType(int(width))


@typeof_impl.register(Shape)
def _typeof_shape(shape: Shape, context: Any) -> ShapeType:
    return ShapeType(shape.rows, shape.panels, shape.lanes)


@unbox(ShapeType)
@unbox(WidthType)
def _unbox_nothing(kind: types.Type, value: Any, context: Any) -> NativeValue:
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


def shuffled(builder: Any, vector: Any, positions: list[int], other: Any = None) -> Any:
    """Return the lanes of a vector, and of another one after it, at some positions."""
    mask = ir.Constant(ir.VectorType(INT32, len(positions)), positions)
    return builder.shuffle_vector(vector, other or ir.Constant(vector.type, ir.Undefined), mask)


def call_intrinsic(builder: Any, name: str, result: Any, args: list[Any], fastmath: tuple[str, ...] = ()) -> Any:
    """Call one of LLVM's own functions, which is named by the type of its last argument, a vector."""
    kind = args[-1].type
    suffix = f"v{kind.count}{'f32' if isinstance(kind.element, ir.FloatType) else 'f64'}"
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{suffix}")
    return builder.call(function, args, fastmath=fastmath)

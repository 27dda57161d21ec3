"""The C source file of a network: constants, `forward` in float or in 8-bit integers, and the public functions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import look_up
from ...backends.activations import LEAKY_SLOPE
from ..inputs.inputs import BYTE, Inputs, Pixels
from ..inputs.table import Table
from ..network.mlp import MLP
from . import quantization
from .c_header import Interface
from .c_text import Parts, array, double_literal, float_literal, string_literal
from .quantization import Codes, Floats, QuantizedLayer

POINTER = 4  # bytes on a 32-bit machine, and of a size_t
COLUMN = 40  # bytes of a `struct column` there

# activation: formula of `y[j]`, or None where nothing is to be done
ACTIVATIONS: dict[str, str | None] = {
    "identity": None,
    "relu": "y[j] > 0.0f ? y[j] : 0.0f",
    "leaky_relu": f"y[j] > 0.0f ? y[j] : {LEAKY_SLOPE}f * y[j]",
    "tanh": "tanhf(y[j])",
    "sigmoid": "0.5f + 0.5f * tanhf(0.5f * y[j])",
}


class Program:
    """A source file in the making.

    Attributes:
        flash: bytes of constants, on a 32-bit machine.
        stack: bytes of the arrays on the stack, in the call that needs most.
    """

    def __init__(self, net: MLP, inputs: Inputs, interface: Interface) -> None:
        self.net, self.inputs, self.interface = net, inputs, interface
        self.flash, self.stack = 0, 0
        self._pieces: list[str] = []
        name = interface.name
        self._parts = Parts(
            "c_parts.c", {"name": name, "NAME": name.upper(), "type": interface.kind, "row": interface.row}
        )
        if isinstance(inputs, Table):
            self._add_columns(inputs)

    def text(self) -> str:
        """Return the text of the file."""
        body = "\n".join(self._pieces)
        headers = {"math.h": r"\b(expf|tanhf|NAN)\b", "stddef.h": r"\b(size_t|NULL)\b"}
        needed = [f"#include <{header}>" for header, names in headers.items() if re.search(names, body)]
        header = f"{self.interface.name}.h"
        return "\n".join([f"/* See {header}. */", "", f'#include "{header}"', "", *needed, "", body])

    def add_float_layers(self, layers: Sequence[tuple[Floats, Floats]]) -> None:
        """Add `forward` in float.

        Args:
            layers: weight (in_features, out_features) and bias (out_features,) of each layer.
        """
        rows = []
        for k, (weight, bias) in enumerate(layers):
            self._floats(f"weights_{k}", weight.T)
            self._floats(f"bias_{k}", bias)
            rows.append(f"{{{weight.shape[0]}, {weight.shape[1]}, weights_{k}, bias_{k}}}")
        self._part("layer")
        self._array("struct layer", "layers", rows, 4 * POINTER)
        first, formula = "dense", look_up("activation", self.net.activation, ACTIVATIONS)
        if isinstance(self.inputs, Pixels):
            first = "dense_of_pixels"
            self._part("dense", function=first, cast="(float)", scale=f"{float_literal(self.inputs.scale)} * ")
        if first == "dense" or len(layers) > 1:
            self._part("dense", function="dense", type="float", cast="", scale="")
        if formula and len(layers) > 1:
            self._part("activate", activation=self.net.activation, formula=formula)

        buffers, lines, x = _Buffers("float", 4), [], self.interface.row
        if isinstance(self.inputs, Table):
            x = buffers.take(self.net.features)
            lines.append(f"standardize({self.interface.row}, {x});")
        for k, out_features in enumerate(self.net.sizes[1:-1]):
            y = buffers.take(out_features)
            lines.append(f"{'dense' if k else first}(&layers[{k}], {x}, {y});")
            lines += [f"activate({y}, {out_features});"] * bool(formula)
            x = y
        last = len(layers) - 1
        lines.append(f"{'dense' if last else first}(&layers[{last}], {x}, outputs);")
        self._forward(buffers.definitions() + lines, buffers.bytes)

    def add_int8_layers(self, layers: Sequence[tuple[Floats, Floats]], features: Floats) -> None:
        """Add `forward` in 8-bit integers.

        Args:
            layers: as in `add_float_layers`.
            features: calibration rows, (samples, features).
        """
        codes, meaning = _input_codes(self.inputs, features)  # (samples, features), and their numbers
        made = quantization.quantize(layers, self.net.activation, features, codes, meaning)
        rows = [self._add_integers(k, layer) for k, layer in enumerate(made)]
        self._floats("output_scale", made[-1].scale)
        self._part("layer of integers")
        self._array("struct layer", "layers", rows, 8 * POINTER)
        self._part("sum of products")
        is_wide, hidden_sizes = _are_wide(self.inputs), self.net.sizes[1:-1]
        if hidden_sizes or is_wide:
            is_leaky = self.net.activation == "leaky_relu"
            self._part("rescale", divided=f" / {quantization.LEAKY_DIVISOR}" if is_leaky else "")
        if hidden_sizes:
            self._part("hidden layer of integers", activation=self.net.activation)
        self._part("last layer of integers")

        buffers, lines, x = _Buffers("uint8_t", 1), [], self.interface.row
        floats = _Buffers("float", 4, names=("features",))
        if not isinstance(self.inputs, Pixels) or is_wide:
            self._add_encoding(meaning)
            if isinstance(self.inputs, Table):
                x = floats.take(self.net.features)
                lines.append(f"standardize({self.interface.row}, {x});")
            y = buffers.take(self.net.features)
            lines.append(f"encode({x}, {y});")
            x = y
        for k, units in enumerate(hidden_sizes):
            y = buffers.take(units)
            lines.append(f"dense(&layers[{k}], {x}, {y});")
            x = y
        lines.append(f"last(&layers[{len(hidden_sizes)}], {x}, outputs);")
        self._forward(floats.definitions() + buffers.definitions() + lines, floats.bytes + buffers.bytes)

    def add_functions(self) -> None:
        """Add the public functions and names."""
        outputs, target = self.net.outputs, self.inputs.target
        if outputs.function == "softmax":
            self.stack += 4 * self.net.num_outputs  # what `predict` compares
        if outputs.has_probabilities:
            self._part(outputs.function)
        else:
            value = "expf(values[j])" if outputs.function == "exp" else "values[j]"
            if target is not None:
                value += " * target_std[j] + target_mean[j]"
                self._floats("target_mean", np.array(target.mean))
                self._floats("target_std", np.array(target.std))
            self._part("identity" if value == "values[j]" else "values", value=value)
        if self.interface.has_names:
            names = f"{self.interface.name}_class_names"
            self._strings(f"const char *const {names}[{self.net.num_outputs}]", self.net.names)
        for k, column in enumerate(self.interface.columns):
            if column.level_function:
                body = f"return level_of(levels_{k}, {len(column.levels)}, text);"
                self._pieces.append(f"int {column.level_function}(const char *text)\n{{\n    {body}\n}}\n")

    def _add_columns(self, table: Table) -> None:
        """Add `standardize`, and the levels of categories."""
        self._part("columns")
        rows = []
        for k, column in enumerate(table.columns):
            codes = "NULL"
            if column.kind == "category":
                codes = f"codes_{k}"
                self._array("double", codes, map(double_literal, column.codes.tolist()), 8)
            fill = column.fill
            if fill is None:
                fill = 0.0 if column.kind == "category" else math.nan
            numbers = map(double_literal, (column.mean, 1 / column.std, fill))
            rows.append(f"{{{', '.join(numbers)}, {codes}, {len(column.levels)}, {int(column.has_flag)}}}")
        self._array("struct column", "columns", rows, COLUMN)
        self._part("standardize")
        if any(names.level_function for names in self.interface.columns):
            self._part("level")
        for k, names in enumerate(self.interface.columns):
            if names.level_function:
                levels = table.columns[k].levels
                self._strings(f"static const char *const levels_{k}[{len(levels)}]", levels)

    def _add_integers(self, k: int, layer: QuantizedLayer) -> str:
        """Add the constants of layer `k`, and return its row in `layers`."""
        rescaling = layer.rescaling
        zero = 0 if rescaling is None else rescaling.zero
        arrays: dict[str, npt.NDArray[Any] | None] = {
            "weights": layer.weight, "bias": layer.bias, "multipliers": None, "shifts": None, "table": None
        }  # fmt: skip
        if rescaling is not None:
            arrays |= {"multipliers": rescaling.multiplier, "shifts": rescaling.shift, "table": rescaling.table}
        names = []
        for what, numbers in arrays.items():
            names.append("NULL" if numbers is None else f"{what}_{k}")
            if numbers is not None:
                items = map(str, numbers.ravel().tolist())
                self._array(f"{numbers.dtype}_t", names[-1], items, numbers.itemsize)
        out_features, in_features = layer.weight.shape
        return f"{{{in_features}, {out_features}, {', '.join(names)}, {zero}}}"

    def _add_encoding(self, meaning: Codes) -> None:
        """Add `encode`, from features to codes."""
        features = self.net.features
        if isinstance(self.inputs, Pixels):
            ((multiplier,), (shift,)) = quantization.fixed_point(np.array([BYTE / self.inputs.largest]))
            self._part("encode pixels", features=features, multiplier=multiplier, shift=shift)
            return
        self._floats("input_low", meaning.low)
        self._floats("input_factor", meaning.factor)
        self._part("encode numbers", features=features)

    def _forward(self, lines: list[str], stack: int) -> None:
        """Add `forward`, from a row to the outputs."""
        body = "\n".join(f"    {line}" for line in lines)
        head = f"static void forward(const {self.interface.kind} *{self.interface.row}, float *outputs)"
        self._pieces.append(f"{head}\n{{\n{body}\n}}\n")
        self.stack += stack

    def _part(self, part: str, **values: object) -> None:
        """Add a part of `c_parts.c`."""
        self._pieces.append(self._parts.fill(part, **values))

    def _floats(self, name: str, numbers: npt.NDArray[Any]) -> None:
        self._array("float", name, map(float_literal, numbers.ravel().tolist()), 4)

    def _array(self, kind: str, name: str, items: Any, size: int) -> None:
        """Add a constant array of items of `size` bytes."""
        given = list(items)
        self._pieces.append(array(f"static const {kind} {name}[{len(given)}]", given))
        self.flash += size * len(given)

    def _strings(self, definition: str, texts: Sequence[str]) -> None:
        """Add a constant array of strings."""
        self._pieces.append(array(definition, map(string_literal, texts)))
        self.flash += sum(POINTER + len(text.encode()) + 1 for text in texts)


class _Buffers:
    """Arrays that hold one vector after the other by turns, each while the next is computed."""

    def __init__(self, kind: str, size: int, names: tuple[str, ...] = ("a", "b")) -> None:
        self._kind, self._size = kind, size
        self._widths = dict.fromkeys(names, 0)
        self._turns = cycle(names)

    @property
    def bytes(self) -> int:
        """Size of all arrays."""
        return self._size * sum(self._widths.values())

    def take(self, width: int) -> str:
        """Return the name of the array for the next vector."""
        name = next(self._turns)
        self._widths[name] = max(self._widths[name], width)
        return name

    def definitions(self) -> list[str]:
        """Return the definitions of the arrays."""
        return [f"{self._kind} {name}[{width}];" for name, width in self._widths.items() if width]


def _input_codes(inputs: Inputs, features: Floats) -> tuple[Floats, Codes]:
    """Return the codes of features, (samples, features), and their meaning: of pixels up to 255 the pixels."""
    if not isinstance(inputs, Pixels):
        meaning = quantization.codes_of(features)
        return meaning.encode(features), meaning
    step = np.full(features.shape[1], 1 / BYTE if _are_wide(inputs) else inputs.scale)  # (features,)
    return np.clip(np.rint(features / step), 0, BYTE), Codes(np.zeros_like(step), step)


def _are_wide(inputs: Inputs) -> bool:
    """Return whether the inputs are pixels of more than a byte."""
    return isinstance(inputs, Pixels) and inputs.largest > BYTE

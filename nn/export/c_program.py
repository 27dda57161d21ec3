"""The C source file of a network: constants, `forward` in float or in 8-bit integers, and the public functions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
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
from .contents import output_function
from .quantization import Codes, Floats

POINTER = 4  # bytes on a 32-bit machine, and of a size_t
COLUMN = 36  # bytes of a `struct column` there

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
        *hidden, last = quantization.quantize(layers, self.net.activation, features, codes, meaning)
        rows = []
        for k, layer in enumerate([*hidden, last]):
            self._array("int8_t", f"weights_{k}", _whole(layer.weight), 1)
            self._array("int32_t", f"bias_{k}", _whole(layer.bias), 4)
            scaling = "NULL, NULL"
            if layer is not last:
                self._array("int32_t", f"multipliers_{k}", _whole(layer.multiplier), 4)
                self._array("uint8_t", f"shifts_{k}", _whole(layer.shift), 1)
                scaling = f"multipliers_{k}, shifts_{k}"
            if layer.table is not None:
                self._array("uint8_t", f"table_{k}", _whole(layer.table), 1)
            out_features, in_features = layer.weight.shape
            rows.append(f"{{{in_features}, {out_features}, weights_{k}, bias_{k}, {scaling}, {layer.zero}}}")
        self._floats("output_scale", last.scale)
        self._part("layer of integers")
        self._array("struct layer", "layers", rows, 7 * POINTER)
        self._part("sum of products")
        if hidden or _are_wide(self.inputs):
            is_leaky = self.net.activation == "leaky_relu"
            self._part("rescale", divided=f" / {quantization.LEAKY_DIVISOR}" if is_leaky else "")
        if hidden:
            self._part("hidden layer of integers")
        if hidden and hidden[0].table is not None:
            self._part("table", activation=self.net.activation)
        self._part("last layer of integers")

        buffers, lines, x = _Buffers("uint8_t", 1), [], self.interface.row
        arrays, stack = [], 0
        if not isinstance(self.inputs, Pixels) or _are_wide(self.inputs):
            self._add_encoding(meaning)
            if isinstance(self.inputs, Table):
                arrays, stack = [f"float features[{self.net.features}];"], 4 * self.net.features
                lines.append(f"standardize({x}, features);")
                x = "features"
            y = buffers.take(self.net.features)
            lines.append(f"encode({x}, {y});")
            x = y
        for k, layer in enumerate(hidden):
            y = buffers.take(len(layer.bias))
            lines.append(f"dense(&layers[{k}], {x}, {y});")
            lines += [f"activate(table_{k}, {y}, {len(layer.bias)});"] * (layer.table is not None)
            x = y
        lines.append(f"last(&layers[{len(hidden)}], {x}, outputs);")
        self._forward(arrays + buffers.definitions() + lines, stack + buffers.bytes)

    def add_functions(self) -> None:
        """Add the public functions and names."""
        output, target = output_function(self.net), self.inputs.target
        if output == "softmax":
            self.stack += 4 * self.net.num_outputs  # what `predict` compares
        if output == "identity" and target is not None:
            output = "standardized"
            self._floats("target_mean", np.array(target.mean))
            self._floats("target_std", np.array(target.std))
        self._part(output)
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
    """Two arrays that hold one vector after the other, each while the next is computed.

    Attributes:
        bytes: size of both.
    """

    def __init__(self, kind: str, size: int) -> None:
        self._kind, self._size = kind, size
        self._widths = [0, 0]
        self._taken = 0

    @property
    def bytes(self) -> int:
        """Size of both."""
        return self._size * sum(self._widths)

    def take(self, width: int) -> str:
        """Return the name of the array for the next vector."""
        k = self._taken % 2
        self._taken += 1
        self._widths[k] = max(self._widths[k], width)
        return "ab"[k]

    def definitions(self) -> list[str]:
        """Return the definitions of the arrays."""
        return [f"{self._kind} {name}[{width}];" for name, width in zip("ab", self._widths, strict=True) if width]


def _input_codes(inputs: Inputs, features: Floats) -> tuple[Floats, Codes]:
    """Return the codes of features, (samples, features), and their meaning: of pixels up to 255 the pixels."""
    if not isinstance(inputs, Pixels):
        meaning = quantization.codes_of(features)
        return meaning.encode(features.astype(np.float32)), meaning
    step = np.full(features.shape[1], 1 / BYTE if _are_wide(inputs) else inputs.scale)  # (features,)
    return np.clip(np.rint(features / step), 0, BYTE), Codes(np.zeros_like(step), step)


def _are_wide(inputs: Inputs) -> bool:
    """Return whether the inputs are pixels of more than a byte."""
    return isinstance(inputs, Pixels) and inputs.largest > BYTE


def _whole(numbers: npt.NDArray[Any]) -> map[str]:
    """Return whole numbers as literals; -2**31, which C has none for, does not occur."""
    return map(str, numbers.ravel().tolist())

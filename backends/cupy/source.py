"""CUDA sources, and the compiler options that specialize them for a network; does not import CuPy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from itertools import accumulate, pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .. import losses
from ..activations import ACTIVATIONS, LEAKY_SLOPE, identity, leaky_relu, relu, sigmoid, tanh
from ..losses import Loss, parse_loss
from ..optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

# What the kernels know; a network with anything else is trained by the generic plan.
ACTIVATION_NAMES: dict[Callable[[Any, Any], Any], str] = {
    identity: "identity", relu: "relu", leaky_relu: "leaky_relu", tanh: "hyperbolic_tangent", sigmoid: "sigmoid",
}  # fmt: skip
LOSS_NAMES: dict[Loss, str] = {
    losses.softmax_cross_entropy: "softmax_cross_entropy", losses.sigmoid_cross_entropy: "sigmoid_cross_entropy",
    losses.squared_error: "of_outputs<squared_error>", losses.absolute_error: "of_outputs<absolute_error>",
    losses.huber: "of_outputs<huber>", losses.quantile: "of_outputs<quantile>",
    losses.poisson: "of_outputs<poisson>",
}  # fmt: skip
OPTIMIZER_NAMES = {SGD: "SGD", RMSprop: "RMSPROP", Adam: "ADAM", AdamW: "ADAM"}
PIXELS: dict[np.dtype[Any], str] = {
    np.dtype(name): name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
}
REALS: dict[np.dtype[Any], str] = {np.dtype(name): name for name in ("float32", "float64")}

# Settings that come with each step, whether they change or not: no kernel is compiled anew for other ones.
SETTINGS_OF_STEPS = ("learning_rate", "epsilon", "epsilon_hat")

EXACT_PARTS = 3  # bf16 numbers whose sum is a float32 number

INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


class KernelSpec(NamedTuple):
    """Compile-time parameters of the kernels.

    Attributes:
        sizes: features, units of each hidden layer, outputs.
        activation: of the hidden layers, a row of `ACTIVATIONS`.
        real: dtype of weights and arithmetic.
        pixel: dtype of the images.
        scale: factor of integer images.
        optimizer: the optimizer.
        parts: bf16 parts of a number on tensor cores; 0 for scalar arithmetic.
        loss: name of a loss, as in `parse_loss`.
        is_weighted: whether rows have weights.
    """

    sizes: tuple[int, ...]
    activation: str
    real: np.dtype[Any]
    pixel: np.dtype[Any]
    scale: float
    optimizer: Optimizer
    parts: int
    loss: str = "softmax_cross_entropy"
    is_weighted: bool = False

    @property
    def weights_at(self) -> list[int]:
        """Offsets of each layer's parameters in the buffer, and the total."""
        return list(accumulate(((n + 1) * m for n, m in pairwise(self.sizes)), initial=0))

    @property
    def outputs_at(self) -> list[int]:
        """Cumulative output counts: for l = 0, 1, ..., the outputs of layers 1 to l - 1."""
        return [0, *accumulate(self.sizes[1:], initial=0)]

    @property
    def arithmetic(self) -> str:
        """Description of the arithmetic of the first layer's products."""
        if not self.parts:
            return f"{self.real} arithmetic"
        return "exact bf16 parts on tensor cores" if self.parts == EXACT_PARTS else "bfloat16 on tensor cores"

    def macros(self) -> Iterator[tuple[str, object]]:
        """Yield the macros of device.cuh, activations.cuh, losses.cuh and optimizers.cuh."""
        yield "REAL", REALS[self.real]
        yield "PIXEL", (PIXELS | REALS)[self.pixel]
        yield "SCALE", repr(self.scale if self.pixel in PIXELS else 1.0)
        yield "LAYERS", len(self.sizes) - 1
        yield "LAYER_SIZES", _listed(self.sizes)
        yield "FEATURES", self.sizes[0]
        yield "UNITS", self.sizes[1]
        yield "WEIGHTS_AT", _listed(self.weights_at)
        yield "OUTPUTS_AT", _listed(self.outputs_at)
        yield "PARAMETERS", self.weights_at[-1]
        yield "ACTIVATION", ACTIVATION_NAMES[ACTIVATIONS[self.activation].forward]
        yield "LEAKY_SLOPE", LEAKY_SLOPE
        yield "PARTS", self.parts
        label, labels = labels_of(self.loss, self.sizes[-1])
        loss, parameter = parse_loss(self.loss)
        yield "LOSS", LOSS_NAMES[loss]
        yield "LOSS_PARAMETER", 0.0 if parameter is None else parameter
        yield "LABEL", label
        yield "LABELS", prod(labels)
        yield "WEIGHTED", int(self.is_weighted)
        yield OPTIMIZER_NAMES[type(self.optimizer)], 1
        settings = {"weight_decay": 0.0, **self.optimizer.settings()}
        for name, value in settings.items():
            if name in SETTINGS_OF_STEPS:
                continue
            yield name.upper(), int(value) if isinstance(value, bool) else repr(value)


def labels_of(loss: str, outputs: int) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape of a row's labels: a class, or one number per output."""
    return ("int64", ()) if parse_loss(loss)[0] is losses.softmax_cross_entropy else ("float64", (outputs,))


def options(network: KernelSpec, **macros: object) -> tuple[str, ...]:
    """Return the compiler options for a network and further macros of a source."""
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in (*network.macros(), *macros.items())))


@cache
def source(name: str) -> str:
    """Return a CUDA source with this package's headers inlined, each once.

    CuPy caches compiled kernels by a hash of source and options, which would miss changes to included headers.
    """
    included: set[str] = set()

    def expanded(name: str) -> str:
        included.add(name)
        text = (files(__package__) / "kernels" / name).read_text(encoding="utf-8").replace("#pragma once\n", "\n")
        lines = text.splitlines()
        parts = [f'#line 1 "{name}"']
        for number, line in enumerate(lines, start=1):
            match = INCLUDE.match(line)
            if match is None:
                parts.append(line)
            elif match[1] not in included:
                parts += [expanded(match[1]), f'#line {number + 1} "{name}"']
            else:
                parts.append("")
        return "\n".join(parts)

    return expanded(name)


def _listed(numbers: tuple[int, ...] | list[int]) -> str:
    return ",".join(map(str, numbers))

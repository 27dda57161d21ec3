"""Explanation of a network: its tensors and the formulas of a training step, with shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ...backends import ACTIVATIONS, Optimizer


class Line(NamedTuple):
    """A tensor or a formula.

    Attributes:
        name: name of the result.
        shape: its shape; `batch` stands for the number of rows.
        text: formula, or number of parameters.
    """

    name: str
    shape: str
    text: str


def tensors(sizes: Sequence[int]) -> list[Line]:
    """Return weights and biases with parameter counts, and the total."""
    lines, total = [], 0
    for k, (in_features, out_features) in enumerate(pairwise(sizes), start=1):
        lines.append(Line(f"weight{k}", f"({in_features}, {out_features})", f"{in_features * out_features:,}"))
        lines.append(Line(f"bias{k}", f"({out_features},)", f"{out_features:,}"))
        total += (in_features + 1) * out_features
    return [*lines, Line("parameters", "", f"{total:,}")]


def forward(sizes: Sequence[int], activation: str) -> list[Line]:
    """Return the forward pass, from images to loss."""
    depth, shown = len(sizes) - 1, ACTIVATIONS[activation].formula
    lines = [Line("x", f"(batch, {sizes[0]})", "images * scale, numbers in [0, 1]")]
    for k in range(1, depth + 1):
        z = "logits" if k == depth else f"z{k}"
        shape = f"(batch, {sizes[k]})"
        lines.append(Line(z, shape, f"{_input(k)} @ weight{k} + bias{k}"))
        if k < depth:
            lines.append(Line(f"y{k}", shape, f"{activation}(z{k}) = {_rename('x', f'z{k}', shown)}"))
    return [
        *lines,
        Line("probabilities", f"(batch, {sizes[-1]})", "exp(logits - max) / sum over classes of exp(logits - max)"),
        Line("loss", "()", "-mean over rows of log probabilities[label]"),
    ]


def backward(sizes: Sequence[int], activation: str) -> list[Line]:
    """Return the backward pass, from the loss to the gradient of every tensor."""
    depth = len(sizes) - 1
    lines = [Line("grad_logits", f"(batch, {sizes[-1]})", "(probabilities - one_hot(labels)) / batch")]
    for k in range(depth, 0, -1):
        grad_z = "grad_logits" if k == depth else f"grad_z{k}"
        lines.append(Line(f"grad_weight{k}", f"({sizes[k - 1]}, {sizes[k]})", f"{_input(k)}.T @ {grad_z}"))
        lines.append(Line(f"grad_bias{k}", f"({sizes[k]},)", f"sum over rows of {grad_z}"))
        if k > 1:
            shape = f"(batch, {sizes[k - 1]})"
            derivative = _rename("y", f"y{k - 1}", ACTIVATIONS[activation].derivative)
            lines.append(Line(f"grad_y{k - 1}", shape, f"{grad_z} @ weight{k}.T"))
            lines.append(Line(f"grad_z{k - 1}", shape, f"grad_y{k - 1} * ({derivative})"))
    return lines


def update(
    optimizer: Optimizer, *, l2: float = 0.0, schedule: str | Callable[[float], float] = "constant"
) -> Iterator[str]:
    """Return the formulas of the update of a parameter p with gradient g."""
    if l2:
        yield f"g <- g + {l2:g} p, for weights"
    formulas = optimizer.formulas()
    yield from formulas
    words = {word for formula in formulas for word in re.findall(r"\w+", formula)}
    settings = optimizer.settings()
    rate = settings.pop("learning_rate")
    used = "".join(f", {name} = {value:g}" for name, value in settings.items() if name in words)
    yield f"with lr = {rate:g}{used}" + ("; t counts the steps from 1" if "t" in words else "")
    if schedule != "constant":
        yield f"lr is multiplied by the schedule {schedule!r} as training goes on"


def _input(k: int) -> str:
    """Return the name of the input of layer `k`."""
    return "x" if k == 1 else f"y{k - 1}"


def _rename(old: str, new: str, formula: str) -> str:
    """Rename a variable in a formula, but not inside words."""
    return re.sub(rf"\b{old}\b", new, formula)

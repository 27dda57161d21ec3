"""Explanation of a network: its tensors and the formulas of a training step, with shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ...backends import ACTIVATIONS, Optimizer
from ...backends.losses import LOSS_PARAMETERS, parse_loss, row_of_loss


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


class End(NamedTuple):
    """Formulas behind the last layer.

    Attributes:
        outputs: name of the last layer's outputs.
        probabilities: formula of the probabilities; empty if there are none.
        loss: formula of the loss.
        gradient: gradient of the loss with respect to the outputs.
    """

    outputs: str
    probabilities: str
    loss: str
    gradient: str


ENDS = {
    "softmax_cross_entropy": End(
        "logits", "exp(logits - max) / sum over classes of exp(logits - max)",
        "-mean over rows of log probabilities[label]", "(probabilities - one_hot(labels)) / batch",
    ),
    "sigmoid_cross_entropy": End(
        "logits", "1 / (1 + exp(-logits))",
        "-mean over rows of the sum over labels of log(p where label is 1, else 1 - p), p being probabilities",
        "(probabilities - labels) / batch",
    ),
    "squared_error": End(
        "outputs", "",
        "mean over rows of the sum over outputs of (outputs - labels)^2 / 2", "(outputs - labels) / batch",
    ),
    "absolute_error": End(
        "outputs", "", "mean over rows of the sum over outputs of |outputs - labels|", "sign(outputs - labels) / batch",
    ),
    "huber": End(
        "outputs", "",
        "mean over rows of the sum over outputs of g (outputs - labels - g / 2), "
        "g being outputs - labels clipped to [-delta, delta]",
        "g / batch",
    ),
    "quantile": End(
        "outputs", "",
        "mean over rows of the sum over outputs of level (labels - outputs) where outputs < labels, "
        "else (1 - level) (outputs - labels)",
        "(-level where outputs < labels, else 1 - level) / batch",
    ),
    "poisson": End(
        "outputs", "",
        "mean over rows of the sum over outputs of exp(outputs) - labels - labels (outputs - log labels)",
        "(exp(outputs) - labels) / batch",
    ),
}  # fmt: skip


def end_of(loss: str) -> End:
    """Return the formulas of a loss, with the value of its parameter."""
    function, value = parse_loss(loss)
    end = ENDS[row_of_loss(loss)]
    if value is None:
        return end
    name = LOSS_PARAMETERS[function].name
    return End(*(_rename(name, f"{value:g}", formula) for formula in end))


def tensors(sizes: Sequence[int]) -> list[Line]:
    """Return weights and biases with parameter counts, and the total."""
    lines, total = [], 0
    for k, (in_features, out_features) in enumerate(pairwise(sizes), start=1):
        lines.append(Line(f"weight{k}", f"({in_features}, {out_features})", f"{in_features * out_features:,}"))
        lines.append(Line(f"bias{k}", f"({out_features},)", f"{out_features:,}"))
        total += (in_features + 1) * out_features
    return [*lines, Line("parameters", "", f"{total:,}")]


def forward(sizes: Sequence[int], activation: str, *, loss: str, rows: str) -> list[Line]:
    """Return the forward pass, from the rows, described in a line, to the loss."""
    depth, shown, end = len(sizes) - 1, ACTIVATIONS[activation].formula, end_of(loss)
    lines = [Line("x", f"(batch, {sizes[0]})", rows)]
    for k in range(1, depth + 1):
        z = end.outputs if k == depth else f"z{k}"
        shape = f"(batch, {sizes[k]})"
        lines.append(Line(z, shape, f"{_input(k)} @ weight{k} + bias{k}"))
        if k < depth:
            lines.append(Line(f"y{k}", shape, f"{activation}(z{k}) = {_rename('x', f'z{k}', shown)}"))
    if end.probabilities:
        lines.append(Line("probabilities", f"(batch, {sizes[-1]})", end.probabilities))
    return [*lines, Line("loss", "()", end.loss)]


def backward(sizes: Sequence[int], activation: str, *, loss: str) -> list[Line]:
    """Return the backward pass, from the loss to the gradient of every tensor."""
    depth, end = len(sizes) - 1, end_of(loss)
    lines = [Line(f"grad_{end.outputs}", f"(batch, {sizes[-1]})", end.gradient)]
    for k in range(depth, 0, -1):
        grad_z = f"grad_{end.outputs}" if k == depth else f"grad_z{k}"
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

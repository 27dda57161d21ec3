"""Interpretation of a network's outputs, determined by its loss.

A new loss has a row in `OUTPUTS`, beside its row in `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import DataError, log_softmax, look_up, softmax
from ...backends.activations import Array
from ...backends.losses import parse_loss, row_of_loss


@dataclass(frozen=True)
class Outputs:
    """Interpretation of outputs, and requirements on labels.

    Attributes:
        function: output function, from outputs to predictions: "softmax", "sigmoid", "identity" or "exp".
        check: checks labels, (samples,) or (samples, outputs), against the number of outputs.
        probabilities: function of namespace and outputs, (samples, outputs); None if they are not probabilities.
        log_probabilities: their logarithms, finite also where they round to 0.
        predict: function of namespace and outputs: classes, (samples,), or a number per output.
        has_classes: whether each row has one class, and outputs are the classes' logits.
        has_accuracy: whether accuracy is defined.
        has_coverage: whether predictions are quantiles, and coverage is defined.
    """

    function: str
    check: Callable[[npt.NDArray[Any], int], None]
    probabilities: Callable[[Any, Array], Array] | None
    log_probabilities: Callable[[Any, Array], Array] | None
    predict: Callable[[Any, Array], Array]
    has_classes: bool = False
    has_accuracy: bool = True
    has_coverage: bool = False

    @property
    def has_probabilities(self) -> bool:
        """Whether the outputs are probabilities."""
        return self.probabilities is not None


def check_classes(labels: npt.NDArray[Any], outputs: int) -> None:
    """Check that labels, (samples,), are integers in [0, outputs)."""
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise DataError(
            f"labels must be integers of shape (samples,), got {labels.dtype} of shape {labels.shape}: number the "
            'classes, or for numbers to predict take nn.MLP(..., loss="squared_error")'
        )
    if wrong := np.flatnonzero((labels < 0) | (labels >= outputs))[:1].tolist():
        raise DataError(f"labels must be in [0, {outputs}), got {labels[wrong[0]]} at row {wrong[0]}")


def check_numbers(labels: npt.NDArray[Any], outputs: int) -> None:
    """Check that labels, (samples, outputs), are finite."""
    if labels.ndim != 2 or labels.shape[1] != outputs or labels.dtype.kind not in "buif":
        hint = "; for one output pass labels[:, None], for classes take another loss" if labels.ndim == 1 else ""
        raise DataError(
            f"labels must be numbers of shape (samples, {outputs}), one for each output, got {labels.dtype} of shape "
            f"{labels.shape}{hint}"
        )
    if not (finite := np.isfinite(labels)).all():
        row, column = divmod(int(finite.argmin()), outputs)
        raise DataError(f"labels must be finite, got {labels[row, column]} at row {row}, column {column}: drop the row")


def check_not_negative(labels: npt.NDArray[Any], outputs: int) -> None:
    """Check that labels, (samples, outputs), are finite and at least 0."""
    check_numbers(labels, outputs)
    if (negative := labels < 0).any():
        row, column = divmod(int(negative.argmax()), outputs)
        raise DataError(
            f"labels of the loss poisson must be >= 0, got {labels[row, column]} at row {row}, column {column}: "
            "drop the row, or choose another loss"
        )


def check_indicators(labels: npt.NDArray[Any], outputs: int) -> None:
    """Check that labels, (samples, outputs), are 0 or 1."""
    check_numbers(labels, outputs)
    if not (known := (labels == 0) | (labels == 1)).all():
        row, column = divmod(int(known.argmin()), outputs)
        raise DataError(f"labels must be 0 or 1, got {labels[row, column]} at row {row}, column {column}")


def log_sigmoid(xp: Any, logits: Array) -> Array:
    """Return `log(1 / (1 + exp(-z)))` of any shape, as `min(z, 0) - log1p(exp(-|z|))`, without overflow."""
    return xp.where(logits < 0, logits, xp.zeros_like(logits)) - xp.log1p(xp.exp(-xp.abs(logits)))


def sigmoid(xp: Any, logits: Array) -> Array:
    """Return `1 / (1 + exp(-z))` of any shape, accurate to a few roundings also near 0, and without overflow."""
    e = xp.exp(-xp.abs(logits))
    return xp.where(logits < 0, e, xp.ones_like(e)) / (1 + e)


_NUMBERS = Outputs("identity", check_numbers, None, None, lambda xp, outputs: outputs, has_accuracy=False)  # noqa: ARG005

OUTPUTS: dict[str, Outputs] = {
    "softmax_cross_entropy": Outputs(
        "softmax", check_classes, softmax, log_softmax,
        lambda xp, logits: xp.astype(xp.argmax(logits, axis=1), xp.int64), has_classes=True,
    ),
    "sigmoid_cross_entropy": Outputs(
        "sigmoid", check_indicators, sigmoid, log_sigmoid, lambda xp, logits: xp.astype(logits > 0, xp.int64)
    ),
    "squared_error": _NUMBERS,
    "absolute_error": _NUMBERS,
    "huber": _NUMBERS,
    "quantile": replace(_NUMBERS, has_coverage=True),
    "poisson": Outputs("exp", check_not_negative, None, None, lambda xp, outputs: xp.exp(outputs), has_accuracy=False),
}  # fmt: skip


def outputs_of(loss: str) -> Outputs:
    """Return the interpretation of the outputs of a network by the name of its loss.

    Raises:
        ConfigError: there is no such loss, or its parameter is invalid.
    """
    parse_loss(loss)
    return look_up("loss", row_of_loss(loss), OUTPUTS)

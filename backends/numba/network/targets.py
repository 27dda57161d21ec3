"""Targets of the training rows, and the loss of a row by them.

Two kinds of targets, and one function: the compiler chooses by their type, so that classes cost no more to compile than
if there were nothing else. Which of the losses that take numbers is a number, and one compilation does for both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ... import losses
from ...losses import LOSSES
from ...plan import Rows
from ..compiler.compile import chosen_by_kind
from ..compiler.lane_types import Width
from .network import Matrix
from .output_losses import SIGMOID, SQUARED, OutputTargets, output_loss_row
from .softmax_loss import softmax_cross_entropy_row

SOFTMAX = -1

# The key is the function, not the name: a row that a user put in place of ours is not ours.
_CODES: dict[Any, int] = {
    losses.softmax_cross_entropy: SOFTMAX,
    losses.sigmoid_cross_entropy: SIGMOID,
    losses.squared_error: SQUARED,
}


class ClassTargets(NamedTuple):
    """A class for each row, the target of softmax and cross-entropy.

    Attributes:
        labels: (samples,) int64.
        weights: how much each row counts, (samples,) float64; (0,) for 1 each.
    """

    labels: Any
    weights: Any


Targets = ClassTargets | OutputTargets


def loss_code(name: str) -> int | None:
    """Return what the kernels call the loss `name`; None if they do not know it."""
    return _CODES.get(LOSSES[name])


def are_targets(rows: Rows, loss: str, outputs: int) -> bool:
    """Whether labels and weights are of the types and shapes that the kernels read unchecked, for so many outputs."""
    samples, labels, weights, code = len(rows.images), rows.labels, rows.weights, loss_code(loss)
    dtype, shape = (np.int64, (samples,)) if code == SOFTMAX else (np.float64, (samples, outputs))
    is_known = code is not None and labels.dtype == dtype and labels.shape == shape
    return is_known and labels.flags.c_contiguous and (weights is None or weights.shape == (samples,))


def targets_of(rows: Rows, loss: str) -> Targets:
    """Return the targets of rows that `are_targets`: the labels where they are, and a copy of the weights."""
    code, weights = loss_code(loss), np.array([] if rows.weights is None else rows.weights, dtype=np.float64)
    assert code is not None
    return ClassTargets(rows.labels, weights) if code == SOFTMAX else OutputTargets(code, rows.labels.ravel(), weights)


def _loss_of_class(
    targets: ClassTargets, sample: int, logits: Matrix, grad: Matrix, row: int, classes: int, size: float, lanes: Width
) -> tuple[float, bool]:
    weight = targets.weights[sample] if targets.weights.shape[0] > 0 else 1.0
    label = targets.labels[sample]
    loss, is_right = softmax_cross_entropy_row(logits, grad, row, label, classes, weight, size, lanes)
    return weight * loss, is_right


def _loss_of_outputs(
    targets: OutputTargets, sample: int, logits: Matrix, grad: Matrix, row: int, outputs: int, size: float, lanes: Width
) -> tuple[float, bool]:
    weight = targets.weights[sample] if targets.weights.shape[0] > 0 else 1.0
    loss, is_right = output_loss_row(targets, sample, logits, grad, row, outputs, weight / size, lanes)
    return weight * loss, is_right


@chosen_by_kind({ClassTargets: _loss_of_class, OutputTargets: _loss_of_outputs})
def loss_of_row(
    targets: Targets, sample: int, logits: Matrix, grad: Matrix, row: int, outputs: int, size: float, lanes: Width
) -> tuple[float, bool]:
    """Write the gradient of the mean loss for one sample; return its loss, times its weight, and whether it is right.

    Args:
        targets: of all samples.
        sample: which of them.
        logits: the last layer's output, (rows, outputs with padding).
        grad: result, alike.
        row: the sample's row in both.
        outputs: how many there are without padding.
        size: what the mean is over.
        lanes: one register.
    """
    raise NotImplementedError

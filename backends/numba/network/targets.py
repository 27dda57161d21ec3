"""Targets of the training rows, and the loss of a row by them.

Two kinds of targets, and one function: the compiler chooses by their type, so that classes cost no more to compile than
if there were nothing else. Which of the losses that take numbers is a number, and one compilation does for both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ... import losses
from ...losses import parse_loss
from ...plan import Rows, TrainingJob
from ..compiler.compile import chosen_by_kind
from ..compiler.lane_types import Width
from ..compiler.lanes import count_of, item, like, load, positions, store, where_less
from .network import Matrix, place_of
from .output_losses import ABSOLUTE, HUBER, POISSON, QUANTILE, SIGMOID, SQUARED, OutputTargets, output_loss_row
from .softmax_loss import softmax_cross_entropy_row

SOFTMAX = -1

# The key is the function, not the name: a row that a user put in place of ours is not ours.
_CODES: dict[Any, int] = {
    losses.softmax_cross_entropy: SOFTMAX,
    losses.sigmoid_cross_entropy: SIGMOID,
    losses.squared_error: SQUARED,
    losses.absolute_error: ABSOLUTE,
    losses.huber: HUBER,
    losses.quantile: QUANTILE,
    losses.poisson: POISSON,
}


class ClassTargets(NamedTuple):
    """A class for each row, the target of softmax and cross-entropy.

    Attributes:
        labels: (samples,) int64.
        weights: how much each row counts, (samples,) float64; (0,) for 1 each.
    """

    labels: Any
    weights: Any


class SmoothedTargets(NamedTuple):
    """Classes as `ClassTargets` has them, with a share of each target that all classes have evenly.

    Attributes:
        labels: (samples,) int64.
        weights: (samples,) float64; (0,) for 1 each.
        label_smoothing: the share, in (0, 1).
    """

    labels: Any
    weights: Any
    label_smoothing: float


Targets = ClassTargets | SmoothedTargets | OutputTargets


def loss_code(name: str) -> int | None:
    """Return what the kernels call the loss `name`; None if they do not know it."""
    return _CODES.get(parse_loss(name)[0])


def are_targets(rows: Rows, loss: str, outputs: int) -> bool:
    """Whether labels and weights are of the types and shapes that the kernels read unchecked, for so many outputs."""
    samples, labels, weights, code = rows.images.shape[0], rows.labels, rows.weights, loss_code(loss)
    dtype, shape = (np.int64, (samples,)) if code == SOFTMAX else (np.float64, (samples, outputs))
    is_known = code is not None and labels.dtype == dtype and labels.shape == shape
    return is_known and labels.flags.c_contiguous and (weights is None or weights.shape == (samples,))


def targets_of(job: TrainingJob) -> Targets:
    """Return the targets of a job whose rows `are_targets`: the labels where they are, and a copy of the weights."""
    code, labels, weights = loss_code(job.loss), job.rows.labels, job.rows.weights
    weights = np.array([] if weights is None else weights, dtype=np.float64)
    assert code is not None
    if code != SOFTMAX:
        return OutputTargets(code, parse_loss(job.loss)[1] or 0.0, labels.ravel(), weights)
    label_smoothing = float(job.options.label_smoothing)
    return SmoothedTargets(labels, weights, label_smoothing) if label_smoothing else ClassTargets(labels, weights)


def _loss_of_class(
    targets: ClassTargets, sample: int, logits: Matrix, grad: Matrix, row: int, classes: int, size: float, lanes: Width
) -> tuple[float, bool]:
    weight = targets.weights[sample] if targets.weights.shape[0] > 0 else 1.0
    label = targets.labels[sample]
    loss, is_right = softmax_cross_entropy_row(logits, grad, row, label, classes, weight, size, lanes)
    return weight * loss, is_right


def _loss_of_smoothed(
    targets: SmoothedTargets, sample: int, logits: Matrix, grad: Matrix, row: int, classes: int, size: float,
    lanes: Width,
) -> tuple[float, bool]:  # fmt: skip
    """See `losses.smoothed`."""
    weight = targets.weights[sample] if targets.weights.shape[0] > 0 else 1.0
    label = targets.labels[sample]
    loss, is_right = softmax_cross_entropy_row(logits, grad, row, label, classes, weight, size, lanes)
    zero = like(load(logits.buffer, logits.at, lanes), 0)
    end, hot = like(zero, classes), like(zero, label)
    of_others = -targets.label_smoothing / classes
    of_own = targets.label_smoothing + of_others
    other, own = like(zero, weight * of_others / size), like(zero, weight * of_own / size)
    for panel in range(-(-classes // count_of(zero))):
        column = positions(zero) + like(zero, panel * count_of(zero))
        at = place_of(grad, row, panel * count_of(zero))
        away = where_less(column, hot, other, where_less(hot, column, other, own))
        store(grad.buffer, at, load(grad.buffer, at, lanes) + where_less(column, end, away, zero))
    for c in range(classes):
        z = np.float64(item(logits.buffer, place_of(logits, row, c)))
        loss += (of_own if c == label else of_others) * z
    return weight * loss, is_right


def _loss_of_outputs(
    targets: OutputTargets, sample: int, logits: Matrix, grad: Matrix, row: int, outputs: int, size: float, lanes: Width
) -> tuple[float, bool]:
    weight = targets.weights[sample] if targets.weights.shape[0] > 0 else 1.0
    loss, is_right = output_loss_row(targets, sample, logits, grad, row, outputs, weight / size, lanes)
    return weight * loss, is_right


@chosen_by_kind({ClassTargets: _loss_of_class, SmoothedTargets: _loss_of_smoothed, OutputTargets: _loss_of_outputs})
def loss_of_row(
    targets: Targets, sample: int, logits: Matrix, grad: Matrix, row: int, outputs: int, size: float, lanes: Width
) -> tuple[float, bool]:
    """Write the gradient of the mean loss for one sample; return its loss, times its weight, and whether it is right.

    Args:
        targets: of all samples.
        sample: which of them.
        logits: the last layer's output, (rows, outputs with padding).
        grad: result, alike; 0 in the padding.
        row: the sample's row in both.
        outputs: how many there are without padding.
        size: what the mean is over.
        lanes: one register.
    """
    raise NotImplementedError

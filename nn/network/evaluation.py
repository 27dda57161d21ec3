"""Evaluation of a network: loss and accuracy."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ...backends import DataError, log_softmax
from ..datasets.dataset import Split
from .mlp import MLP


class LossAndAccuracy(NamedTuple):
    """The figures that an `Evaluation` unpacks to."""

    loss: float
    accuracy: float | None


class Evaluation(LossAndAccuracy):
    """Loss and accuracy on some rows: `loss, accuracy = nn.evaluate(net, rows)`. A regression has more figures.

    Attributes:
        loss: mean loss, in nats for a cross-entropy; of standardized labels for a regression with a `Target`.
        accuracy: fraction of correctly classified rows, in [0, 1]; None for regression.
        r2: coefficient of determination of a regression, mean over its outputs; None for others, and NaN if all labels
            of the rows are equal.
        mean_absolute_error: of a regression, in the labels' units, mean over its outputs; None for others.
        coverage: fraction of labels at or below their prediction, mean over the outputs, of the loss "quantile", whose
            level it should be; None for others.
    """

    r2: float | None = None
    mean_absolute_error: float | None = None
    coverage: float | None = None

    def __new__(
        cls,
        loss: float,
        accuracy: float | None,
        r2: float | None = None,
        mean_absolute_error: float | None = None,
        coverage: float | None = None,
    ) -> Self:
        """Return the figures."""
        self = super().__new__(cls, loss, accuracy)
        self.r2, self.mean_absolute_error, self.coverage = r2, mean_absolute_error, coverage
        return self

    def __repr__(self) -> str:
        if self.mean_absolute_error is None:
            return super().__repr__()
        coverage = "" if self.coverage is None else f", coverage={self.coverage}"
        return f"Evaluation(loss={self.loss}, r2={self.r2}, mean_absolute_error={self.mean_absolute_error}{coverage})"


def evaluate(net: MLP, rows: Split) -> Evaluation:
    """Evaluate loss and accuracy of a network on labelled rows.

    Args:
        net: the network.
        rows: images (samples, columns) and labels for the network's loss; weights are ignored. Columns and classes are
            found by their names, if both have names.

    Raises:
        DataError: there are no rows, or they do not fit the network.
    """
    rows = held_rows(net, rows)
    totals = net.backend.evaluate(net.layers, net.place(replace(rows, weights=None)), loss=net.loss)
    if net.outputs.has_accuracy:
        return Evaluation(totals.loss, totals.accuracy)
    predictions = net.predict(rows)  # (samples, outputs)
    coverage = float(np.mean(rows.labels <= predictions)) if net.outputs.has_coverage else None
    return Evaluation(totals.loss, None, *evaluate_predictions(predictions, rows.labels), coverage)


def evaluate_predictions(predictions: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the coefficient of determination and the mean absolute error of a regression, means over its outputs.

    Args:
        predictions: (samples, outputs), at least one row.
        labels: (samples, outputs), in the same units.
    """
    errors = predictions.astype(np.float64) - labels  # (samples, outputs)
    spread = np.square(labels - labels.mean(axis=0)).sum(axis=0)  # (outputs,)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = 1 - np.square(errors).sum(axis=0) / spread  # (outputs,)
    varies = (labels != labels[0]).any(axis=0)  # (outputs,); the spread of equal labels is rounding
    return float(np.where(varies, r2, np.nan).mean()), float(np.abs(errors).mean())


def evaluate_logits(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return mean cross-entropy in nats and accuracy from logits.

    Args:
        logits: (samples, classes), at least one row.
        labels: (samples,), in [0, classes).
    """
    log_probabilities = log_softmax(np, logits.astype(np.float64))  # (samples, classes)
    loss = -float(np.mean(log_probabilities[np.arange(len(labels)), labels]))
    return loss, float(np.mean(logits.argmax(axis=1) == labels))


def held_rows(net: MLP, rows: Split) -> Split:
    """Check that rows fit the network, and return them in the meaning of its inputs.

    Raises:
        DataError: there are no rows, or shapes, columns, classes or labels do not fit.
    """
    if not isinstance(rows, Split):
        raise DataError(f"rows must be an nn.Split of images and labels, got {type(rows).__name__}: make one")
    with rows.origin.located() if rows.origin else nullcontext():
        return _held(net, rows)


def _held(net: MLP, rows: Split) -> Split:
    """See `held_rows`; messages name rows by their index."""
    images, labels = rows.images, rows.labels
    width = net.features if net.inputs is None else net.inputs.width or net.features
    if images.ndim != 2 or (rows.inputs is None and not rows.names and images.shape[1] != width):
        raise DataError(f"images must have shape (samples, {width}), got {images.shape}")
    if labels.shape[:1] != images.shape[:1]:
        raise DataError(f"labels must have shape ({images.shape[0]},), one for each image, got {labels.shape}")
    if images.dtype.kind not in "uif":
        raise DataError(f"images must be numbers, got {images.dtype}: convert with images.astype('float32')")
    if len(labels) == 0:
        raise DataError("there are no rows to work on; pass at least one image with its label")
    rows.facts.renew()  # a caller may have written to the rows since
    held = net.hold(rows)
    assert held.inputs is not None
    held.inputs.check(held.images, held.facts, net.dtype)
    net.outputs.check(held.labels, net.num_outputs)
    if held.weights is not None:
        check_weights(held.weights, len(labels))
    return held


def check_weights(weights: npt.NDArray[Any], count: int) -> None:
    """Check that weights, (samples,), are finite, not negative, and have a finite sum.

    Raises:
        DataError: they are invalid.
    """
    if weights.shape != (count,) or weights.dtype.kind not in "uif":
        raise DataError(f"weights must be numbers of shape ({count},), got {weights.dtype} of shape {weights.shape}")
    if not (is_weight := np.isfinite(weights) & (weights >= 0)).all():
        row = int(is_weight.argmin())
        raise DataError(f"weights must be finite and at least 0, got {weights[row]} at row {row}: drop the row")
    with np.errstate(over="ignore"):
        if not np.isfinite(weights.sum(dtype=np.float64)):
            raise DataError(f"weights must have a finite sum, got up to {weights.max()}: divide them by their largest")

"""Classification metrics: confusion matrix, precision, recall, F1, and calibration."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DataError
from ...backends.constraints import is_whole, shown

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
ROUNDING = 1e-3  # by which probabilities in half precision may miss a sum of 1
MAX_BINS = 10_000


class ClassScores(NamedTuple):
    """Metrics of each class.

    Attributes:
        precision: true positives / predicted positives, (classes,); NaN without predictions of the class.
        recall: true positives / rows of the class, (classes,); NaN without rows of the class.
        f1: harmonic mean of both, (classes,): 0 without true positives; NaN if the class has neither rows nor
            predictions.
        support: rows of the class, (classes,).
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: Counts


class Calibration(NamedTuple):
    """Calibration: confidence against accuracy.

    Attributes:
        error: expected calibration error, in [0, 1].
        confidence: mean probability of the predicted class in each bin, (bins,); NaN for an empty bin.
        accuracy: accuracy in each bin, (bins,); NaN for an empty bin.
        rows: rows in each bin, (bins,); bin k covers probabilities in (k / bins, (k + 1) / bins].
    """

    error: float
    confidence: Floats
    accuracy: Floats
    rows: Counts


def confusion_matrix(labels: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> Counts:
    """Count rows by true class and predicted class.

    Args:
        labels: true classes, (samples,), integers in [0, num_classes).
        predictions: predicted classes, (samples,), likewise.
        num_classes: number of classes.

    Returns:
        (num_classes, num_classes), true classes down the rows.

    Raises:
        DataError: the lengths differ, or a value is not a class.
        ConfigError: `num_classes` is not an integer of at least 1.
    """
    if not is_whole(num_classes, least=1):
        raise ConfigError(f"num_classes must be a whole number >= 1, got {shown(num_classes)}")
    true, predicted = _classes(labels, "labels", num_classes), _classes(predictions, "predictions", num_classes)
    if len(true) != len(predicted):
        raise DataError(f"there must be one prediction a label, got {len(predicted)} for {len(true)} labels")
    cells = true * num_classes + predicted  # (samples,)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def precision_recall(matrix: npt.ArrayLike) -> ClassScores:
    """Return precision, recall, F1 and support of each class.

    Undefined values are NaN, not 0: an absent class is not a failure. `np.nanmean` averages over the others.

    Args:
        matrix: counts, (true class, predicted class), from `confusion_matrix`.

    Raises:
        DataError: it is not square, or contains anything but counts.
    """
    counts = np.asarray(matrix)  # (classes, classes)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise DataError(f"a confusion matrix must be (classes, classes), a row a true class; got shape {counts.shape}")
    if counts.dtype.kind not in "ui" or counts.min() < 0:
        raise DataError("a confusion matrix must hold counts, whole numbers from 0: make it with nn.confusion_matrix")
    right = np.diagonal(counts).astype(np.int64)  # (classes,)
    support, predicted = counts.sum(axis=1, dtype=np.int64), counts.sum(axis=0, dtype=np.int64)  # (classes,) each
    return ClassScores(
        _shares(right, predicted), _shares(right, support), _shares(2 * right, support + predicted), support
    )


def calibration_error(probabilities: npt.ArrayLike, labels: npt.ArrayLike, *, bins: int = 15) -> Calibration:
    """Return the expected calibration error, and its bins for a reliability diagram.

    Rows are binned by confidence, the probability of the predicted class, in bins of equal width. The error is the
    mean over all rows of abs(accuracy - mean confidence) of their bin. Source: Guo, Pleiss, Sun and Weinberger 2017,
    equations 2 to 4.

    Args:
        probabilities: class probabilities, (samples, classes), at least one row; rows sum to 1.
        labels: true classes, (samples,), integers in [0, classes).
        bins: number of bins; 15 in the paper.

    Raises:
        DataError: the shapes do not match, or a value is not a probability or not a class.
        ConfigError: `bins` is not an integer in [1, 10000].
    """
    if not is_whole(bins, least=1) or bins > MAX_BINS:
        raise ConfigError(f"bins must be a whole number in [1, {MAX_BINS}], got {shown(bins)}: 15 is usual")
    values = np.asarray(probabilities)  # (samples, classes)
    if values.ndim != 2 or not values.size or values.dtype.kind != "f":
        raise DataError(
            f"probabilities must be floating numbers of shape (samples, classes), got {values.dtype} of shape "
            f"{values.shape}: pass net.predict_proba(images)"
        )
    true = _classes(labels, "labels", values.shape[1])  # (samples,)
    if len(true) != len(values):
        raise DataError(f"there must be one row of probabilities a label, got {len(values)} for {len(true)} labels")
    sums = values.sum(axis=1, dtype=np.float64)  # (samples,)
    is_right_sum = (np.abs(sums - 1) <= ROUNDING) & (values >= 0).all(axis=1)  # false for NaN too
    if not is_right_sum.all():
        row = int(is_right_sum.argmin())
        raise DataError(
            f"probabilities must be >= 0 and sum to 1, got a sum of {sums[row]:.6g} and a least of "
            f"{values[row].min():.6g} at row {row}: pass net.predict_proba(images), not logits"
        )
    confidence = np.minimum(values.max(axis=1), 1).astype(np.float64)  # (samples,)
    is_right = values.argmax(axis=1) == true  # (samples,)
    edges = np.linspace(0, 1, int(bins) + 1)[1:-1]  # (bins - 1,), between the bins
    bin_of = np.searchsorted(edges, confidence)  # (samples,); a confidence on an edge is in the bin below it
    rows = np.bincount(bin_of, minlength=int(bins))  # (bins,)
    sum_confidence = np.bincount(bin_of, weights=confidence, minlength=int(bins))  # (bins,)
    sum_right = np.bincount(bin_of, weights=is_right, minlength=int(bins))  # (bins,)
    error = float(np.abs(sum_right - sum_confidence).sum() / len(values))
    return Calibration(error, _shares(sum_confidence, rows), _shares(sum_right, rows), rows)


def _shares(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    """Divide (n,) by (n,), with NaN for division by 0."""
    shares = np.full(len(whole), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _classes(given: npt.ArrayLike, what: str, num_classes: int) -> Counts:
    """Return class numbers as int64, (samples,)."""
    values = np.asarray(given)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "ui"):
        raise DataError(f"{what} must be whole numbers of shape (samples,), got {values.dtype} of shape {values.shape}")
    outside = (values < 0) | (values >= num_classes)  # (samples,)
    if outside.any():
        at = int(outside.argmax())
        raise DataError(f"{what} must be in [0, {num_classes}), got {values[at]} at row {at}: correct or drop the row")
    return values.astype(np.int64)

"""How good a network is on given rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import DataError, log_softmax
from .argument_checks import refuse_not_finite
from .datasets.dataset import Split
from .mlp import MLP


class Evaluation(NamedTuple):
    """Figures of a network on some rows.

    Attributes:
        loss: mean cross-entropy of a row, nats.
        accuracy: share of rows that are classified correctly, in [0, 1].
    """

    loss: float
    accuracy: float


def evaluate(net: MLP, rows: Split) -> Evaluation:
    """Return loss and accuracy of the network on labelled rows.

    Args:
        net: the network.
        rows: images (samples, features) and labels (samples,).

    Raises:
        DataError: there are no rows, or they do not fit the network.
    """
    check_rows(net, rows)
    placed = net.backend.place(rows.images, rows.labels, net.input_scale)
    totals = net.backend.evaluate(net.layers, placed)
    return Evaluation(totals.loss, totals.accuracy)


def evaluate_logits(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> Evaluation:
    """Return loss and accuracy out of logits that are there already.

    Args:
        logits: (samples, classes), at least one row.
        labels: (samples,), in [0, classes).
    """
    log_probabilities = log_softmax(np, logits.astype(np.float64))  # (samples, classes)
    loss = -float(np.mean(log_probabilities[np.arange(len(labels)), labels]))
    return Evaluation(loss, float(np.mean(logits.argmax(axis=1) == labels)))


def confusion_matrix(
    labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], num_classes: int
) -> npt.NDArray[np.int64]:
    """Count rows by true class and predicted class: (num_classes, num_classes), true classes down the rows."""
    cells = labels * num_classes + predictions  # (samples,)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def check_rows(net: MLP, rows: Split) -> None:
    """Refuse rows that do not fit the network, before anything is placed on the device.

    Raises:
        DataError: there are no rows, or shapes or labels do not fit.
    """
    if not isinstance(rows, Split):
        raise DataError(f"rows must be an nn.Split of images and labels, got {type(rows).__name__}: make one")
    images, labels = rows.images, rows.labels
    if images.ndim != 2 or images.shape[1] != net.features:
        raise DataError(f"images must have shape (samples, {net.features}), got {images.shape}")
    if labels.shape != (len(images),):
        raise DataError(f"labels must have shape ({len(images)},), one for each image, got {labels.shape}")
    if images.dtype.kind not in "uif" or labels.dtype.kind not in "ui":
        raise DataError(f"images must be numbers and labels integers, got {images.dtype} and {labels.dtype}")
    if len(labels) == 0:
        raise DataError("there are no rows to work on; pass at least one image with its label")
    refuse_not_finite(images, net.dtype)
    if wrong := np.flatnonzero((labels < 0) | (labels >= net.num_classes))[:1].tolist():
        raise DataError(f"labels must be in [0, {net.num_classes}), got {labels[wrong[0]]} at row {wrong[0]}")

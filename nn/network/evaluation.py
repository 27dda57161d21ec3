"""Evaluation of a network: loss and accuracy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...backends import DataError, log_softmax
from ..datasets.dataset import Split
from ..inputs.arguments import refuse_not_finite
from .mlp import MLP


class Evaluation(NamedTuple):
    """Loss and accuracy on some rows.

    Attributes:
        loss: mean loss, in nats for a cross-entropy.
        accuracy: fraction of correctly classified rows, in [0, 1]; None for regression.
    """

    loss: float
    accuracy: float | None


def evaluate(net: MLP, rows: Split) -> Evaluation:
    """Evaluate loss and accuracy of a network on labelled rows.

    Args:
        net: the network.
        rows: images (samples, features) and labels for the network's loss; weights are ignored.

    Raises:
        DataError: there are no rows, or they do not fit the network.
    """
    check_rows(net, rows)
    placed = net.backend.place(rows.images, rows.labels, net.input_scale)
    totals = net.backend.evaluate(net.layers, placed, loss=net.loss)
    return Evaluation(totals.loss, totals.accuracy if net.outputs.has_accuracy else None)


def evaluate_logits(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return mean cross-entropy in nats and accuracy from logits.

    Args:
        logits: (samples, classes), at least one row.
        labels: (samples,), in [0, classes).
    """
    log_probabilities = log_softmax(np, logits.astype(np.float64))  # (samples, classes)
    loss = -float(np.mean(log_probabilities[np.arange(len(labels)), labels]))
    return loss, float(np.mean(logits.argmax(axis=1) == labels))


def check_rows(net: MLP, rows: Split) -> None:
    """Check that rows fit the network, before anything is copied to the device.

    Raises:
        DataError: there are no rows, or shapes or labels do not fit.
    """
    if not isinstance(rows, Split):
        raise DataError(f"rows must be an nn.Split of images and labels, got {type(rows).__name__}: make one")
    images, labels = rows.images, rows.labels
    if images.ndim != 2 or images.shape[1] != net.features:
        raise DataError(f"images must have shape (samples, {net.features}), got {images.shape}")
    if labels.shape[:1] != (len(images),):
        raise DataError(f"labels must have shape ({len(images)},), one for each image, got {labels.shape}")
    if images.dtype.kind not in "uif":
        raise DataError(f"images must be numbers, got {images.dtype}: convert with images.astype('float32')")
    if len(labels) == 0:
        raise DataError("there are no rows to work on; pass at least one image with its label")
    rows.facts.renew()  # a caller may have written to the rows since
    if not rows.facts.are_finite_in(net.dtype):
        refuse_not_finite(images, net.dtype)
    net.outputs.check(labels, net.num_outputs)
    if rows.weights is not None:
        check_weights(rows.weights, len(images))


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

"""Loss and score of a network on validation rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import r2_score

from ...backends import get_backend
from ..datasets.dataset import Split
from ..network.mlp import MLP

SCORED_BY_R2 = ("squared_error", "poisson")  # which predict the mean


class Evaluated(NamedTuple):
    """Weighted loss and score on some rows.

    Attributes:
        loss: mean loss of the network, without the penalty.
        score: accuracy; for regression R^2, or minus the loss where the loss is not minimal at the mean. NaN if the
            outputs are not finite or all weights are 0.
    """

    loss: float
    score: float


def evaluated(net: MLP, rows: Split) -> Evaluated:
    """Evaluate a network on rows with optional weights."""
    labels, weights = rows.labels, rows.weights
    total = float(len(rows) if weights is None else weights.sum())
    with np.errstate(all="ignore"):
        outputs = net.backend.logits(net.layers, rows.images, 1.0)  # (samples, outputs)
        loss_sum, *_ = get_backend("numpy").loss(outputs, labels, loss=net.loss, batch_size=total, weights=weights)
        loss = float(loss_sum) / total if total else np.nan
    if not (total and np.isfinite(outputs).all()):
        return Evaluated(loss, np.nan)
    if not (net.outputs.has_accuracy or net.loss in SCORED_BY_R2):
        return Evaluated(loss, -loss)
    if not net.outputs.has_accuracy:
        predictions = net.outputs.predict(np, outputs)  # (samples, outputs)
        is_finite = bool(np.isfinite(predictions).all())
        return Evaluated(loss, float(r2_score(labels, predictions, sample_weight=weights)) if is_finite else np.nan)
    is_right = outputs.argmax(axis=1) == labels if labels.ndim == 1 else ((outputs > 0) == labels).all(axis=1)
    return Evaluated(loss, float(np.average(is_right, weights=weights)))

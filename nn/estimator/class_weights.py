"""Class weights with the semantics of scikit-learn's `compute_sample_weight`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.class_weight import compute_class_weight

Weights = npt.NDArray[np.float64]


def class_weights(
    class_weight: Any, labels: npt.NDArray[Any], classes: npt.NDArray[Any], *, is_multilabel: bool
) -> Weights:
    """Return the weight of each class, (1, classes), or of absence and presence of each label, (labels, 2).

    Args:
        class_weight: "balanced", or a mapping from class to weight; for multi-label targets "balanced", or a mapping
            from 0 and 1 for each label.
        labels: labels of the training rows, (samples,) or (samples, outputs).
        classes: the classes, (classes,); of multi-label targets the labels.
        is_multilabel: whether each column of `labels` is a label of its own.

    Raises:
        ValueError: the weights do not match the classes, or a weight is negative or not finite.
    """
    columns = _columns(labels)  # (samples, columns)
    is_list = isinstance(class_weight, list)
    if class_weight != "balanced" and (is_list != is_multilabel or (is_list and len(class_weight) != len(classes))):
        wanted = f"a list of {len(classes)} dicts, one a label," if is_multilabel else "a dict"
        raise ValueError(f"class_weight must be 'balanced' or {wanted} for these targets, got {class_weight!r:.80}")
    each = class_weight if is_list else [class_weight] * columns.shape[1]
    weights = np.ones((columns.shape[1], 2 if is_multilabel else len(classes)))
    for of_column, column, own in zip(weights, columns.T, each, strict=True):
        present = np.unique(column) if is_multilabel else np.arange(len(classes))
        names = present if is_multilabel else classes
        of_column[present] = compute_class_weight(own, classes=names, y=names[np.searchsorted(present, column)])
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"class_weight must be finite and at least 0, got {class_weight!r:.80}")
    return weights


def weights_of_rows(weights: Weights, labels: npt.NDArray[Any]) -> Weights:
    """Return the weight of each row, (samples,): the product over its labels."""
    columns = _columns(labels)  # (samples, columns)
    product: Weights = np.prod([of_class[column] for of_class, column in zip(weights, columns.T, strict=True)], axis=0)
    return product


def _columns(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return labels as (samples, columns) of integers."""
    return labels.reshape(len(labels), -1).astype(np.int64)

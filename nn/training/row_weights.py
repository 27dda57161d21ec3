"""Row weights: the product of own weight and class weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError
from ...backends.constraints import is_finite_number, shown
from ...backends.lookup import did_you_mean
from ..datasets.dataset import Split
from ..network.mlp import MLP

ClassWeight = (
    str | Mapping[Any, float] | Sequence[float] | npt.NDArray[Any]
)  # "balanced", class -> weight, or a weight for each class


def class_weights(
    net: MLP, rows: Split, class_weight: ClassWeight | None, names: Sequence[str]
) -> npt.NDArray[np.float64] | None:
    """Return the weight of each class, (classes,); None for equal weights.

    Args:
        net: the network; softmax cross-entropy is required with `class_weight`.
        rows: training rows with classes as labels.
        class_weight: "balanced" for `samples / (classes * rows of the class)` (King and Zeng 2001); or class weights by
            name, by index for classes without names, or as a sequence.
        names: class names, or empty.

    Raises:
        ConfigError: the weights do not match the network's classes.
    """
    if class_weight is None:
        return None
    if not net.outputs.has_classes:
        raise ConfigError(f"class_weight needs rows of one class each, got loss={net.loss}: pass weights of rows")
    is_balanced = isinstance(class_weight, str) and class_weight == "balanced"
    return _balanced(rows.labels, net.num_outputs) if is_balanced else _given(class_weight, net.num_outputs, names)


def row_weights(
    rows: Split, of_classes: npt.NDArray[np.float64] | None, what: str = "training rows"
) -> npt.NDArray[np.float64] | None:
    """Return the weight of each row, (samples,), given those of the classes, (classes,); None for equal weights.

    Raises:
        ConfigError: the sum of the weights is 0 or not finite.
    """
    own = None if rows.weights is None else rows.weights.astype(np.float64)
    if of_classes is None:
        return own
    weights: npt.NDArray[np.float64] = of_classes[rows.labels]  # (samples,)
    if own is not None:
        with np.errstate(over="ignore"):
            weights = weights * own
    with np.errstate(over="ignore"):  # the sum is checked below
        total = weights.sum()
    if not 0 < total < np.inf:
        raise ConfigError(
            f"the weights of the {what} must have a finite sum > 0 with class_weight, got {total}: give a class among "
            "them a larger weight"
        )
    return weights


def _balanced(labels: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.float64]:
    """Return weights inversely proportional to class frequencies, (classes,); 1 for a class without rows."""
    counts = np.bincount(labels, minlength=num_classes)  # (classes,)
    present = np.count_nonzero(counts)
    return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 1.0)


def _given(class_weight: ClassWeight, num_classes: int, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return user-defined class weights, (classes,)."""
    if isinstance(class_weight, Mapping):
        weights = np.ones(num_classes)  # also of a class that is not named
        places = {name: k for k, name in enumerate(names or map(str, range(num_classes)))}
        if unknown := [key for key in class_weight if str(key) not in places]:
            known = f"{', '.join(places):.200}"
            hint = did_you_mean(unknown[0], places)
            raise ConfigError(
                f"class_weight names a class {unknown[0]!r:.80}, which is none of {known}{hint}: correct the name"
            )
        if len({str(key) for key in class_weight}) < len(class_weight):
            raise ConfigError(f"class_weight names a class twice: {', '.join(map(repr, class_weight)):.200}")
        for key, weight in class_weight.items():
            weights[places[str(key)]] = _checked(weight, key)
        return weights
    is_text, is_row = isinstance(class_weight, str | bytes), np.ndim(class_weight) == 1
    if is_text or not is_row or not isinstance(class_weight, Sequence | np.ndarray):
        raise ConfigError(f"class_weight must be 'balanced', a mapping or a sequence, got {class_weight!r:.80}")
    if len(class_weight) != num_classes:
        raise ConfigError(f"class_weight must have {num_classes} weights, one a class, got {len(class_weight)}")
    return np.array([_checked(weight, k) for k, weight in enumerate(class_weight)])


def _checked(weight: object, key: object) -> float:
    if not is_finite_number(weight, least=0):
        raise ConfigError(f"the weight of class {key!r:.80} must be a finite number >= 0, got {shown(weight)}")
    return float(weight)  # type: ignore[arg-type]  # is_finite_number says so

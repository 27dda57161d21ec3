"""Which rows a training learns from, and which it only looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DataError
from ...backends.mapped import is_mapped
from ..datasets.dataset import Dataset, Split
from ..datasets.split import split_rows
from ..inputs.arguments import is_finite_number, make_generator
from ..network.evaluation import check_rows
from ..network.mlp import MLP
from .batches import Batches
from .row_weights import ClassWeight, row_weights

VALIDATION_STREAM = 3  # keeps the split independent of what else is drawn from the same seed


class TrainingRows(NamedTuple):
    """The rows of a training, all of which fit the network.

    Attributes:
        train: what it learns from, with the weight of each row.
        test: what it is measured on after an epoch, or None.
        validation: what it is validated on after an epoch, or None.
    """

    train: Split
    test: Split | None
    validation: Split | None


def training_rows(
    net: MLP,
    data: Dataset | Split | Batches,
    validation: Split | float | None,
    class_weight: ClassWeight | None,
    seed: int | np.random.Generator,
) -> TrainingRows:
    """Check the rows and divide them; the arguments are those of `nn.train`.

    Raises:
        ConfigError: an argument has a value that it cannot have.
        DataError: the rows do not fit the network, or cannot be divided.
    """
    rows, test = _checked_rows(net, data)
    train, held_back = _hold_back(net, rows, validation, seed)
    names = data.class_names if isinstance(data, Dataset) else net.class_names
    weights = row_weights(net, train, class_weight, names or ())
    if weights is not None and not weights.any() and len(weights):
        raise DataError("all weights are 0: there is nothing to learn; give the rows that count more")
    return TrainingRows(replace(train, weights=weights), test, held_back)


def _checked_rows(net: MLP, data: Dataset | Split | Batches) -> tuple[Split, Split | None]:
    """Return the rows to train on and those to test on, all of which fit the network."""
    if not isinstance(net, MLP):
        raise ConfigError(f"the network must be an nn.MLP, got {type(net).__name__}: make one, or nn.load one")
    if not isinstance(data, Dataset | Split | Batches):
        raise DataError(
            f"data must be an nn.Dataset or an nn.Split, got {type(data).__name__}: "
            "make one of arrays with nn.from_arrays(images, labels), or pass nn.Batches"
        )
    if not net.are_finite():
        raise ConfigError("the network's weights must be finite numbers: make a new one, or load the last good one")
    if isinstance(data, Batches):
        return data.no_rows(net), None
    if isinstance(data, Split):
        check_rows(net, data)
        return data, None
    net.check_fits(data)
    for rows in (data.train, data.test):
        check_rows(net, rows)
    labels = data.train.labels
    if net.outputs.has_classes and labels.min() == labels.max():  # a Split may be a part of the rows
        raise DataError(f"the training rows must have two classes or more, got only {labels[0]}: add others")
    return data.train, data.test


def _hold_back(
    net: MLP, rows: Split, validation: Split | float | None, seed: int | np.random.Generator
) -> tuple[Split, Split | None]:
    """Return the rows to train on and those to validate on: a share of each class, if all have more than one row."""
    if validation is None:
        return rows, None
    if isinstance(validation, Split):
        check_rows(net, validation)
        return rows, validation
    if not (is_finite_number(validation, least=0) and 0 < validation < 1):
        raise ConfigError(
            f"validation must be an nn.Split, or the share of the training rows to hold back, in (0, 1), "
            f"got {validation!r:.80}"
        )
    count = len(rows)
    held_back = int(count * validation + 0.5)
    if not 0 < held_back < count:
        raise DataError(
            f"{count} rows at validation={validation} leave one part empty: give more rows or another share"
        )
    if is_mapped(rows.images):  # they stay where they are
        cut = count - held_back
        return _part(rows, slice(0, cut)), _part(rows, slice(cut, count))
    classes = rows.labels if net.outputs.has_classes else np.zeros(count, dtype=np.int64)  # (rows,)
    places = np.arange(count)[:, None]  # (rows, 1)
    kept, held = split_rows(
        places,
        classes,
        test_fraction=float(validation),
        seed=make_generator(seed, stream=VALIDATION_STREAM),
        stratify=int(np.unique(classes, return_counts=True)[1].min()) > 1,
    )
    return _part(rows, np.sort(kept.images[:, 0])), _part(rows, np.sort(held.images[:, 0]))


def _part(rows: Split, places: npt.NDArray[np.int64] | slice) -> Split:
    """Return some of the rows, (part,), with their weights."""
    return Split(rows.images[places], rows.labels[places], None if rows.weights is None else rows.weights[places])

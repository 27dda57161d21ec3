"""Train-test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.constraints import is_finite_number, shown
from ...backends.errors import ConfigError, DataError
from ...backends.mapped import is_mapped
from ...backends.sparse_rows import stacked
from ..inputs.arguments import make_generator
from ..inputs.inputs import Target
from ..inputs.table import Table
from .dataset import Dataset, Origin, Split

Places = npt.NDArray[np.int64] | slice


def split_places(
    labels: npt.NDArray[Any],
    *,
    test_fraction: float,
    seed: int | np.random.Generator,
    stratify: bool = False,
    names: Sequence[str] = (),
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split rows into training and test rows.

    Args:
        labels: classes, (samples,), or other labels, (samples, ...).
        test_fraction: fraction of test rows, in (0, 1), rounded to whole rows.
        seed: seed of the shuffle, or its generator.
        stratify: whether to split each class separately, with at least one row of it on both sides.
        names: name of each class in messages; empty for their numbers.

    Returns:
        Indices of the training rows and of the test rows, both in shuffled order.

    Raises:
        ConfigError: the fraction is not in (0, 1), or the seed is invalid.
        DataError: a side would be empty, or a class to be stratified has a single row.
    """
    _check_fraction(test_fraction)
    order = make_generator(seed).permutation(len(labels))  # (samples,)
    is_test = np.zeros(len(labels), dtype=np.bool_)  # (samples,), by place in `order`
    if stratify:
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            if count < 2:
                raise DataError(
                    f"a stratified split needs two rows of each class, got one of class "
                    f"{names[label] if names else label}: add rows, drop the class, or do not stratify"
                )
            test_count = min(max(_rounded(count * test_fraction), 1), count - 1)
            is_test[np.flatnonzero(labels[order] == label)[:test_count]] = True
    else:
        is_test[: _rounded(len(labels) * test_fraction)] = True
    test, train = order[is_test], order[~is_test]  # (test samples,), (training samples,)
    _refuse_empty(len(train), len(test), test_fraction)
    return train, test


def last_places(labels: npt.NDArray[Any], *, test_fraction: float, stratify: bool = False) -> tuple[slice, slice]:
    """Hold out the last rows for testing, of memory-mapped rows, which are not shuffled.

    Args:
        labels: classes, (samples,), or other labels, (samples, ...).
        test_fraction: fraction of test rows, in (0, 1), rounded to whole rows.
        stratify: refused.

    Raises:
        ConfigError: the fraction is not in (0, 1), or the rows are to be stratified.
        DataError: a side would be empty, a class has no training rows, or all test rows have one class.
    """
    _check_fraction(test_fraction)
    if stratify:
        raise ConfigError(
            "a stratified split brings the rows into memory, but these are mapped from a file: shuffle the file, which "
            "gives each class its share, or pass test_images and test_labels"
        )
    cut = len(labels) - _rounded(len(labels) * test_fraction)
    _refuse_empty(cut, len(labels) - cut, test_fraction)
    if labels.ndim == 1:
        if len(missing := labels[cut:][np.isin(labels[cut:], labels[:cut], invert=True)]):
            raise DataError(
                f"the last rows of a mapped file are held out for testing, and no other row has class {missing.min()}: "
                "shuffle the file, or pass test_images and test_labels"
            )
        if labels[cut:].min() == labels[cut:].max() and labels.min() != labels.max():
            raise DataError(
                "the last rows of a mapped file are held out for testing, and all of them have class "
                f"{labels[cut]}: shuffle the file, or pass test_images and test_labels"
            )
    return slice(0, cut), slice(cut, len(labels))


def _check_fraction(test_fraction: float) -> None:
    if not (is_finite_number(test_fraction, least=0) and 0 < test_fraction < 1):
        raise ConfigError(
            f"test_fraction must be in (0, 1), got {shown(test_fraction)}: 0.2 holds out a fifth of the rows"
        )


def _refuse_empty(train: int, test: int, test_fraction: float) -> None:
    if not train or not test:
        raise DataError(
            f"{train + test} rows at test_fraction={test_fraction} leave {train} for training and {test} "
            "for the test: give more rows or another fraction"
        )


def resplit(dataset: Dataset, *, test_fraction: float, seed: int, stratify: bool = False) -> Dataset:
    """Shuffle all rows of a data set and split them again.

    Args:
        dataset: data set, whose name, classes, scale and image shape are kept.
        test_fraction: fraction of test rows, in (0, 1).
        seed: seed of the split.
        stratify: whether to preserve class proportions in the split.

    Raises:
        ConfigError: the fraction is not in (0, 1), or the seed is invalid.
        DataError: a side would be empty, a class to be stratified has a single row, or rows are memory-mapped.
    """
    if is_mapped(dataset.train.images) or is_mapped(dataset.test.images):
        raise DataError(
            f"dividing all rows anew brings them into memory, but those of {dataset.name} are mapped from files: keep "
            "their own split, or on the command line take another recipe"
        )
    images = stacked([dataset.train.images, dataset.test.images])  # (all samples, features)
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])  # (all samples,)
    places = split_places(labels, test_fraction=test_fraction, seed=seed, stratify=stratify)
    origin = _joined(dataset.train.origin, dataset.test.origin)
    train, test = (Split(images[at], labels[at], origin=origin and origin.take(at)) for at in places)
    inputs = dataset.inputs.learn(train.images) if isinstance(dataset.inputs, Table) else dataset.inputs
    if inputs.target is not None:
        inputs = replace(inputs, target=Target.learn(train.labels))
    return replace(dataset, train=train, test=test, inputs=inputs)


def _joined(train: Origin | None, test: Origin | None) -> Origin | None:
    """Return the origin of training rows and test rows of one file; None if they are of two."""
    if train is None or test is None or not train.file:
        return None
    return replace(train, numbers=np.concatenate([train.numbers, test.numbers]))


def _rounded(rows: float) -> int:
    return int(rows + 0.5)

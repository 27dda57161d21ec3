"""Dividing rows into a training and a test part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import ConfigError, DataError
from ..argument_checks import is_finite_number
from ..generators import make_generator
from .dataset import Dataset, Split


def split_rows(
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    *,
    test_fraction: float,
    seed: int | np.random.Generator,
    stratify: bool = False,
) -> tuple[Split, Split]:
    """Shuffle rows and divide them into training and test rows; every row lands in exactly one.

    Args:
        images: (samples, features).
        labels: (samples,).
        test_fraction: share of the test rows, in (0, 1), rounded to whole rows.
        seed: of the shuffle, or its generator; the same seed gives the same split.
        stratify: whether each class is divided by itself, with at least one row of it on both sides.

    Returns:
        The training rows and the test rows, both in shuffled order.

    Raises:
        ConfigError: the fraction is not in (0, 1), or the seed is none.
        DataError: a side would be empty, or a class to be stratified has a single row.
    """
    if not (is_finite_number(test_fraction, least=0) and 0 < test_fraction < 1):
        raise ConfigError(
            f"test_fraction must be in (0, 1), got {test_fraction!r:.80}: 0.2 holds back a fifth of the rows"
        )
    if len(images) != len(labels):
        raise DataError(f"images and labels must have as many rows, got {len(images)} and {len(labels)}")
    order = make_generator(seed).permutation(len(labels))  # (samples,)
    is_test = np.zeros(len(labels), dtype=np.bool_)  # (samples,), by place in `order`
    if stratify:
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            if count < 2:
                raise DataError(
                    f"a stratified split needs two rows of each class, got one of class {label}: "
                    "add rows, drop the class, or set stratify=False"
                )
            test_count = min(max(_rounded(count * test_fraction), 1), count - 1)
            is_test[np.flatnonzero(labels[order] == label)[:test_count]] = True
    else:
        is_test[: _rounded(len(labels) * test_fraction)] = True
    test, train = order[is_test], order[~is_test]  # (test samples,), (training samples,)
    if not len(test) or not len(train):
        raise DataError(
            f"{len(labels)} rows at test_fraction={test_fraction} leave {len(train)} for training and {len(test)} "
            "for the test: give more rows or another fraction"
        )
    return Split(images[train], labels[train]), Split(images[test], labels[test])


def resplit(dataset: Dataset, *, test_fraction: float, seed: int, stratify: bool = False) -> Dataset:
    """Put all rows of a data set together, shuffle them, and divide them anew.

    Args:
        dataset: its name, classes, scale and image shape are kept.
        test_fraction: share of the test rows, in (0, 1).
        seed: the same seed gives the same split.
        stratify: whether each class keeps its share on both sides.

    Raises:
        ConfigError: the fraction is not in (0, 1), or the seed is none.
        DataError: a side would be empty, or a class to be stratified has a single row.
    """
    images = np.concatenate([dataset.train.images, dataset.test.images])  # (all samples, features)
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])  # (all samples,)
    train, test = split_rows(images, labels, test_fraction=test_fraction, seed=seed, stratify=stratify)
    return replace(dataset, train=train, test=test)


def _rounded(rows: float) -> int:
    return int(rows + 0.5)

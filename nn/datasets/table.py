"""User data in an `.npz` or `.csv` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .arrays import from_files
from .csv_table import read_csv
from .dataset import Dataset
from .npz import read_npz

WITH_TEST = (("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test"))
WITHOUT_TEST = (("images", "labels"), ("X", "y"))


def load_npz(path: Path, **split: Any) -> Dataset:
    """Load an `.npz` file.

    It contains `train_images, train_labels, test_images, test_labels` (or `x_train, y_train, x_test, y_test`), or else
    `images, labels` (or `X, y`), which are split here. Pickled objects are never loaded. Dtypes and scales are those of
    `from_arrays`.

    Args:
        path: file with images (samples, features) or (samples, rows, columns), and labels (samples,).
        split: `test_fraction`, `seed` and `stratify` of `from_arrays`, if the file has no test set.

    Raises:
        DataError: the file cannot be read, lacks the arrays, or is rejected by `from_arrays`.
        ConfigError: the options of the split are invalid.
    """
    return from_files(path, read_npz(path, WITH_TEST + WITHOUT_TEST), name=path.stem, **split)


def load_csv(path: Path, *, label_column: str = "label", **split: Any) -> Dataset:
    """Load a comma-separated `.csv` file with a header line and one row per sample.

    One column is the label (integers, or strings of at most 64 characters), all others are features. Features become
    uint8 if all are integers in 0..255, else float32. `train.csv` of Kaggle's Digit Recognizer can be loaded
    unchanged.

    Args:
        path: the file, in UTF-8.
        label_column: header of the label column.
        split: `test_fraction`, `seed` and `stratify` of `from_arrays`.

    Raises:
        DataError: the file cannot be read, has no such column, or has an invalid cell.
        ConfigError: the options of the split are invalid.
    """
    features, labels = read_csv(path, label_column)  # (samples, features), (samples,)
    if features.dtype.kind == "f" and ((features >= 0) & (features <= 255) & (features == np.floor(features))).all():
        features = features.astype(np.uint8)  # (samples, features), whole numbers written like 3.0
    return from_files(path, [features, labels], name=path.stem, **split)

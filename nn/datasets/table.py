"""A user's own data: one `.npz` or `.csv` file."""

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

    It holds `train_images, train_labels, test_images, test_labels` (or `x_train, y_train, x_test, y_test`), or
    else `images, labels` (or `X, y`), which are split here. Pickled objects are never loaded. Types and scales
    are those of `from_arrays`.

    Args:
        path: images in it are (samples, features) or (samples, rows, columns), labels (samples,).
        split: `test_fraction`, `seed` and `stratify` of `from_arrays`, where the file has no test part.

    Raises:
        DataError: the file cannot be read, lacks the arrays, or holds what `from_arrays` refuses.
        ConfigError: the options of the split are impossible.
    """
    return from_files(path, read_npz(path, WITH_TEST + WITHOUT_TEST), name=path.stem, **split)


def load_csv(path: Path, *, label_column: str = "label", **split: Any) -> Dataset:
    """Load a `.csv` file with a header line, one row a sample, commas between the cells.

    One column holds the label (whole numbers or strings of at most 64 characters), all others are features.
    Features that are all whole numbers in 0..255 become uint8, others float32. `train.csv` of Kaggle's Digit
    Recognizer is read as it is.

    Args:
        path: the file, in UTF-8.
        label_column: the header of the label's column.
        split: `test_fraction`, `seed` and `stratify` of `from_arrays`.

    Raises:
        DataError: the file cannot be read, has no such column, or a cell is not what it must be.
        ConfigError: the options of the split are impossible.
    """
    features, labels = read_csv(path, label_column)  # (samples, features), (samples,)
    if features.dtype.kind == "f" and ((features >= 0) & (features <= 255) & (features == np.floor(features))).all():
        features = features.astype(np.uint8)  # (samples, features), whole numbers written like 3.0
    return from_files(path, [features, labels], name=path.stem, **split)

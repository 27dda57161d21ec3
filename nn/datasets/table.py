"""A user's own data: one `.npz` or `.csv` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from .arrays import from_arrays
from .csv_table import read_csv
from .dataset import Dataset
from .npz import read_npz

WITH_TEST = (("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test"))
WITHOUT_TEST = (("images", "labels"), ("X", "y"))


def load_npz(path: Path, *, test_fraction: float = 0.2, seed: int = 0, stratify: bool = False) -> Dataset:
    """Load an `.npz` file.

    It holds `train_images, train_labels, test_images, test_labels` (or `x_train, y_train, x_test, y_test`), or
    else `images, labels` (or `X, y`), which are split here. Pickled objects are never loaded. Types and scales
    are those of `from_arrays`.

    Args:
        path: images in it are (samples, features) or (samples, rows, columns), labels (samples,).
        test_fraction: share of the rows held back where the file has no test part, in (0, 1).
        seed: the same seed holds back the same rows.
        stratify: whether each class keeps its share among the held-back rows.

    Raises:
        DataError: the file cannot be read, lacks the arrays, or holds what `from_arrays` refuses.
        ConfigError: the options of the split are impossible.
    """
    arrays = read_npz(path, WITH_TEST + WITHOUT_TEST)
    return _from_file(
        path,
        *arrays[:2],
        test_images=arrays[2] if len(arrays) == 4 else None,
        test_labels=arrays[3] if len(arrays) == 4 else None,
        test_fraction=test_fraction,
        seed=seed,
        stratify=stratify,
    )


def load_csv(
    path: Path, *, label_column: str = "label", test_fraction: float = 0.2, seed: int = 0, stratify: bool = False
) -> Dataset:
    """Load a `.csv` file with a header line, one row a sample, commas between the cells.

    One column holds the label (whole numbers or strings of at most 64 characters), all others are features.
    Features that are all whole numbers in 0..255 become uint8, others float32. `train.csv` of Kaggle's Digit
    Recognizer is read as it is.

    Args:
        path: the file, in UTF-8.
        label_column: the header of the label's column.
        test_fraction: share of the rows held back, in (0, 1).
        seed: the same seed holds back the same rows.
        stratify: whether each class keeps its share among the held-back rows.

    Raises:
        DataError: the file cannot be read, has no such column, or a cell is not what it must be.
        ConfigError: the options of the split are impossible.
    """
    features, labels = read_csv(path, label_column)  # (samples, features), (samples,)
    if features.dtype.kind == "f" and ((features >= 0) & (features <= 255) & (features == np.floor(features))).all():
        features = features.astype(np.uint8)  # (samples, features), whole numbers written like 3.0
    return _from_file(path, features, labels, test_fraction=test_fraction, seed=seed, stratify=stratify)


def _from_file(path: Path, images: npt.NDArray[Any], labels: npt.NDArray[Any], **options: Any) -> Dataset:
    try:
        return from_arrays(images, labels, name=path.stem, **options)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error

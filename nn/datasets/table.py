"""A user's own data: one `.npz` or `.csv` file."""

from __future__ import annotations

import csv
import re
import warnings
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from .arrays import from_arrays
from .dataset import Dataset

WITH_TEST = (("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test"))
WITHOUT_TEST = (("images", "labels"), ("X", "y"))

MAX_LABEL = 64  # characters


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
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = archive.files
            names = next((row for row in WITH_TEST + WITHOUT_TEST if set(row) <= set(found)), ())
            arrays = [archive[name] for name in names]
    except Exception as error:  # a damaged archive shows itself in many kinds: zip, zlib, struct, token, memory
        raise DataError(f"{path} is not a readable .npz ({error}): write it with numpy.savez, no objects") from error
    if not names:
        accepted = " or ".join(", ".join(row) for row in WITH_TEST + WITHOUT_TEST)
        raise DataError(f"{path} must hold {accepted}, got {', '.join(found) or 'nothing'}: rename the arrays")
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
    try:
        # Nearly every picture fits uint8, which is parsed much faster than floats and in a quarter of the memory.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # NumPy 2.0 reads 0.5 as 0 and only warns
                features, labels = _read_csv(path, label_column, np.dtype(np.uint8))
        except (_CellError, DeprecationWarning):
            features, labels = _read_csv(path, label_column, np.dtype(np.float32))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): it must be a text file in UTF-8") from error
    if features.dtype.kind == "f" and ((features >= 0) & (features <= 255) & (features == np.floor(features))).all():
        features = features.astype(np.uint8)  # (samples, features), whole numbers written like 3.0
    return _from_file(path, features, labels, test_fraction=test_fraction, seed=seed, stratify=stratify)


class _CellError(DataError):
    """A cell or a row of a table does not parse."""


def _read_csv(path: Path, label_column: str, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Read features (samples, features) of one type, and labels (samples,)."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = _read_header(file, path, label_column)
        place = header.index(label_column)
        first = next((line for line in file if line.strip()), None)
        if first is None:
            raise DataError(f"{path} must hold rows below its header, got none")
        row = np.dtype(
            [
                ("before", dtype, (place,)),
                ("label", f"U{MAX_LABEL + 1}"),
                ("after", dtype, (len(header) - place - 1,)),
            ]
        )
        try:
            rows = np.loadtxt(
                chain([first], file), dtype=row, delimiter=",", comments=None, quotechar='"', ndmin=1
            )  # (samples,)
        except UnicodeDecodeError:
            raise
        except ValueError as error:
            _raise_cell_error(path, header, error)
    labels = np.strings.strip(rows["label"])  # (samples,)
    too_long = np.strings.str_len(rows["label"]) > MAX_LABEL
    if too_long.any():
        raise DataError(
            f"{path}: labels must have at most {MAX_LABEL} characters, got {labels[too_long.argmax()][:20]!r}... "
            f"at row {too_long.argmax()}: is {label_column!r} the label's column?"
        )
    return np.concatenate([rows["before"], rows["after"]], axis=1), _numbers(labels)  # (samples, features), (samples,)


def _read_header(file: TextIO, path: Path, label_column: str) -> list[str]:
    header = [cell.strip() for cell in next(csv.reader([file.readline()], skipinitialspace=True), [])]
    if header.count(label_column) != 1:
        first = ", ".join(header[:6]) + (", ..." if len(header) > 6 else "")
        raise DataError(
            f"{path} must have one column {label_column!r} in its header, got {header.count(label_column)} in "
            f"{first!r:.200}: name the label's column by label_column, on the command line --label-column"
        )
    if len(header) < 2:
        raise DataError(
            f"{path} must have features beside {label_column!r}, got no other column: is it comma-separated?"
        )
    return header


def _raise_cell_error(path: Path, header: list[str], error: ValueError) -> NoReturn:
    """Say in the table's own words what NumPy's reader found; it counts cells from row 0, but lengths from row 1."""
    text = str(error)
    if cell := re.search(r"could not convert string (.*) to \w+ at row (\d+), column (\d+)", text, re.DOTALL):
        value, row, column = cell[1], int(cell[2]), header[int(cell[3]) - 1]
        raise _CellError(
            f"{path}: features must be numbers, got {value:.80} at row {row}, column {column!r}: "
            "fill the cell, or drop its row or column"
        ) from error
    if length := re.search(r"requires (\d+) columns but (\d+) were found at row (\d+)", text):
        raise _CellError(
            f"{path}: expected {length[1]} cells in each row, got {length[2]} at row {int(length[3]) - 1}: "
            "mend that line"
        ) from error
    raise _CellError(f"{path} is not a table of numbers: {text}") from error


def _numbers(labels: npt.NDArray[np.str_]) -> npt.NDArray[Any]:
    """Turn labels into numbers where all of them are, so that 10 sorts behind 9."""
    for dtype in (np.int64, np.float64):
        try:
            return labels.astype(dtype)  # (samples,)
        except (ValueError, OverflowError):
            continue
    return labels


def _from_file(path: Path, images: npt.NDArray[Any], labels: npt.NDArray[Any], **options: Any) -> Dataset:
    try:
        return from_arrays(images, labels, name=path.stem, **options)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error

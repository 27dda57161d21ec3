"""The .csv format: a header line, then rows of numbers with a label, read in blocks of bounded size."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ..files import limits
from ..files.data_file import opened

MAX_LABEL = 64  # characters
BLOCK = 2**19  # characters that are parsed at a time: a parsed row has room for the longest label


def read_csv(path: Path, label_column: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Read a comma-separated table.

    Args:
        path: the file, in UTF-8.
        label_column: header of the label column; all others are features.

    Returns:
        Features (samples, features), uint8 if all are integers in 0..255, else float32; labels (samples,), numbers if
        all are numeric.

    Raises:
        DataError: the file cannot be read, exceeds `limits`, has no such column, or has an invalid cell.
    """
    with opened(path) as (file, size):
        if size > limits.DATA_BYTES:
            raise DataError(
                f"{path} has {size} bytes, more than the limit of {limits.DATA_BYTES}: leave out rows, or write "
                "them as .npz"
            )
        with TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            try:
                return _read_table(text, path, label_column)
            except (UnicodeDecodeError, csv.Error) as error:
                raise DataError(f"{path} cannot be read ({error}): it must be a text file in UTF-8") from error


def _read_table(text: TextIO, path: Path, label_column: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    lines = _lines(text, path)
    header = _read_header(next(lines, ""), path, label_column)
    parts: list[tuple[npt.NDArray[Any], npt.NDArray[np.str_]]] = []  # features (rows, features), labels (rows,)
    num_rows, feature_bytes, label_bytes = 0, 1, 1  # of one feature and one label in the whole table
    for block in _blocks(lines):
        features, labels = _read_block(block, path, header, label_column, num_rows)
        parts.append((features, labels))
        num_rows += len(labels)
        feature_bytes, label_bytes = max(feature_bytes, features.itemsize), max(label_bytes, labels.itemsize)
        if num_rows * ((len(header) - 1) * feature_bytes + label_bytes) > limits.DATA_BYTES:
            raise DataError(
                f"{path} holds more than the limit of {limits.DATA_BYTES} bytes of numbers in its first {num_rows} "
                "rows: leave out rows or columns"
            )
    if not parts:
        raise DataError(f"{path} must hold rows below its header, got none")
    all_features, all_labels = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return all_features, _numbers(all_labels)  # (samples, features), (samples,)


def _lines(text: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines, each within the length limit and with closed quotes."""
    number = 0
    while line := text.readline(limits.CSV_LINE + 1):
        number += 1
        if len(line) > limits.CSV_LINE:
            raise DataError(
                f"{path}: a line must have at most {limits.CSV_LINE} characters, got more in line {number}: "
                "is it a table of text?"
            )
        if "\0" in line:
            raise DataError(f"{path} must be text, got a zero byte in line {number}: is it a table of text?")
        if '"' in line and _ends_in_quotes(line):
            raise DataError(f"{path}: a quote must end in its line, got an open one in line {number}: close it")
        yield line


def _ends_in_quotes(line: str) -> bool:
    """Return whether a line ends inside quotes."""
    rows = csv.reader([line, ""])
    next(rows)
    return next(rows, None) is None


def _blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    """Group lines into blocks of about `BLOCK` characters, without blank lines."""
    block, length = [], 0
    for line in lines:
        if not line.isspace():
            block.append(line)
            length += len(line)
        if length >= BLOCK:
            yield block
            block, length = [], 0
    if block:
        yield block


def _read_header(line: str, path: Path, label_column: str) -> list[str]:
    header = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True), [])]
    if len(header) > limits.CSV_COLUMNS:
        raise DataError(
            f"{path} must have at most {limits.CSV_COLUMNS} columns, got {len(header)}: leave some out, or write "
            "the table as .npz"
        )
    if header.count(label_column) != 1:
        first = ", ".join(header[:6]) + (", ..." if len(header) > 6 else "")
        raise DataError(
            f"{path} must have one column {label_column!r} in its header, got {header.count(label_column)} in "
            f"{first!r:.200}: name the label column by label_column, on the command line --label-column"
        )
    if len(header) < 2:
        raise DataError(
            f"{path} must have features beside {label_column!r}, got no other column: is it comma-separated?"
        )
    return header


class _CellError(DataError):
    """A cell or row of a table cannot be parsed."""


def _read_block(
    lines: list[str], path: Path, header: list[str], label_column: str, first_row: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.str_]]:
    """Read features (rows, features), uint8 or float32, and labels (rows,), from row `first_row` on."""
    place = header.index(label_column)
    # Nearly every picture fits uint8, which is parsed much faster than floats and in a quarter of the memory.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # NumPy 2.0 reads 0.5 as 0 and only warns
            rows = _parse(lines, path, header, place, first_row, np.dtype(np.uint8))  # (rows,)
    except (_CellError, DeprecationWarning):
        rows = _parse(lines, path, header, place, first_row, np.dtype(np.float32))  # (rows,)
    features = np.concatenate([rows["before"], rows["after"]], axis=1)  # (rows, features)
    if features.dtype.kind == "f" and not (finite := np.isfinite(features)).all():
        row, column = divmod(int(finite.argmin()), features.shape[1])
        raise DataError(
            f"{path}: features must be finite in float32, got {features[row, column]} at row {first_row + row}, "
            f"column {header[column + (column >= place)]!r:.80}: fill the cell, or drop its row or column"
        )
    labels = np.strings.strip(rows["label"])  # (rows,)
    lengths = np.strings.str_len(rows["label"])  # (rows,)
    if lengths.max() > MAX_LABEL:
        row = int(lengths.argmax())
        raise DataError(
            f"{path}: labels must have at most {MAX_LABEL} characters, got {labels[row][:20]!r}... "
            f"at row {first_row + row}: is {label_column!r} the label's column?"
        )
    return features, labels.astype(f"U{max(1, np.strings.str_len(labels).max())}")


def _parse(
    lines: list[str], path: Path, header: list[str], place: int, first_row: int, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Parse lines to records (rows,) of `before` (place,), `label` and `after` (features - place,)."""
    row = np.dtype(
        [("before", dtype, (place,)), ("label", f"U{MAX_LABEL + 1}"), ("after", dtype, (len(header) - place - 1,))]
    )
    try:
        return np.loadtxt(lines, dtype=row, delimiter=",", comments=None, quotechar='"', ndmin=1)  # (rows,)
    except ValueError as error:
        _raise_cell_error(path, header, first_row, error)


def _raise_cell_error(path: Path, header: list[str], first_row: int, error: ValueError) -> NoReturn:
    """Translate an error of NumPy's reader, which counts cells from row 0, but lengths from row 1."""
    text = str(error)
    if cell := re.search(r"could not convert string (.*) to \w+ at row (\d+), column (\d+)", text, re.DOTALL):
        value, row, column = cell[1], first_row + int(cell[2]), header[int(cell[3]) - 1]
        raise _CellError(
            f"{path}: features must be numbers, got {value:.80} at row {row}, column {column!r:.80}: "
            "fill the cell, or drop its row or column"
        ) from error
    if length := re.search(r"requires (\d+) columns but (\d+) were found at row (\d+)", text):
        raise _CellError(
            f"{path}: expected {length[1]} cells in each row, got {length[2]} at row {first_row + int(length[3]) - 1}: "
            "fix that line"
        ) from error
    raise _CellError(f"{path} is not a table of numbers: {text:.200}") from error


def _numbers(labels: npt.NDArray[np.str_]) -> npt.NDArray[Any]:
    """Convert labels to numbers if all are numeric, so that 10 sorts after 9."""
    for dtype in (np.int64, np.float64):
        try:
            return labels.astype(dtype)  # (samples,)
        except (ValueError, OverflowError):
            continue
    return labels

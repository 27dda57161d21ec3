"""User data in an `.npz` file or a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ...backends.lookup import did_you_mean
from ..files.text import listed, printable
from ..inputs.inputs import Inputs
from ..inputs.table import Table
from .arrays import from_arrays, from_files
from .dataset import Dataset
from .labels import are_measurements
from .npz import read_npz
from .table_file import TableFile, TableOptions, read_table

WITH_TEST = (("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test"))
WITHOUT_TEST = (("images", "labels"), ("X", "y"))
LABELS = ("label", "target", "class", "y")  # names of a label's column, the first that there is


def load_npz(path: Path, **options: Any) -> Dataset:
    """Load an `.npz` file.

    It contains `train_images, train_labels, test_images, test_labels` (or `x_train, y_train, x_test, y_test`), or else
    `images, labels` (or `X, y`), which are split here. Pickled objects are never loaded.

    Args:
        path: file with images (samples, columns) or (samples, rows, columns), and labels (samples,). Bytes that are
            called images are pixels.
        options: those of `from_arrays`; of the split, if the file has no test set.

    Raises:
        DataError: the file cannot be read, lacks the arrays, or is rejected by `from_arrays`.
        ConfigError: the options are invalid.
    """
    names, arrays = read_npz(path, WITH_TEST + WITHOUT_TEST)
    return from_files(path, arrays, name=path.stem, **{**pixels_of(names, arrays), **options})


def pixels_of(names: Sequence[str], arrays: Sequence[npt.NDArray[Any]]) -> dict[str, bool]:
    """Return the option `pixels` for arrays of bytes that are called images; none for others."""
    return {"pixels": True} if "images" in names[0] and arrays[0].dtype == np.uint8 else {}


def load_table(
    path: Path,
    *,
    label_column: str | None = None,
    dialect: TableOptions,
    inputs: Inputs | None = None,
    regression: bool | None = None,
    id_column: str | None = None,
    **options: Any,
) -> Dataset:
    """Load a table with one row per sample: one column is the label, the others are features.

    `train.csv` of Kaggle's Digit Recognizer can be loaded unchanged: columns `pixel0`, `pixel1`, ... are pixels.

    Args:
        path: the file.
        label_column: name of the label's column; None to find it.
        dialect: delimiter, decimal sign and header.
        inputs: inputs of a trained network, or None.
        regression: whether labels are numbers to predict; None to find out.
        id_column: column that identifies the rows; None to find it, "none" if there is none.
        options: others of `from_arrays`.

    Raises:
        DataError: the file cannot be read, has no such column, or has an invalid cell.
        ConfigError: the options are invalid.
    """
    file = read_table(path, dialect)
    notes = [*file.words]
    label, note = find_label(file.frame.columns, path, label_column, inputs)
    frame, labels = file.frame.drop(label), _labels(file, label)  # labels: (rows,)
    if regression is None and inputs is None and are_measurements(labels):
        regression = True
        note = f"{note or f'label {printable(label)}'}; its many numbers make it a regression: --loss to change it"
    notes += [note] if note else []
    index = []  # columns without a name that number the rows
    if inputs is None and id_column != "none":
        named = (id_column, label)
        index = [name for name in file.unnamed if name not in named and frame[name].n_unique() == len(frame)]
    if index:
        notes.append("the column without a name is an index and is not learned: --id-column none to learn it")
        options["drop"] = (*options.get("drop", ()), *index)
    with file.origin.located():
        data = from_arrays(
            frame, labels, name=path.stem, regression=regression, inputs=inputs, id_column=id_column, label=label,
            **options,
        )  # fmt: skip
    train, test = (
        replace(part, origin=part.origin and file.origin.take(np.asarray(part.origin.numbers, np.int64)))
        for part in (data.train, data.test)
    )
    if index and isinstance(data.inputs, Table) and data.inputs.identifier is None:
        data = replace(data, inputs=replace(data.inputs, identifier=index[0]))
    return replace(data, train=train, test=test, notes=(*notes, *data.notes))


def find_label(
    columns: Sequence[str], path: Path, label_column: str | None, inputs: Inputs | None = None
) -> tuple[str, str]:
    """Find the label's column of a table.

    Returns:
        Its name, and a sentence on how it was found, if it was not named.

    Raises:
        DataError: there is no such column, or no other.
    """
    note, label = "", label_column
    if label is None and isinstance(inputs, Table):
        label = inputs.label
    if label is None:
        by_lower = {name.strip().lower(): name for name in reversed(columns)}
        label = next((by_lower[name] for name in LABELS if name in by_lower), None)
        if label is None:
            label = columns[-1]
            note = f"label {printable(label)}, the last column: --label-column to name another"
    if label not in columns:
        raise DataError(
            f"{path} must have the label's column {label!r:.80}, got {listed(columns)}{did_you_mean(label, columns)}: "
            "name it by label_column; rows without labels are for xpnn predict"
        )
    if len(columns) < 2:
        raise DataError(f"{path} must have features beside {label!r:.80}, got no other column: check the delimiter")
    return label, note


def _labels(file: TableFile, label: str) -> npt.NDArray[Any]:
    """Return the labels of a table, (rows,): numbers or texts."""
    import polars as pl

    column = file.frame[label]
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise DataError(
            file.origin.locate(
                f"labels must not be empty, got none at row {row}, column {label!r:.80}: fill the cell or drop the row"
            )
        )
    if column.dtype.is_numeric():
        return column.to_numpy()
    text = column.cast(pl.String) if column.dtype != pl.Boolean else column.cast(pl.String).str.to_titlecase()
    return np.array(text.str.strip_chars().to_list())

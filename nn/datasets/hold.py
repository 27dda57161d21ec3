"""Rows held to the inputs of a network: columns by name, levels and classes in its order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ...backends.sparse_rows import dense, is_sparse
from ..inputs.inputs import Inputs
from ..inputs.table import Column, Table
from .dataset import Split


def hold_rows(rows: Split, inputs: Inputs) -> Split:
    """Return rows in the meaning of a network's inputs.

    Args:
        rows: rows of other inputs, or of none.
        inputs: the network's.

    Raises:
        DataError: columns or classes are missing, or the number of columns differs.
    """
    if is_sparse(rows.images) and not inputs.TAKES_SPARSE:
        rows = replace(rows, images=dense(rows.images, what="images"))
    own, images, labels = rows.inputs, rows.images, rows.labels
    if own == inputs:
        return rows
    if own is None and rows.names:
        own = Table(columns=tuple(map(Column, rows.names)))
    if isinstance(own, Table) and own.is_named:
        if isinstance(inputs, Table) and inputs.is_named:
            images = _cells(images, own, inputs)  # (samples, columns)
        elif categories := [column.name for column in own.columns if column.kind == "category"]:
            raise DataError(
                f"the rows must be numbers as those of the training, got the category {categories[0]!r:.80}: train a "
                "network on a frame"
            )
    if images.ndim == 2 and inputs.width not in (None, images.shape[1]):
        raise DataError(
            f"the rows must have {inputs.width} columns as those of the training, got {images.shape[1]}: pass the same "
            "columns in the same order"
        )
    if (
        labels.ndim == 1
        and own is not None
        and own.class_names
        and inputs.class_names
        and own.class_names != inputs.class_names
    ):
        labels = _classes(labels, own.class_names, inputs.class_names)  # (samples,)
    return replace(rows, images=images, labels=labels, inputs=inputs, names=())


def _cells(cells: npt.NDArray[np.float64], own: Table, inputs: Table) -> npt.NDArray[np.float64]:
    """Return the cells, (samples, columns), of other columns in the order and with the levels of `inputs`."""
    place = {column.name: k for k, column in enumerate(own.columns)}
    if lacking := [column.name for column in inputs.columns if column.name not in place]:
        raise DataError(
            f"the rows must have the columns of the training, got no {lacking[0]!r:.80}: rename or add the column"
        )
    made = np.empty((len(cells), len(inputs.columns)))  # (samples, columns)
    for k, column in enumerate(inputs.columns):
        given = own.columns[place[column.name]]
        values = cells[:, place[column.name]]  # (samples,)
        if given.kind == "category" or (column.kind == "category" and not column.has_numbers):
            values = _recoded(values, given, column)
        made[:, k] = values
    return made


def _recoded(values: npt.NDArray[np.float64], own: Column, column: Column) -> npt.NDArray[np.float64]:
    """Return the cells of a category, or those of a category in the training, (samples,), by the levels of `column`."""
    if column.kind != "category":
        raise DataError(
            f"column {column.name!r:.80} must be numbers as in the training, got the text {own.levels[0]!r:.80}: "
            "convert the column"
        )
    coded = np.where(np.isnan(values), np.nan, column.unseen)  # (samples,)
    for level, code in zip(own.levels, own.codes, strict=True):  # none of numbers, which are no level of words
        coded[values == code] = column.code(level)
    return coded


def _classes(labels: npt.NDArray[np.int64], own: tuple[str, ...], names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return class numbers, (samples,), by their names."""
    number = {name: k for k, name in enumerate(names)}
    classes = np.array([number.get(name, -1) for name in own], dtype=np.int64)[labels]  # (samples,)
    if (wrong := classes < 0).any():
        row = int(wrong.argmax())
        raise DataError(
            f"labels must be among the classes of the network, {', '.join(names):.200}, got {own[labels[row]]!r:.80} "
            f"at row {row}: leave these rows out, or train a new network"
        )
    return classes

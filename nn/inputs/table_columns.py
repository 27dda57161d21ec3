"""Columns of a frame: which are learned and as what, what the training rows say of them, and their cells."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...backends.errors import ConfigError, DataError
from ...backends.lookup import did_you_mean
from ..files.text import is_plain, listed, printable
from .frames import missing
from .table import Column, Table

if TYPE_CHECKING:
    from .frames import Frame, Series

MAX_LEVELS = 100  # of a text that is a category by itself
FEW_ROWS = 20  # below which a text may have as many levels as rows
IDENTIFIER = re.compile(
    r"|id|index|key|row|row[ _.-]?(id|names?|number)|unnamed.*|.*[ _.-]id", re.IGNORECASE | re.DOTALL
)
CAMEL_IDENTIFIER = re.compile(r".*[a-z]I[dD]", re.DOTALL)
DAY = 86_400_000  # milliseconds
TRUTHS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class TableColumns:
    """Roles of a frame's columns.

    Attributes:
        features: columns to learn from.
        categories: those of `features` that are categories, whatever they hold.
        identifier: column that identifies a row, or None.
        words: what was left out and why, a sentence each.
    """

    features: tuple[str, ...]
    categories: frozenset[str]
    identifier: str | None
    words: tuple[str, ...]


def choose_columns(
    frame: Frame, *, drop: Collection[str] = (), categorical: Collection[str] = (), id_column: str | None = None
) -> TableColumns:
    """Choose the columns to learn from.

    A column of whole numbers or texts that all differ is an identifier if its name says so (`Id`, `index`, none, ...),
    or if it counts the rows. Texts of more than 100 levels, or of about as many levels as rows, are left out.

    Args:
        frame: all rows, without the label.
        drop: columns to leave out.
        categorical: columns that are categories, such as numbers of a code.
        id_column: column that identifies a row; "none" if there is none; None to find it.

    Raises:
        ConfigError: a column is named that the frame lacks.
        DataError: no column is left.
    """
    names = list(frame.columns)
    for option, wanted in (("drop", drop), ("categorical", categorical), ("id_column", [id_column])):
        for name in wanted:
            if name not in names and name is not None and not (option == "id_column" and name == "none"):
                hint = did_you_mean(name, names)
                raise ConfigError(f"{option} must name a column, got {name!r:.80}{hint}: there are {listed(names)}")
    words, features, identifier = [], [], None if id_column in (None, "none") else id_column
    for name in names:
        if name in drop or name == identifier:
            continue
        column = frame.get_column(name)
        if name not in categorical:
            if id_column is None and identifier is None and _is_identifier(column, name):
                identifier = name
                words.append(f"{_shown(name)} identifies the rows and is not learned: --id-column none to learn it")
                continue
            if reason := _reason_to_leave_out(column):
                words.append(f"{_shown(name)} is left out, {reason}: --categorical {_shown(name)} to keep it")
                continue
        if not is_plain(name):
            raise DataError(f"columns must have names without control characters, got {name!r:.80}: rename it")
        features.append(name)
    if not features:
        raise DataError(f"a table must have a column to learn from, got {listed(names)}: {'; '.join(words) or 'none'}")
    return TableColumns(tuple(features), frozenset(categorical), identifier, tuple(words))


def learn_table(
    frame: Frame, chosen: TableColumns, *, label: str | None = None
) -> tuple[Table, npt.NDArray[np.float64]]:
    """Learn the kind, levels and standardization of the columns from the training rows.

    Args:
        frame: the training rows.
        chosen: the columns.
        label: name of the label's column.

    Returns:
        The table, and the cells of the rows, (rows, columns).

    Raises:
        DataError: a column has no values, or numbers that are not finite.
    """
    columns = [_column_of(frame.get_column(name), name, name in chosen.categories) for name in chosen.features]
    table = Table(columns=tuple(columns), label=label, identifier=chosen.identifier)
    cells = cells_of(frame, table)  # (rows, columns)
    return table.learn(cells), cells


def cells_of(frame: Frame, table: Table) -> npt.NDArray[np.float64]:
    """Return the cells of a frame, (rows, columns), whose columns are found by name; others are ignored.

    Raises:
        DataError: a column is missing, or holds what it cannot.
    """
    names = list(frame.columns)
    if lacking := [column.name for column in table.columns if column.name not in names]:
        raise DataError(
            f"the rows must have the columns of the training, got no {listed(lacking)} in {listed(names)}"
            f"{did_you_mean(lacking[0], names)}: add the column, or rename the one that it is"
        )
    cells = np.empty((len(frame), len(table.columns)))  # (rows, columns)
    for k, column in enumerate(table.columns):
        series = frame.get_column(column.name)
        cells[:, k] = _codes(series, column) if column.kind == "category" else _numbers(series, column.name)
    return cells


def _column_of(series: Series, name: str, is_category: bool) -> Column:
    """Return the kind and the levels of a column."""
    if _is_truth(series) and not is_category:
        return Column(name, "truth")
    if not (is_category or _is_text(series)):
        return Column(name)
    levels = sorted({text for text in _texts(series) if text is not None})
    if bad := [level for level in levels if not is_plain(level)]:
        raise DataError(f"column {name!r:.80} must be text without control characters, got {bad[0]!r:.80}")
    if not levels:
        raise DataError(f"column {name!r:.80} has no value in the training rows: leave it out (--drop)")
    by_number = np.argsort(Column(name, "category", levels=tuple(levels)).codes, kind="stable")  # (levels,)
    return Column(name, "category", levels=tuple(levels[k] for k in by_number))


def _numbers(series: Series, name: str) -> npt.NDArray[np.float64]:
    """Return the numbers of a column, (rows,), NaN for missing ones; of dates the days since 1970.

    Raises:
        DataError: it has something else.
    """
    import narwhals.stable.v2 as nw

    if series.dtype.is_integer() or series.dtype.is_float() or series.dtype.is_decimal() or series.dtype == nw.Boolean:
        return _floats(series)
    if series.dtype in (nw.Date, nw.Datetime):
        return _floats(series.dt.timestamp("ms")) / DAY
    if series.dtype == nw.Duration:
        return _floats(series.dt.total_milliseconds()) / DAY
    numbers = np.full(len(series), np.nan)
    for row, (value, is_missing) in enumerate(zip(series.to_list(), missing(series).tolist(), strict=True)):
        if is_missing or (isinstance(value, str) and not value.strip()):
            continue
        found = value if isinstance(value, bool) else TRUTHS.get(str(value).strip().lower(), value)
        try:
            numbers[row] = float(found)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"column {name!r:.80} must be numbers as in the training, got {str(value)!r:.80} at row "
                f"{row}: correct the cell, or drop its row"
            ) from error
    return numbers


def _floats(series: Series) -> npt.NDArray[np.float64]:
    """Return a column of numbers, (rows,), NaN for missing ones."""
    import narwhals.stable.v2 as nw

    if series.implementation.is_pyarrow() and series.dtype.is_integer():  # it casts no number above 2**53
        return np.array([np.nan if value is None else value for value in series.to_list()], dtype=np.float64)
    return series.cast(nw.Float64).fill_null(float("nan")).to_numpy()


def _codes(series: Series, column: Column) -> npt.NDArray[np.float64]:
    """Return the cells of a category, (rows,), NaN for a missing value."""
    texts = _texts(series)
    code_of = {text: np.nan if text is None else column.code(text) for text in set(texts)}
    return np.array([code_of[text] for text in texts], dtype=np.float64)


def _texts(series: Series) -> list[str | None]:
    """Return the values of a column as text, whole numbers without a fraction; None for missing or empty ones."""
    texts: list[str | None] = []
    for value, is_missing in zip(series.to_list(), missing(series).tolist(), strict=True):
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        texts.append(None if is_missing else str(whole).strip() or None)
    return texts


def _is_text(series: Series) -> bool:
    """Return whether a column is text or mixed, unless all of it is true or false."""
    import narwhals.stable.v2 as nw

    if series.dtype in (nw.Categorical, nw.Enum):
        return True
    if series.dtype not in (nw.String, nw.Object):
        return False
    return not _is_truth(series)


def _is_truth(series: Series) -> bool:
    import narwhals.stable.v2 as nw

    if series.dtype == nw.Boolean:
        return True
    if series.dtype not in (nw.String, nw.Object):
        return False
    levels = {str(value).strip().lower() for value in series.unique().to_list() if value is not None}
    return bool(levels) and levels <= TRUTHS.keys()


def _is_identifier(column: Series, name: str) -> bool:
    """Return whether a column identifies rows: all differ, and its name says so or it counts the rows."""
    if not (column.dtype.is_integer() or _is_text(column)) or column.n_unique() < len(column) or len(column) < 2:
        return False
    if IDENTIFIER.fullmatch(name.strip()) or CAMEL_IDENTIFIER.fullmatch(name.strip()):
        return True
    if not column.dtype.is_integer() or len(column) < FEW_ROWS or column.null_count():
        return False
    steps = np.diff(column.to_numpy().astype(np.int64))
    return bool(column[0] in (0, 1) and (steps == 1).all())


def _reason_to_leave_out(column: Series) -> str:
    """Return why a column cannot be learned by itself; empty if it can."""
    import narwhals.stable.v2 as nw

    rows = len(column)
    if column.null_count() == rows:
        return "as it has no values"
    if _is_text(column):
        levels = column.n_unique()
        if levels > MAX_LEVELS or (rows >= FEW_ROWS and levels > rows / 2):
            return f"as a text of {levels:,} different values"
    elif column.dtype.is_nested() or column.dtype in (nw.Binary, nw.Time, nw.Unknown):
        return f"as {column.dtype!s:.40} is no number, truth value or category"
    return ""


def _shown(name: str) -> str:
    return printable(name) or "the column without a name"

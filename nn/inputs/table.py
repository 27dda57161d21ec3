"""Columns of a table: learned from the training rows, and held to by all later rows.

A frame becomes *cells*, (rows, columns) of numbers with NaN for a missing value; cells become the network's features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ...backends.constraints import is_finite_number
from ...backends.errors import DataError
from ...backends.override import override
from ..files.text import is_plain, printable
from .arguments import row_blocks
from .facts import RowFacts
from .inputs import Inputs, moments

KINDS = ("number", "truth", "category")
UNSEEN = -1.0  # cell of a text that no training row has, unless a level has it
LARGEST = float(np.finfo(np.float32).max)  # number of a cell, whose square is finite in float64
SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class Column:
    """Column of a table.

    A number is standardized, `(number - mean) / std`, where `fill` stands for a missing value; a truth value is 0 or 1;
    a category has a feature for each level, which is 1 for its own and 0 elsewhere.

    Attributes:
        name: header.
        kind: "number", "truth" or "category".
        mean: mean of the training rows; 0 for other kinds.
        std: standard deviation of the training rows; 1 for a constant and for other kinds.
        fill: what stands for a missing value, the median of the training rows; None: a missing value is refused.
        has_flag: whether one more feature is 1 where the value is missing, as some training rows lacked it.
        levels: levels of a category in sorted order.
    """

    name: str
    kind: str = "number"
    mean: float = 0.0
    std: float = 1.0
    fill: float | None = None
    has_flag: bool = False
    levels: tuple[str, ...] = ()

    @cached_property
    def has_numbers(self) -> bool:
        """Whether all levels are numbers that differ."""
        numbers = {_number(level) for level in self.levels}
        return None not in numbers and len(numbers) == len(self.levels)

    @cached_property
    def codes(self) -> npt.NDArray[np.float64]:
        """Cell of each level, (levels,): its number if all levels are numbers, else its index."""
        numbers = [_number(level) for level in self.levels] if self.has_numbers else range(len(self.levels))
        return np.array(numbers, dtype=np.float64)

    @cached_property
    def unseen(self) -> float:
        """Cell of a level that no training row has."""
        return UNSEEN if UNSEEN not in self.codes else float(self.codes.min()) - 1

    @cached_property
    def _code_of(self) -> dict[str | float | None, float]:
        """Cell by level, or by its number if all levels are numbers."""
        return dict(zip(self.codes.tolist() if self.has_numbers else self.levels, self.codes.tolist(), strict=True))

    def code(self, text: str) -> float:
        """Return the cell of a level, `unseen` for one that no training row has; "1.0" is "1" if levels are numbers."""
        return self._code_of.get(_number(text) if self.has_numbers else text, self.unseen)

    @property
    def num_features(self) -> int:
        """Number of features."""
        return (len(self.levels) if self.kind == "category" else 1) + self.has_flag

    def describe(self) -> str:
        """Describe the column in a line."""
        flag = ", some missing" if self.has_flag else ""
        if self.kind == "category":
            shown = ", ".join(printable(level) for level in self.levels[:6])
            return f"{len(self.levels)} categories{flag}: {shown:.80}{', ...' if len(self.levels) > 6 else ''}"
        return f"true or false{flag}" if self.kind == "truth" else f"number, {self.mean:.4g} +- {self.std:.4g}{flag}"


@dataclass(frozen=True, kw_only=True)
class Table(Inputs):
    """Columns of a table.

    Attributes:
        columns: the columns in order.
        is_named: whether the columns have names of their own, by which those of a frame are found; else they are found
            by their place.
        label: name of the label's column, or None.
        identifier: name of the column that identifies a row and is not learned, or None.
    """

    KIND: ClassVar[str] = "table"
    TAKES_SPARSE: ClassVar[bool] = False  # a standardized zero is none

    columns: tuple[Column, ...]
    is_named: bool = True
    label: str | None = None
    identifier: str | None = None

    @property
    @override
    def width(self) -> int:
        return len(self.columns)

    @property
    @override
    def num_features(self) -> int:
        return sum(column.num_features for column in self.columns)

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Index of each column's first feature, (columns,)."""
        widths = [column.num_features for column in self.columns]
        return tuple(np.cumsum([0, *widths[:-1]]).tolist())

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Name of each feature, (features,)."""
        names: list[str] = []
        for column in self.columns:
            is_category = column.kind == "category"
            names += [f"{column.name}={level}" for level in column.levels] if is_category else [column.name]
            names += [f"{column.name} is missing"] * column.has_flag
        return tuple(names)

    @property
    def is_plain(self) -> bool:
        """Whether each column is one feature."""
        return not any(column.kind == "category" or column.has_flag for column in self.columns)

    @override
    def check(self, rows: npt.NDArray[Any], facts: RowFacts, dtype: str) -> None:
        for k, column in enumerate(self.columns):
            if column.kind != "truth":
                continue
            is_wrong = ~(np.isin(rows[:, k], (0, 1)) | np.isnan(rows[:, k]))  # (samples,)
            if is_wrong.any():
                row = int(is_wrong.argmax())
                raise DataError(
                    f"column {column.name!r:.80} must be true or false, got {rows[row, k]:g} at row {row}: correct the "
                    "cell or drop its row"
                )
        if facts.are_within(-LARGEST, LARGEST):
            return
        can_be_missing = np.array([column.kind == "category" or column.fill is not None for column in self.columns])
        for start, block in row_blocks(rows):
            fits = (np.abs(block) <= LARGEST) | (np.isnan(block) & can_be_missing)  # (block, columns)
            if not fits.all():
                row, column = divmod(int(fits.argmin()), rows.shape[1])
                raise DataError(
                    f"column {self.columns[column].name!r:.80} must be finite in float32, got {block[row, column]} at "
                    f"row {start + row}: fill the cell or drop its row"
                )

    @override
    def features(self, rows: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
        mean, factor, fill = self._numbers
        made = np.empty((len(rows), self.num_features), dtype=dtype)  # (samples, features)
        for start, block in row_blocks(rows):
            cells = block.astype(np.float64)  # (block, columns)
            is_missing = np.isnan(cells)  # (block, columns)
            numbers = (np.where(is_missing, fill, cells) - mean) * factor  # (block, columns)
            features = made[start : start + len(block)]  # (block, features)
            if self.is_plain:
                features[:] = numbers
                continue
            for k, (column, place) in enumerate(zip(self.columns, self.places, strict=True)):
                if column.kind == "category":
                    features[:, place : place + len(column.levels)] = cells[:, k, None] == column.codes
                else:
                    features[:, place] = numbers[:, k]
                if column.has_flag:
                    features[:, place + column.num_features - 1] = is_missing[:, k]
        return made

    def learn(self, cells: npt.NDArray[Any]) -> Table:
        """Return the table with mean, standard deviation, median and flags of training rows, (samples, columns).

        Raises:
            DataError: a column has no value, or a number is not finite.
        """
        columns = []
        for k, column in enumerate(self.columns):
            values = cells[:, k]  # (samples,)
            is_missing = np.isnan(values)  # (samples,)
            if is_missing.all():
                raise DataError(f"column {column.name!r:.80} has no value in the training rows: leave it out (--drop)")
            has_flag, fill = self.is_named and bool(is_missing.any()), None
            if self.is_named and column.kind != "category":
                fill = float(np.median(values[~is_missing]))
                fill = round(fill) if column.kind == "truth" else fill
            columns.append(replace(column, fill=fill, has_flag=has_flag))
        made = replace(self, columns=tuple(columns))
        made.check(cells, RowFacts(cells), "float32")
        is_number = np.array([column.kind == "number" for column in columns])  # (columns,)
        if is_number.any():
            numbers = cells[:, is_number]  # (samples, numbers)
            if np.isnan(numbers).any():
                numbers = np.where(np.isnan(numbers), made._numbers[2][is_number], numbers)
            for k, mean, std in zip(np.flatnonzero(is_number).tolist(), *moments(numbers), strict=True):
                columns[k] = replace(columns[k], mean=float(mean), std=float(std))
        return replace(self, columns=tuple(columns))

    def unseen(self, cells: npt.NDArray[Any]) -> dict[str, int]:
        """Count the cells, (samples, columns), of each category whose level no training row has; none are left out."""
        counts = {}
        for k, column in enumerate(self.columns):
            if column.kind == "category":
                values = cells[:, k]
                counts[column.name] = int(np.sum(~(np.isin(values, column.codes) | np.isnan(values))))
        return {name: count for name, count in counts.items() if count}

    def missing(self, frame: Any) -> dict[str, int]:
        """Count the empty cells of a frame in each column that was complete in training."""
        counts = {c.name: int(frame[c.name].is_null().sum()) for c in self.columns if not c.has_flag}
        return {name: count for name, count in counts.items() if count}

    def lines(self) -> Iterator[str]:
        """Describe each column in a line, the first ones of many."""
        width = max((len(column.name) for column in self.columns[:SHOWN_COLUMNS]), default=0)
        for column in self.columns[:SHOWN_COLUMNS]:
            yield f"{printable(column.name):<{min(width, 30)}}  {column.describe()}"
        if len(self.columns) > SHOWN_COLUMNS:
            yield f"and {len(self.columns) - SHOWN_COLUMNS:,} more columns"

    @override
    def describe(self) -> str:
        is_scaled = any((column.mean, column.std) != (0.0, 1.0) for column in self.columns)
        return f"{len(self.columns)} columns{', standardized by the training rows' if is_scaled else ''}"

    @override
    def settings(self) -> dict[str, Any]:
        columns = []
        for column in self.columns:
            given = {each.name: (getattr(column, each.name), each.default) for each in fields(Column)}
            settings = {name: value for name, (value, default) in given.items() if value != default}
            columns.append(settings | ({"levels": list(column.levels)} if column.levels else {}))
        about = {name: getattr(self, name) for name in ("is_named", "label", "identifier")}
        return {**super().settings(), "columns": columns, **about}

    @classmethod
    @override
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        columns = tuple(_column(dict(each)) for each in settings["columns"])
        if not columns or len({column.name for column in columns}) < len(columns):
            raise ValueError("columns must have names of their own")
        if type(settings["is_named"]) is not bool:
            raise ValueError(f"is_named must be true or false, got {settings['is_named']!r:.80}")
        names = {name: settings[name] for name in ("label", "identifier")}
        if not all(name is None or (isinstance(name, str) and is_plain(name)) for name in names.values()):
            raise ValueError("names of columns must be texts without control characters")
        return cls(columns=columns, is_named=settings["is_named"], **names)

    @cached_property
    def _numbers(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean, 1 / std, and what stands for a missing value, (columns,) each."""
        fills = [np.nan if column.fill is None else column.fill for column in self.columns]
        mean, std = (np.array([getattr(column, name) for column in self.columns]) for name in ("mean", "std"))
        return mean, 1 / std, np.array(fills)


def table_of_numbers(cells: npt.NDArray[Any]) -> Table:
    """Return the columns of training rows of numbers, (samples, columns), which are found by their place."""
    return Table(columns=tuple(Column(str(k)) for k in range(cells.shape[1])), is_named=False).learn(cells)


def _number(text: str) -> float | None:
    """Return a level as a finite number; None for text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= LARGEST else None


def _column(settings: dict[str, Any]) -> Column:
    """Return a column of a file; raise KeyError, TypeError or ValueError if it is invalid."""
    name, levels = settings["name"], tuple(settings.pop("levels", ()))
    if not all(isinstance(text, str) and is_plain(text) for text in (name, *levels)):
        raise ValueError("columns and levels must be texts without control characters")
    column = Column(**settings, levels=levels)
    numbers = (column.mean, column.std, 0.0 if column.fill is None else column.fill)
    if column.kind not in KINDS or not all(is_finite_number(number, least=-np.inf) for number in numbers):
        raise ValueError(f"column {name!r:.80} must be one of {', '.join(KINDS)} and have finite numbers")
    if column.std <= 0 or not np.isfinite(1 / column.std) or type(column.has_flag) is not bool:
        raise ValueError(f"column {name!r:.80} must have a std > 0, got {column.std!r:.80}")
    if (column.kind == "category") != bool(levels) or len(set(levels)) < len(levels):
        raise ValueError(f"column {name!r:.80} must have levels of its own if it is a category")
    return column

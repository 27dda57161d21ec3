"""Frames of pandas, polars and pyarrow: their cells as an array, and the categories of their labels.

None of these libraries is imported: whoever passes a frame has done it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError

LIBRARIES = ("pandas", "polars", "pyarrow")
MEND = "fill the cell or drop its row"


def library_of(given: object) -> str:
    """Return the package that an object's class, or the nearest of its bases with one of interest, comes from."""
    roots = [kind.__module__.partition(".")[0] for kind in type(given).__mro__]
    known = ("torch", "jax", "jaxlib", "cupy", *LIBRARIES)
    return next((root for root in roots if root in known), roots[0])


def is_frame(given: object) -> bool:
    """Return whether it has columns with names: a frame of pandas or polars, or a table of pyarrow."""
    return library_of(given) in LIBRARIES and _names(given) is not None


def is_column(given: object) -> bool:
    """Return whether it is a single column of one of those libraries, such as a series, an index or an array."""
    return library_of(given) in LIBRARIES and _names(given) is None


def only_column(given: Any) -> Any:
    """Return the column of a frame that has just one, and anything else as it is."""
    return _column(given, 0) if is_frame(given) and len(_names(given) or ()) == 1 else given


def frame_values(frame: Any, *, what: str) -> npt.NDArray[Any]:
    """Return the cells of a frame as numbers, where possible without a copy.

    Args:
        frame: (rows, columns), each column of numbers or truth values, nullable types included.
        what: how messages call it.

    Returns:
        (rows, columns), of the type that all columns fit.

    Raises:
        DataError: a column holds no numbers, or a cell holds nothing; the message names the column.
    """
    if library_of(frame) == "polars" and not hasattr(frame, "to_numpy"):
        raise DataError(f"{what} must be a frame with its rows, got a {type(frame).__name__}: pass .collect()")
    names = _names(frame) or []
    columns = [_column(frame, k) for k in range(len(names))]
    dtypes = [_number_type(column) for column in columns]
    for name, column, dtype in zip(names, columns, dtypes, strict=True):
        if dtype is None:
            raise DataError(
                f"{what} must be numbers, got {column.dtype if hasattr(column, 'dtype') else column.type} in column "
                f"{name!r:.80}: convert the column or drop it"
            )
        _refuse_missing(column, what=f"column {name!r:.80} of {what}")
    if not columns:
        return np.empty((len(frame), 0))
    common = np.result_type(*[dtype for dtype in dtypes if dtype is not None])
    if library_of(frame) == "pandas":
        values: npt.NDArray[Any] = frame.to_numpy(dtype=common)
    elif library_of(frame) == "polars":
        values = np.asarray(frame.to_numpy(), dtype=common)
    else:
        values = np.column_stack([np.asarray(column.to_numpy(), dtype=common) for column in columns])
    if common.kind == "f":
        wrong = np.isnan(values).any(axis=0)  # (columns,)
        if wrong.any():
            at = int(wrong.argmax())
            row = int(np.isnan(values[:, at]).argmax())
            raise DataError(
                f"{what} must have all their values, got NaN in column {names[at]!r:.80} at row {row}: {MEND}"
            )
    return values


def column_values(column: Any, *, what: str) -> npt.NDArray[Any]:
    """Return the cells of one column, where possible without a copy; categories become what they stand for.

    Args:
        column: (rows,).
        what: how messages call it.

    Returns:
        (rows,), numbers, truth values, or objects such as strings.

    Raises:
        DataError: a cell holds nothing; the message names its row.
    """
    _refuse_missing(column, what=what)
    dtype = _number_type(column)
    if library_of(column) == "pandas":
        values: npt.NDArray[Any] = column.to_numpy(dtype=dtype) if dtype is not None else np.asarray(column)
    elif library_of(column) == "polars" or dtype is not None:
        values = np.asarray(column)  # the columns' own methods differ in what they copy
    else:
        values = np.array(column.to_pylist(), dtype=object)
    # NumPy's own strings, as of a list, unless it would cut one off behind its last character.
    is_text = values.dtype.kind == "O" and all(isinstance(value, str) and "\0" not in value for value in values)
    return values.astype(np.str_) if is_text else values


def categories_of(given: object) -> tuple[Any, ...] | None:
    """Return the categories of a column in their order, also those of which there is no row; None if it has none.

    Those of polars' `Categorical` have no order of their own: its `Enum` has.
    """
    dtype = getattr(given, "dtype", None)
    categories = getattr(dtype, "categories", None)
    if library_of(given) not in ("pandas", "polars") or type(dtype).__name__ not in ("CategoricalDtype", "Enum"):
        return None
    return None if categories is None else tuple(categories)


def _names(frame: Any) -> Sequence[Any] | None:
    """The columns' names; None of what has none."""
    if library_of(frame) == "pyarrow":
        return getattr(frame, "column_names", None)
    if library_of(frame) == "polars" and not hasattr(frame, "to_numpy"):
        return ()  # a LazyFrame would have to be worked out for them
    columns = getattr(frame, "columns", None)
    return None if columns is None else list(columns)


def _column(frame: Any, k: int) -> Any:
    """Column number `k`; two may have one name."""
    library = library_of(frame)
    return frame.iloc[:, k] if library == "pandas" else frame.to_series(k) if library == "polars" else frame.column(k)


def _number_type(column: Any) -> np.dtype[Any] | None:
    """The NumPy type of a column's numbers or truth values; None if it holds others."""
    library = library_of(column)
    if library == "pandas":
        dtype = getattr(column.dtype, "numpy_dtype", column.dtype)  # nullable types have both
        return dtype if isinstance(dtype, np.dtype) and dtype.kind in "buif" else None
    if library == "polars":
        name = str(column.dtype).lower()
    else:
        name = {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(column.type), str(column.type))
    known = re.fullmatch(r"(bool)(?:ean)?|u?int(?:8|16|32|64)|float(?:16|32|64)", name)
    return np.dtype(known[1] or name) if known else None


def _refuse_missing(column: Any, *, what: str) -> None:
    """Refuse a column of which a cell holds nothing; a NaN is a number that is refused elsewhere."""
    if library_of(column) == "pandas":
        is_plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "buif"
        missing = np.zeros(0, np.bool_) if is_plain else np.asarray(column.isna(), dtype=np.bool_)
    elif library_of(column) == "polars":
        missing = np.asarray(column.is_null()) if column.null_count() else np.zeros(0, np.bool_)
    else:
        missing = np.asarray(column.is_null()) if column.null_count else np.zeros(0, np.bool_)
    if missing.any():
        raise DataError(f"{what} must have all their values, got none at row {int(missing.argmax())}: {MEND}")

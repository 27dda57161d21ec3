"""Frames of pandas, polars and pyarrow, through narwhals: cells as arrays, categories of labels.

narwhals is imported with the first frame.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

    Frame: TypeAlias = nw.DataFrame[Any]
    Series: TypeAlias = nw.Series[Any]

LIBRARIES = ("pandas", "polars", "pyarrow")
MEND = "fill the cell or drop its row"


def library_of(given: object) -> str:
    """Return the package of an object's class, or of its nearest base class of a supported library."""
    roots = [kind.__module__.partition(".")[0] for kind in type(given).__mro__]
    known = ("torch", "jax", "jaxlib", "cupy", *LIBRARIES)
    return next((root for root in roots if root in known), roots[0])


def as_frame(given: Any) -> Frame | Series | None:
    """Wrap a frame or column of one of `LIBRARIES` by narwhals, without a copy; None for anything else.

    Raises:
        DataError: it is a lazy frame, or has duplicate column names.
    """
    if library_of(given) not in LIBRARIES:
        return None
    import narwhals.stable.v2 as nw
    from narwhals.exceptions import DuplicateError

    if library_of(given) == "pandas" and not hasattr(given, "columns") and hasattr(given, "dtype"):
        given = import_module("pandas").Series(given)  # an index, an array or a `Categorical` too
    try:
        frame = nw.from_native(given, allow_series=True, pass_through=True)
    except DuplicateError as error:
        found = " ".join(str(error).split())
        raise DataError(f"columns must have names of their own ({found:.200}): rename or drop one") from error
    if isinstance(frame, nw.LazyFrame):
        raise DataError("a frame must have its rows, got a LazyFrame: pass .collect()")
    return frame if isinstance(frame, nw.DataFrame | nw.Series) else None


def with_text_names(frame: Frame) -> Frame:
    """Return a frame whose columns have texts as names: "0" for pandas' 0.

    Raises:
        DataError: two columns have the same text.
    """
    texts = [str(name) for name in frame.columns]
    if texts == frame.columns:
        return frame
    if len(set(texts)) < len(texts):
        raise DataError("columns must have names of their own, got a number and a text that is the same: rename one")
    return frame.rename(dict(zip(frame.columns, texts, strict=True)))


def as_table(given: Any) -> Frame | None:
    """Wrap a frame as `as_frame` does; None for anything else, also for a column."""
    frame: Any = as_frame(given)
    return frame if hasattr(frame, "columns") else None


def only_column(given: Any) -> Any:
    """Return the column of a single-column frame; anything else unchanged."""
    frame: Any = as_frame(given)
    columns = getattr(frame, "columns", [])
    return frame.get_column(columns[0]).to_native() if len(columns) == 1 else given


def frame_values(frame: Frame | Series, *, what: str) -> npt.NDArray[Any]:
    """Return the cells of a frame or column, without a copy if possible; categories become their values.

    Args:
        frame: (rows, columns) of numbers or booleans; or one column (rows,) of anything.
        what: name in messages.

    Returns:
        The same shape, in the common dtype of the columns; text as NumPy strings.

    Raises:
        DataError: one of several columns is not numeric, or a cell is missing; the message names the cell.
    """
    import narwhals.stable.v2 as nw

    values: npt.NDArray[Any]
    if isinstance(frame, nw.Series):
        _refuse_missing(frame, what)
        values = frame.to_numpy()
        # NumPy's own strings, as of a list, unless it would cut one off behind its last character.
        is_text = values.dtype.kind == "O" and all(isinstance(value, str) and "\0" not in value for value in values)
        return values.astype(np.str_) if is_text else values
    for name, dtype in frame.schema.items():
        if not (dtype.is_integer() or dtype.is_float() or dtype == nw.Boolean):
            raise DataError(f"{what} must be numbers, got {dtype!s:.80} in column {name!r:.80}: convert or drop it")
    if len(set(frame.schema.values())) > 1:
        values = np.column_stack([column.to_numpy() for column in frame.iter_columns()])
    else:
        values = frame.to_numpy()
    if values.dtype.kind == "O" or (values.dtype.kind == "f" and np.isnan(values).any()):
        for name in frame.columns:
            _refuse_missing(frame.get_column(name), f"column {name!r:.80} of {what}")
    return values


def categories_of(given: object) -> tuple[Any, ...] | None:
    """Return the ordered categories of a column, including unused ones; None if it has none.

    Those of polars' `Categorical` and of pyarrow have no order.
    """
    column = as_frame(given)
    if column is None:
        return None
    import narwhals.stable.v2 as nw

    if isinstance(column, nw.DataFrame):
        return None
    has_order = column.dtype == nw.Enum or (column.dtype == nw.Categorical and column.implementation.is_pandas())
    return tuple(column.cat.get_categories().to_list()) if has_order else None


def missing(column: Series) -> npt.NDArray[np.bool_]:
    """Return whether each value of a column is missing or NaN, (rows,)."""
    is_missing = column.is_null()
    if column.dtype.is_float():
        is_missing = is_missing | column.is_nan()
    return is_missing.fill_null(True).to_numpy()


def _refuse_missing(column: Series, what: str) -> None:
    is_missing = missing(column)
    if is_missing.any():
        row = int(is_missing.argmax())
        raise DataError(f"{what} must have all their values, got none or NaN at row {row}: {MEND}")

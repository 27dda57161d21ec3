"""Finding a number that is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError


def first_not_finite(arrays: Mapping[str, npt.NDArray[Any]]) -> str | None:
    """Say which of some named arrays, any shapes, has the first infinity or NaN, and where; None if none has one."""
    for name, array in arrays.items():
        finite = np.isfinite(array)
        if not finite.all():
            place = [int(at) for at in np.unravel_index(int(finite.argmin()), array.shape)]
            return f"{name} has {array[tuple(place)]}" + (f" at {place}" if place else "")
    return None


def refuse_not_finite(rows: npt.NDArray[Any], what: str = "images") -> None:
    """Refuse rows, (samples, features) of any type, of which a number is infinite or NaN.

    Raises:
        DataError: one is; the message names its row and column.
    """
    if rows.dtype.kind == "f" and not (finite := np.isfinite(rows)).all():
        row, column = divmod(int(finite.argmin()), rows.shape[1])
        raise DataError(
            f"{what} must be finite in {rows.dtype}, got {rows[row, column]} at row {row}, column {column}: "
            "fill the cell or drop its row"
        )

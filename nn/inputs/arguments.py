"""What an argument may be, whoever passes it: Python's numbers and NumPy's alike, truth values not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import DataError
from .blocks import row_blocks


def is_whole(number: Any, *, least: int) -> bool:
    """Return whether it is a whole number of at least `least`, and of less than 64 bits."""
    return type(number) is not bool and isinstance(number, Integral) and least <= int(number) < 2**63


def are_whole(numbers: Any, *, least: int) -> bool:
    """Return whether they are a sequence of whole numbers of at least `least`."""
    return isinstance(numbers, Sequence | np.ndarray) and all(is_whole(number, least=least) for number in numbers)


def are_instances(values: Any, kind: type) -> bool:
    """Return whether they are a sequence of instances of a class; an iterator can be gone through only once."""
    return isinstance(values, Sequence) and all(isinstance(value, kind) for value in values)


def is_finite_number(number: Any, *, least: float) -> bool:
    """Return whether it is a finite number of at least `least`."""
    if type(number) is bool or not isinstance(number, Real):
        return False
    try:
        return math.isfinite(number) and float(number) >= least
    except OverflowError:  # a whole number beyond all floats
        return False


def refuse_not_finite(rows: npt.NDArray[Any], dtype: str | None = None, *, what: str = "images") -> None:
    """Refuse rows of which a number is NaN or infinite, or would be.

    Args:
        rows: (samples, features) of any type.
        dtype: what they will be computed in; None for their own.
        what: how the message calls them.

    Raises:
        DataError: one is; the message names its row and column.
    """
    if rows.dtype.kind != "f":
        return
    kept = np.dtype(rows.dtype if dtype is None else dtype)
    is_narrower = kept.itemsize < rows.dtype.itemsize
    for start, block in row_blocks(rows):
        finite = np.abs(block) <= np.finfo(kept).max if is_narrower else np.isfinite(block)  # (block, features)
        if not finite.all():
            row, column = divmod(int(finite.argmin()), rows.shape[1])
            raise DataError(
                f"{what} must be finite in {kept}, got {block[row, column]} at row {start + row}, column {column}: "
                "fill the cell or drop its row"
            )

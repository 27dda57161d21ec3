"""SciPy's sparse rows as dense arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ...backends.machine import memory_bytes


def dense(rows: Any, dtype: npt.DTypeLike | None = None, *, what: str) -> npt.NDArray[Any]:
    """Convert a sparse array or matrix of SciPy's to a dense array in C order.

    Args:
        rows: any shape, usually (samples, features).
        dtype: dtype of the result; None for that of the rows.
        what: name in messages.

    Raises:
        DataError: it would not fit into the machine's memory.
    """
    needed = math.prod(rows.shape) * np.dtype(dtype or rows.dtype).itemsize
    if needed > (memory := memory_bytes()):
        raise DataError(
            f"{what} of shape {rows.shape} takes {needed / 2**30:,.1f} GiB as a dense array, and this machine has "
            f"{memory / 2**30:,.1f}: pass fewer columns (feature selection, TruncatedSVD), dtype float32, or train on "
            "parts of the rows (partial_fit, or batches)"
        )
    values: npt.NDArray[Any] = rows.toarray(order="C")
    return values

"""Conversion of rows to dense arrays of one floating dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...backends.machine import memory_bytes

TILE_ROWS = 4096  # of a sparse matrix that are made dense at once for a prediction


def dense_rows(rows: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Convert rows (samples, features), sparse or dense, to a C-contiguous array.

    Raises:
        ValueError: a sparse matrix would not fit into the machine's memory.
    """
    if sparse.issparse(rows):
        needed, memory = rows.shape[0] * rows.shape[1] * np.dtype(dtype).itemsize, memory_bytes()
        if needed > memory:
            raise ValueError(
                f"X of shape {rows.shape} takes {needed / 2**30:,.1f} GiB as a dense array, and this machine has "
                f"{memory / 2**30:,.1f}: pass fewer columns (feature selection, TruncatedSVD), dtype='float32', or use "
                "partial_fit on parts of the rows"
            )
        rows = rows.toarray(order="C")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and the training names it
        return np.asarray(rows, dtype=dtype, order="C")  # of which rows are taken


def dense_tiles(rows: Any, dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
    """Yield rows (samples, features) as dense arrays, a sparse matrix in tiles."""
    if not sparse.issparse(rows):
        return iter([dense_rows(rows, dtype)])
    rows = rows.tocsr()  # of which rows can be taken
    starts = range(0, max(rows.shape[0], 1), TILE_ROWS)
    return (dense_rows(rows[start : start + TILE_ROWS], dtype) for start in starts)

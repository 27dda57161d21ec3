"""Conversion of rows to dense arrays of one floating dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..inputs.sparse_rows import dense

TILE_ROWS = 4096  # of a sparse matrix that are made dense at once for a prediction


def dense_rows(rows: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Convert rows (samples, features), sparse or dense, to a C-contiguous array.

    Raises:
        DataError: a sparse matrix would not fit into the machine's memory.
        ValueError: a number is infinite in `dtype`.
    """
    if sparse.issparse(rows):
        rows = dense(rows, dtype, what="X")
    with np.errstate(over="ignore"):
        converted = np.asarray(rows, dtype=dtype, order="C")  # of which rows are taken
    if converted.dtype.itemsize < rows.dtype.itemsize and not np.isfinite(converted).all():
        most = np.abs(rows).max()
        raise ValueError(f"X has numbers beyond the range of {converted.dtype}, up to {most:.3g}: scale it")
    return converted


def dense_tiles(rows: Any, dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
    """Yield rows (samples, features) as dense arrays, a sparse matrix in tiles."""
    if not sparse.issparse(rows):
        return iter([dense_rows(rows, dtype)])
    rows = rows.tocsr()  # of which rows can be taken
    starts = range(0, max(rows.shape[0], 1), TILE_ROWS)
    return (dense_rows(rows[start : start + TILE_ROWS], dtype) for start in starts)

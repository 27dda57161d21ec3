"""Conversion of an estimator's rows to one floating dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ...backends.sparse_rows import canonical, numbers_of


def rows_in(rows: Any, dtype: npt.DTypeLike) -> Any:
    """Convert rows (samples, features) to a C-contiguous array of `dtype`, and sparse ones to canonical csr.

    Raises:
        ValueError: a number is infinite in `dtype`.
    """
    if sparse.issparse(rows):
        rows = canonical(rows, what="X")
    with np.errstate(over="ignore"):
        converted = rows.astype(dtype, copy=False) if sparse.issparse(rows) else np.asarray(rows, dtype, order="C")
    if converted.dtype.itemsize < rows.dtype.itemsize and not np.isfinite(numbers_of(converted)).all():
        most = np.abs(numbers_of(rows)).max()
        raise ValueError(f"X has numbers beyond the range of {converted.dtype}, up to {most:.3g}: scale it")
    return converted

"""SciPy's sparse rows: the canonical csr form that data sets and backends have, its entries, and dense copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError
from .machine import memory_bytes


def is_sparse(rows: Any) -> bool:
    """Return whether rows are in csr format, the only sparse one that data sets and backends have."""
    return hasattr(rows, "indptr")


def canonical(rows: Any, *, what: str) -> Any:
    """Convert a sparse array or matrix of SciPy's to csr with sorted, distinct indices and no stored zeros.

    Args:
        rows: (samples, features), of any sparse format; it is not changed.
        what: name in messages.

    Returns:
        A `csr_array`, which shares the memory of `rows` where nothing had to change.

    Raises:
        DataError: its indices are invalid.
    """
    from scipy.sparse import csr_array

    csr = csr_array(rows)
    try:
        csr.check_format(full_check=True)  # compiled kernels read unchecked
    except ValueError as error:
        raise DataError(
            f"{what} is no valid sparse array ({error}): make it anew from rows, columns and data"
        ) from error
    if not (csr.has_canonical_format and np.all(csr.data)):
        csr = csr.copy()
        csr.sum_duplicates()
        csr.eliminate_zeros()
    return csr


def numbers_of(rows: Any) -> npt.NDArray[Any]:
    """Return the numbers that rows store: (entries,) of sparse rows, (samples, ...) of dense ones."""
    return rows.data if is_sparse(rows) else rows  # type: ignore[no-any-return]


def cell_of(rows: Any, number: int) -> tuple[int, int]:
    """Return row and column of a number in the flattened `numbers_of(rows)`."""
    if not is_sparse(rows):
        return divmod(number, int(rows.shape[1]))
    return int(np.searchsorted(rows.indptr, number, side="right")) - 1, int(rows.indices[number])


def is_small(rows: Any) -> bool:
    """Return whether sparse rows take less memory than dense ones of their dtype."""
    return bool(rows.nnz * (rows.dtype.itemsize + rows.indices.itemsize) < math.prod(rows.shape) * rows.dtype.itemsize)


def dense(rows: Any, *, what: str) -> npt.NDArray[Any]:
    """Convert a sparse array or matrix of SciPy's to a dense array in C order; dense arrays stay as they are.

    Args:
        rows: any shape, usually (samples, features).
        what: name in messages.

    Raises:
        DataError: it would not fit into the machine's memory.
    """
    if not hasattr(rows, "toarray"):
        return rows  # type: ignore[no-any-return]
    needed = math.prod(rows.shape) * rows.dtype.itemsize
    if needed > (memory := memory_bytes()):
        raise DataError(
            f"{what} of shape {rows.shape} takes {needed / 2**30:,.1f} GiB as a dense array, and this machine has "
            f"{memory / 2**30:,.1f}: take the backend numpy or numba, which need none, pass fewer columns (feature "
            "selection, TruncatedSVD), dtype float32, or train on parts of the rows (partial_fit, or batches)"
        )
    values: npt.NDArray[Any] = rows.toarray(order="C")
    return values


def stacked(parts: list[Any]) -> Any:
    """Return parts of one data set's rows, (samples, features) each, one after the other."""
    if not any(map(is_sparse, parts)):
        return np.concatenate(parts)
    from scipy.sparse import vstack

    return vstack(parts, format="csr")

"""A tile of sparse rows, listed by feature: the gradient of a weight's row is a sum over one list.

The sums of a block of units then stay in registers. To add row by row in place of that would load and store them for
every entry.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .numba_compile import chosen_by_kind, inner_kernel
from .numba_lane_types import Width
from .numba_lanes import count_of, fma, item, like, load, put, whole, zeros
from .numba_layout import rows_of
from .numba_sparse import Sparse


class Columns(NamedTuple):
    """A tile of rows as lists by feature.

    Attributes:
        count: length of each feature's list, (features,).
        rows: row in the tile of each entry, (features * tile rows,): room for a full list of every feature.
        values: its value, alike.
    """

    count: Any
    rows: Any
    values: Any


class ByteColumns(NamedTuple):
    """A tile of at most 256 rows of bytes as lists by feature.

    Attributes:
        count: length of each feature's list, (features,).
        entries: `row * 256 + value` of each entry, (features * tile rows,): one number to write in place of two.
    """

    count: Any
    entries: Any


def new_columns(threads: int, features: int, tile_rows: int, values: Any) -> ByteColumns | Columns:
    """Return room for each thread's lists of entries like `values`, (threads, ...) arrays."""
    count = rows_of(threads, features, np.int32)
    entries = rows_of(threads, features * tile_rows, np.uint16)
    if values.dtype == np.uint8 and tile_rows <= 256:
        return ByteColumns(count, entries)
    return Columns(count, entries, rows_of(threads, features * tile_rows, values.dtype))


def _columns_of(columns: Columns, me: int) -> Columns:
    return Columns(columns.count[me], columns.rows[me], columns.values[me])


def _byte_columns_of(columns: ByteColumns, me: int) -> ByteColumns:
    return ByteColumns(columns.count[me], columns.entries[me])


def _put_entry(columns: Columns, at: int, row: int, value: Any) -> None:
    put(columns.rows, at, row)
    put(columns.values, at, value)


def _put_byte_entry(columns: ByteColumns, at: int, row: int, value: Any) -> None:
    put(columns.entries, at, (row << 8) | np.int64(value))


def _entry(columns: Columns, at: int) -> tuple[int, Any]:
    return whole(columns.rows, at), item(columns.values, at)


def _byte_entry(columns: ByteColumns, at: int) -> tuple[int, Any]:
    entry = whole(columns.entries, at)
    return entry >> 8, entry & 255


# `columns_of` returns the lists of thread `me`; `put_entry` writes an entry's row and value, `entry_of` returns them.
columns_of = chosen_by_kind({Columns: _columns_of, ByteColumns: _byte_columns_of})
put_entry = chosen_by_kind({Columns: _put_entry, ByteColumns: _put_byte_entry})
entry_of = chosen_by_kind({Columns: _entry, ByteColumns: _byte_entry})


@inner_kernel
def list_columns(sparse: Sparse, index: Any, columns: Any, tile_rows: int) -> None:
    """List the entries of the samples `index`, (rows in use,), by feature."""
    pitch = sparse.bounds.shape[0]
    columns.count[:] = 0
    for row in range(index.shape[0]):
        at = whole(index, row) * pitch
        for j in range(whole(sparse.starts, at), whole(sparse.starts, at + pitch - 1)):
            i = whole(sparse.index, j)
            length = whole(columns.count, i)
            put(columns.count, i, length + 1)
            put_entry(columns, i * tile_rows + length, row, item(sparse.value, j))


@inner_kernel
def gradient_of_feature(columns: Any, feature: int, tile_rows: int, grad: Any, grad_at: int, width: Width) -> Any:
    """Return the unscaled `x[:, feature] @ grad` of one block of units, (width,); the block begins at `grad_at`."""
    total = zeros(grad, width)
    first = feature * tile_rows
    for j in range(first, first + whole(columns.count, feature)):
        row, value = entry_of(columns, j)
        total = fma(like(total, value), load(grad, grad_at + row * count_of(total), width), total)
    return total

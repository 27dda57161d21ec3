"""Lists by feature of a tile of sparse rows: the gradient of a weight's row is a sum over one list.

The sums of a block of units then stay in registers. To add row by row in place of that would load and store them for
every entry.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..compiler.compile import chosen_by_kind, inner_kernel, kernel
from ..compiler.lane_types import Width
from ..compiler.lanes import count_of, fma, item, like, load, put, whole, zeros
from ..compiler.team import Side, Team, share
from ..network.layout import rows_of
from ..network.network import Matrix
from .sparse import Sparse

# Rows of a tile that one byte can tell apart.
ENTRY_ROWS = 256
# Lanes of a block for which four sums side by side fit into the registers of any processor.
NARROW_LANES = 16


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


class CompactColumns(NamedTuple):
    """A tile of rows with few entries as compressed sparse columns.

    Attributes:
        starts: where each feature's list begins, and where the last one ends, (features + 1,).
        rows: row in the tile of each entry, (entries,).
        values: its value, alike.
    """

    starts: Any
    rows: Any
    values: Any


class KeptColumns(NamedTuple):
    """All tiles of a full batch of bytes as compressed sparse columns: made once, for as long as the order stays.

    Attributes:
        starts: where each tile's lists begin in `entries`, and where its last one ends, (tiles, features + 1).
        entries: `row * 256 + value` of each entry, with its row in the tile, (entries,).
    """

    starts: Any
    entries: Any


AnyColumns = Columns | ByteColumns | CompactColumns | KeptColumns


@inner_kernel
def packed(row: int, value: int) -> int:
    """Return one number for a row of a tile and a byte."""
    return (row << 8) | value


@inner_kernel
def unpacked(entry: int) -> tuple[int, int]:
    """Return the row and the byte."""
    return entry >> 8, entry & 255


def new_columns(threads: int, features: int, tile_rows: int, values: Any) -> ByteColumns | Columns:
    """Return room for each thread's lists of entries like `values`, (threads, ...) arrays."""
    count = rows_of(threads, features, np.int32)
    entries = rows_of(threads, features * tile_rows, np.uint16)
    if values.dtype == np.uint8 and tile_rows <= ENTRY_ROWS:
        return ByteColumns(count, entries)
    return Columns(count, entries, rows_of(threads, features * tile_rows, values.dtype))


def compact_columns(threads: int, sparse: Sparse, tile_rows: int) -> CompactColumns:
    """Return room for each thread's lists of the entries of any `tile_rows` rows, (threads, ...) arrays."""
    pitch = len(sparse.bounds)
    lengths = np.sort(sparse.starts[pitch - 1 :: pitch] - sparse.starts[::pitch])  # (samples,)
    entries, features = int(lengths[-tile_rows:].sum()), int(sparse.bounds[-1])
    starts, rows = rows_of(threads, features + 1, np.int32), rows_of(threads, entries, np.uint16)
    return CompactColumns(starts, rows, rows_of(threads, entries, sparse.value.dtype))


def kept_columns(
    team: Team, sparse: Sparse, order: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64]
) -> KeptColumns:
    """Return the lists of all tiles of the samples `order`, (rows,), whose first rows are `bounds`, (tiles + 1,)."""
    assert np.diff(bounds).max(initial=0) <= ENTRY_ROWS
    pitch, features = len(sparse.bounds), int(sparse.bounds[-1])
    lengths = sparse.starts[order * pitch + pitch - 1] - sparse.starts[order * pitch]  # (rows,)
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])  # (rows + 1,)
    starts = np.zeros((len(bounds) - 1, features + 1), dtype=np.int64)
    starts[:, 0] = before[bounds[:-1]]
    kept = KeptColumns(starts, np.empty(before[-1], dtype=np.uint16))
    team.run(list_tiles, sparse, order, bounds, kept)
    return kept


@kernel
def list_tiles(side: Side, sparse: Sparse, order: Any, bounds: Any, kept: KeptColumns) -> None:
    """List the entries of each tile by feature; `kept.starts[:, 0]` is given, and the rest of it 0."""
    first_tile, end_tile = share(side, bounds.shape[0] - 1, 1)
    for tile in range(first_tile, end_tile):
        list_compactly(kept, kept.starts[tile], sparse, order[bounds[tile] : bounds[tile + 1]])


def _columns_of(columns: Columns, me: int, number: int) -> Columns:
    return Columns(columns.count[me], columns.rows[me], columns.values[me])


def _byte_columns_of(columns: ByteColumns, me: int, number: int) -> ByteColumns:
    return ByteColumns(columns.count[me], columns.entries[me])


def _compact_columns_of(columns: CompactColumns, me: int, number: int) -> CompactColumns:
    return CompactColumns(columns.starts[me], columns.rows[me], columns.values[me])


def _kept_columns_of(columns: KeptColumns, me: int, number: int) -> KeptColumns:
    return KeptColumns(columns.starts[number], columns.entries)


@chosen_by_kind({
    Columns: _columns_of, ByteColumns: _byte_columns_of, CompactColumns: _compact_columns_of,
    KeptColumns: _kept_columns_of,
})  # fmt: skip
def columns_of(columns: AnyColumns, me: int, number: int) -> AnyColumns:
    """Return the lists of tile `number` of a batch, which the thread `me` works on."""
    raise NotImplementedError


def _put_entry(columns: Columns | CompactColumns, at: int, row: int, value: Any) -> None:
    put(columns.rows, at, row)
    put(columns.values, at, value)


def _put_byte_entry(columns: ByteColumns | KeptColumns, at: int, row: int, value: Any) -> None:
    put(columns.entries, at, packed(row, int(value)))


@chosen_by_kind({
    Columns: _put_entry, ByteColumns: _put_byte_entry, CompactColumns: _put_entry, KeptColumns: _put_byte_entry
})  # fmt: skip
def put_entry(columns: AnyColumns, at: int, row: int, value: Any) -> None:
    """Write an entry's row and value."""


@inner_kernel
def list_compactly(columns: Any, starts: Any, sparse: Sparse, index: Any) -> None:
    """List the entries of the samples `index`, (rows,), by feature.

    `starts`, (features + 1,), is given as the place of the first list, then zeros; it becomes the places of all lists.
    """
    pitch = sparse.bounds.shape[0]
    for row in range(index.shape[0]):
        at = whole(index, row) * pitch
        for j in range(whole(sparse.starts, at), whole(sparse.starts, at + pitch - 1)):
            starts[whole(sparse.index, j) + 1] += 1
    # Each list's length becomes its place; that moves on with every entry, and ends at the place of the next list.
    start = starts[0]
    for i in range(1, starts.shape[0]):
        start, starts[i] = start + starts[i], start
    for row in range(index.shape[0]):
        at = whole(index, row) * pitch
        for j in range(whole(sparse.starts, at), whole(sparse.starts, at + pitch - 1)):
            i = whole(sparse.index, j) + 1
            put_entry(columns, starts[i], row, item(sparse.value, j))
            starts[i] += 1


def _list_entries(columns: Columns | ByteColumns, tile: Any, tile_rows: int) -> None:
    sparse, index, pitch = tile.rows, tile.index, tile.rows.bounds.shape[0]
    columns.count[:] = 0
    for row in range(index.shape[0]):
        at = whole(index, row) * pitch
        for j in range(whole(sparse.starts, at), whole(sparse.starts, at + pitch - 1)):
            i = whole(sparse.index, j)
            length = whole(columns.count, i)
            put(columns.count, i, length + 1)
            put_entry(columns, i * tile_rows + length, row, item(sparse.value, j))


def _list_compact_entries(columns: CompactColumns, tile: Any, tile_rows: int) -> None:
    columns.starts[:] = 0
    list_compactly(columns, columns.starts, tile.rows, tile.index)


def _list_nothing(features: KeptColumns | Matrix, tile: Any, tile_rows: int) -> None:
    pass


@chosen_by_kind({
    Columns: _list_entries, ByteColumns: _list_entries, CompactColumns: _list_compact_entries,
    KeptColumns: _list_nothing, Matrix: _list_nothing,
})  # fmt: skip
def list_features(features: AnyColumns | Matrix, tile: Any, tile_rows: int) -> None:
    """List a tile's entries by feature, for the way back by blocks of units, unless they are, or the tile is dense."""


def _list_of(columns: Columns | ByteColumns, feature: int, tile_rows: int) -> tuple[int, int]:
    return feature * tile_rows, feature * tile_rows + whole(columns.count, feature)


def _compact_list_of(columns: CompactColumns | KeptColumns, feature: int, tile_rows: int) -> tuple[int, int]:
    return whole(columns.starts, feature), whole(columns.starts, feature + 1)


@chosen_by_kind({
    Columns: _list_of, ByteColumns: _list_of, CompactColumns: _compact_list_of, KeptColumns: _compact_list_of
})  # fmt: skip
def list_of(columns: AnyColumns, feature: int, tile_rows: int) -> tuple[int, int]:
    """Return where a feature's list begins and ends."""
    raise NotImplementedError


def _entry(columns: Columns | CompactColumns, at: int) -> tuple[int, Any]:
    return whole(columns.rows, at), item(columns.values, at)


def _byte_entry(columns: ByteColumns | KeptColumns, at: int) -> tuple[int, Any]:
    return unpacked(whole(columns.entries, at))


@chosen_by_kind({Columns: _entry, ByteColumns: _byte_entry, CompactColumns: _entry, KeptColumns: _byte_entry})
def entry_of(columns: AnyColumns, at: int) -> tuple[int, Any]:
    """Return an entry's row and value."""
    raise NotImplementedError


@inner_kernel
def add_entry(columns: Any, at: int, grad: Any, grad_at: int, total: Any, width: Width) -> Any:
    """Return `total + value * grad[row]` for one entry."""
    row, value = entry_of(columns, at)
    return fma(like(total, value), load(grad, grad_at + row * count_of(total), width), total)


@inner_kernel
def gradient_of_feature(columns: Any, feature: int, tile_rows: int, grad: Any, grad_at: int, width: Width) -> Any:
    """Return the unscaled `x[:, feature] @ grad` of one block of units, (width,); the block begins at `grad_at`.

    A narrow block would wait for each sum before the next: four sums are taken side by side.
    """
    j, last = list_of(columns, feature, tile_rows)
    a = zeros(grad, width)
    if count_of(a) <= NARROW_LANES:
        b = c = d = a
        while j + 4 <= last:
            a = add_entry(columns, j, grad, grad_at, a, width)
            b = add_entry(columns, j + 1, grad, grad_at, b, width)
            c = add_entry(columns, j + 2, grad, grad_at, c, width)
            d = add_entry(columns, j + 3, grad, grad_at, d, width)
            j += 4
        a = (a + b) + (c + d)
    for k in range(j, last):
        a = add_entry(columns, k, grad, grad_at, a, width)
    return a

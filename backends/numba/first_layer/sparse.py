"""Rows that are mostly zeros: a zero adds nothing to `x @ weight`, nor to `x.T @ grad`.

Rows are kept as compressed sparse rows: the position and the value of each number that is not zero, one row after the
other. The scale of integer images is multiplied into the sums, once for each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compiler.compile import inner_kernel
from ..compiler.lane_types import Width
from ..compiler.lanes import count_of, fma, item, like, load, prefetch, store, whole, zeros
from ..network.network import Matrix

# Entries whose positions fill a cache line, and how many rows ahead they are asked for.
LINE_ENTRIES = 32
ROWS_AHEAD = 4


class Sparse(NamedTuple):
    """Compressed sparse rows of images (samples, features).

    Attributes:
        starts: where each row's chunks of features begin in `index`, and where its last one ends,
            (samples * (chunks + 1),).
        index: feature of each entry, ascending in a row, (entries,).
        value: its value, (entries,).
        scale: what values are multiplied by.
        bounds: the first feature of each chunk, then the number of features, (chunks + 1,).
    """

    starts: Any
    index: Any
    value: Any
    scale: float
    bounds: Any


@inner_kernel
def product_of_row(sparse: Sparse, start: int, stop: int, weight: Any, weight_at: int, total: Any, width: Width) -> Any:
    """Return `total + x @ weight` for the entries start to stop of one row, (width,)."""
    for j in range(start, stop):
        at = weight_at + whole(sparse.index, j) * count_of(total)
        total = fma(like(total, item(sparse.value, j)), load(weight, at, width), total)
    return total


@inner_kernel
def fetch_ahead(sparse: Sparse, index: Any, row: int, chunk: int) -> None:
    """Have one chunk of a coming row's entries brought near: shuffled rows lie anywhere in memory."""
    pitch = sparse.bounds.shape[0]
    if row + ROWS_AHEAD < index.shape[0]:
        prefetch(sparse.starts, whole(index, row + ROWS_AHEAD) * pitch + chunk)
    if row < index.shape[0]:
        at = whole(index, row) * pitch + chunk
        first, last = whole(sparse.starts, at), whole(sparse.starts, at + 1)
        for j in range(first, last, LINE_ENTRIES):
            prefetch(sparse.index, j)
            prefetch(sparse.value, j)


@inner_kernel
def products_of_block(sparse: Sparse, index: Any, weight: Matrix, block: int, y: Matrix, width: Width) -> None:
    """Write the unscaled `x @ weight` of one block of units, for the samples `index`, (rows in use,).

    A chunk of features is done for all rows before the next one: its weights stay in the second-level cache.
    """
    pitch = sparse.bounds.shape[0]
    weight_at = weight.at + block * weight.rows * weight.width
    for chunk in range(pitch - 1):
        y_at = y.at + block * y.rows * y.width
        for row in range(index.shape[0]):
            at = whole(index, row) * pitch + chunk
            total = zeros(y.buffer, width)
            if chunk > 0:
                total = load(y.buffer, y_at, width)
            fetch_ahead(sparse, index, row + ROWS_AHEAD, chunk)
            first, last = whole(sparse.starts, at), whole(sparse.starts, at + 1)
            total = product_of_row(sparse, first, last, weight.buffer, weight_at, total, width)
            store(y.buffer, y_at, total)
            y_at += y.width


@inner_kernel
def products_of_chunk(sparse: Sparse, index: Any, chunk: int, weight: Matrix, sums: Matrix, width: Width) -> None:
    """Write the unscaled `x @ weight` of a narrow layer over one chunk of features, for the samples `index`.

    A block of one register would wait for each sum before the next: four sums are taken side by side.
    """
    pitch = sparse.bounds.shape[0]
    for row in range(index.shape[0]):
        at = whole(index, row) * pitch + chunk
        j, stop = whole(sparse.starts, at), whole(sparse.starts, at + 1)
        fetch_ahead(sparse, index, row + ROWS_AHEAD, chunk)
        a = b = c = d = zeros(sums.buffer, width)
        while j + 4 <= stop:
            a = product_of_row(sparse, j, j + 1, weight.buffer, weight.at, a, width)
            b = product_of_row(sparse, j + 1, j + 2, weight.buffer, weight.at, b, width)
            c = product_of_row(sparse, j + 2, j + 3, weight.buffer, weight.at, c, width)
            d = product_of_row(sparse, j + 3, j + 4, weight.buffer, weight.at, d, width)
            j += 4
        a = product_of_row(sparse, j, stop, weight.buffer, weight.at, a, width)
        store(sums.buffer, sums.at + row * sums.width, (a + b) + (c + d))


@inner_kernel
def add_gradient_of_chunk(
    sparse: Sparse, index: Any, chunk: int, weight: Matrix, grad: Matrix, factor: float, width: Width
) -> None:
    """Add `factor * x.T @ grad` of a narrow layer, x unscaled, to what lies at `weight`, for one chunk of features."""
    pitch = sparse.bounds.shape[0]
    for row in range(index.shape[0]):
        at = whole(index, row) * pitch + chunk
        g = load(grad.buffer, grad.at + row * grad.width, width)
        g = g * like(g, factor)
        for j in range(whole(sparse.starts, at), whole(sparse.starts, at + 1)):
            w_at = weight.at + whole(sparse.index, j) * count_of(g)
            store(weight.buffer, w_at, fma(like(g, item(sparse.value, j)), g, load(weight.buffer, w_at, width)))

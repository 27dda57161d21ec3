"""Going through many rows in blocks, so that no second array of their size is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

BLOCK_BYTES = 2**24


def row_blocks(rows: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield blocks of rows (samples, ...): the first row's number, and the block, a view of `BLOCK_BYTES` or so."""
    size = max(1, BLOCK_BYTES // max(1, rows.nbytes // max(1, len(rows))))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]

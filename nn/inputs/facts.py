"""Facts about rows: range, number of non-zeros, checksum."""

from __future__ import annotations

import math
import zlib
from functools import cached_property
from typing import Any

import numpy as np

from ...backends.mapped import is_mapped
from ...backends.sparse_rows import is_sparse
from .arguments import row_blocks

Number = float | np.floating[Any]


class RowFacts:
    """Facts about rows, computed lazily in cache-sized blocks, and stored.

    Attributes:
        rows: (samples, ...), real numbers, dense or in csr format.
        nonzeros: number of non-zeros, once `range` has read all rows; None before, and for memory-mapped rows, whose
            zeros no backend skips.
    """

    nonzeros: int | None = None

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def renew(self) -> None:
        """Discard the facts, unless the rows are mapped read-only: others may have been changed."""
        if not is_mapped(self.rows) or self.rows.flags.writeable:
            self.__dict__ = {"rows": self.rows}

    @cached_property
    def range(self) -> tuple[Any, Any]:
        """Minimum and maximum, NaN if there is one; reading stops once both are the dtype's limits."""
        nonzeros, counts = 0, not is_mapped(self.rows)
        low, high = self._ends()
        largest, least = low, high  # of no numbers
        if is_sparse(self.rows) and self.rows.nnz < math.prod(self.rows.shape):
            largest = least = self.rows.dtype.type(0)
        for _, block in row_blocks(self.rows):
            least = least if least == low else np.minimum(least, block.min())
            largest = largest if largest == high else np.maximum(largest, block.max())
            if (least, largest) == (low, high):
                return least, largest
            if counts:  # NumPy is slow at counting floats
                nonzeros += int(np.count_nonzero(block if block.dtype.kind in "iu" else block != 0))
        self.nonzeros = nonzeros if counts else None
        return least, largest

    def are_within(self, least: Number, largest: Number) -> bool:
        """Return whether all numbers are in [least, largest] and not NaN; reads nothing if the dtype implies it."""
        low, high = self._ends()
        if not (least <= low and high <= largest):
            low, high = self.range
        return bool(least <= low and high <= largest)

    def are_finite_in(self, dtype: str) -> bool:
        """Return whether all numbers are finite in a floating `dtype`."""
        largest = np.finfo(dtype).max  # not Python's float, which would become a number of the rows' own type
        return self.are_within(-largest, largest)

    @cached_property
    def check_sum(self) -> int:
        """CRC-32 of the bytes, of sparse rows with their places: fast, but no protection against tampering."""
        number, parts = 0, [self.rows]
        if is_sparse(self.rows):
            parts += [self.rows.indptr.astype(np.int64), self.rows.indices.astype(np.int64)]
        for part in parts:
            for _, block in row_blocks(part):
                number = zlib.crc32(np.ascontiguousarray(block).data.cast("B"), number)
        return number

    def _ends(self) -> tuple[float, float]:
        """Return the dtype's minimum and maximum."""
        dtype = self.rows.dtype
        if dtype.kind in "iu":
            return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        return (0, 1) if dtype.kind == "b" else (-np.inf, np.inf)


NO_FACTS = RowFacts(np.empty((0, 0)))

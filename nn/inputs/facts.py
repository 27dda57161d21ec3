"""Facts about rows: range, number of non-zeros, check sum."""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.mapped import is_mapped
from .arguments import row_blocks

Number = float | np.floating[Any]


class RowFacts:
    """Facts about rows: found at first need, in blocks that stay in the cache, and kept.

    Attributes:
        rows: (samples, ...), real numbers.
        nonzeros: number of non-zeros, once `range` has read all rows; None before, and always None of rows that are
            mapped from a file, whose zeros no backend skips.
    """

    nonzeros: int | None = None

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        self.rows = rows

    def renew(self) -> None:
        """Forget what was found, unless the rows are mapped from a file for reading: others may have been changed."""
        if not is_mapped(self.rows) or self.rows.flags.writeable:
            self.__dict__ = {"rows": self.rows}

    @cached_property
    def range(self) -> tuple[Any, Any]:
        """Least and largest number, NaN if there is one; once both are the type's own, no more is read."""
        nonzeros, counts = 0, not is_mapped(self.rows)
        low, high = self._ends()
        largest, least = low, high  # of no numbers
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
        """Return whether all numbers are in [least, largest], none NaN; nothing is read where the type says so."""
        low, high = self._ends()
        if not (least <= low and high <= largest):
            low, high = self.range
        return bool(least <= low and high <= largest)

    def are_finite_in(self, dtype: str) -> bool:
        """Return whether all numbers are finite in `dtype`, a floating type."""
        largest = np.finfo(dtype).max  # not Python's float, which would become a number of the rows' own type
        return self.are_within(-largest, largest)

    @cached_property
    def check_sum(self) -> int:
        """CRC-32 of the bytes: quick, and no protection from intent."""
        number = 0
        for _, block in row_blocks(self.rows):
            number = zlib.crc32(np.ascontiguousarray(block).data.cast("B"), number)
        return number

    def _ends(self) -> tuple[float, float]:
        """Return the type's least and largest number."""
        dtype = self.rows.dtype
        if dtype.kind in "iu":
            return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        return (0, 1) if dtype.kind == "b" else (-np.inf, np.inf)


NO_FACTS = RowFacts(np.empty((0, 0)))

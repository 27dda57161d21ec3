"""Description of the machine's vector unit, from which lanes and the shapes of microtiles follow.

A microtile is some rows by one or two panels. Its sums take half of the registers: enough independent multiply-adds to
hide their latency (two a cycle, of four cycles each), and room for a column and a row. Two panels need fewer loads: 6
for 8 multiply-adds on AVX2 in place of 9, where two loads a cycle were the limit.

| | bytes | registers | lanes | microtiles of float32 | of float64 |
|---|---|---|---|---|---|
| AVX-512 | 64 | 32 | 16, of float64 8 | 8 x 2, 8 x 1 | 8 x 2, 8 x 1 |
| AVX2 | 32 | 16 | 8 | 4 x 2, 8 x 1 | 4 x 1 |
| NEON | 16 | 32 | 8 | 4 x 2, 8 x 1 | 4 x 1 |
| SSE2 | 16 | 16 | 8 | 4 x 1 | 2 x 1 |
"""

from __future__ import annotations

import platform
from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np

from .lane_types import Shape

# Rows that every microtile divides: tiles have whole eights of rows, and layers whole eights of units.
ROWS = 8


class VectorUnit(NamedTuple):
    """Vector unit of a processor.

    Attributes:
        vector_bytes: bytes of a register.
        registers: how many there are.
    """

    vector_bytes: int
    registers: int

    def lanes(self, dtype: Any) -> int:
        """Return the lanes of a panel of a floating type: one register's, or those of several, eight at least."""
        return max(self.vector_bytes // int(np.dtype(dtype).itemsize), ROWS)

    def shapes(self, dtype: Any, lanes: int) -> tuple[Shape, Shape]:
        """Return the shapes of microtiles of `lanes` lanes a panel: the best one, and the best with a single panel."""
        panels_held = self.registers // 2 * self.vector_bytes // (lanes * int(np.dtype(dtype).itemsize))
        panels = 2 if panels_held >= ROWS else 1
        return Shape(min(panels_held // panels, ROWS), panels, lanes), Shape(min(panels_held, ROWS), 1, lanes)


def vector_unit(machine: str, features: dict[str, bool]) -> VectorUnit:
    """Return the vector unit of a processor, by its architecture and LLVM's names of its features."""
    if machine.lower() in ("aarch64", "arm64"):
        return VectorUnit(16, 32)
    if features.get("avx512f"):
        return VectorUnit(64, 32)
    return VectorUnit(32 if features.get("avx2") else 16, 16)


VECTOR_UNIT = vector_unit(platform.machine(), dict(llvmlite.binding.get_host_cpu_features()))

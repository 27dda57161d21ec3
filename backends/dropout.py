"""Dropout with masks that are identical on every backend.

Masks are a function of seed, step, layer and position in the batch, drawn on the host by a counter-based generator
(Philox: Salmon et al. 2011), so they do not depend on other steps or on the tiling of a batch.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 256  # rows that are drawn together: a tile may begin within one


class Dropout(NamedTuple):
    """Dropout masks of a training run.

    Attributes:
        rate: probability of dropping a unit, in [0, 1).
        seed: integer in [0, 2**63).
    """

    rate: float
    seed: int

    def factors(self, step: int, layer: int, start: int, stop: int, units: int, dtype: Any) -> npt.NDArray[Any]:
        """Return the factors of a hidden layer's outputs: 0, or `1 / (1 - rate)` to preserve the mean.

        Source: Srivastava et al. 2014, section 4, scaled in training instead of prediction (inverted dropout).

        Args:
            step: number of the step, from 1.
            layer: number of the layer, from 0.
            start: first row, counted within the batch.
            stop: one past the last row.
            units: width of the layer.
            dtype: dtype of the result.

        Returns:
            (stop - start, units).
        """
        first = start // BLOCK_ROWS
        end = max(-(-stop // BLOCK_ROWS), first + 1)  # of no rows too there is a block to cut from
        draws = np.concatenate([self._block(step, layer, block, units) for block in range(first, end)])
        kept = draws[start - first * BLOCK_ROWS : stop - first * BLOCK_ROWS] >= np.float32(self.rate)  # (rows, units)
        factors: npt.NDArray[Any] = kept.astype(dtype) * self.factor(dtype)
        return factors

    def factor(self, dtype: Any) -> npt.NDArray[Any]:
        """Return the factor of the units that are kept, ()."""
        factor: npt.NDArray[Any] = np.ones((), dtype) / np.asarray(1 - self.rate, dtype=dtype)
        return factor

    @property
    def largest_dropped(self) -> int:
        """Largest 32-bit number that drops a unit: its first 24 bits, as a fraction, are below the rate; -1 if none."""
        return (math.ceil(float(np.float32(self.rate)) * 2**24) << 8) - 1

    def _block(self, step: int, layer: int, block: int, units: int) -> npt.NDArray[np.float32]:
        """Return uniform draws in [0, 1) for a block of rows, (BLOCK_ROWS, units)."""
        philox = np.random.Philox(key=[self.seed, layer], counter=[0, 0, block, step])
        return np.random.Generator(philox).random((BLOCK_ROWS, units), dtype=np.float32)

"""Dropout: which units a step leaves out, drawn so that every backend leaves out the same.

The draws are a function of seed, step, layer and place in the batch: the host makes them with a counter-based generator
(Philox: Salmon et al. 2011), so that no step needs to know of another, and a batch may be worked through in any tiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 256  # rows that are drawn together: a tile may begin within one


class Dropout(NamedTuple):
    """What is drawn for one training.

    Attributes:
        rate: share of the units that are left out, in [0, 1).
        seed: whole number in [0, 2**63).
    """

    rate: float
    seed: int

    def factors(self, step: int, layer: int, start: int, stop: int, units: int, dtype: Any) -> npt.NDArray[Any]:
        """Return what a hidden layer's outputs are multiplied by: 0, or `1 / (1 - rate)`, which keeps their mean.

        Source: Srivastava et al. 2014, section 4, with the factor in training in place of one in prediction.

        Args:
            step: number of the step, from 1.
            layer: number of the layer, from 0.
            start: first row, by its place in the step's batch.
            stop: the row after the last.
            units: of the layer.
            dtype: of the result.

        Returns:
            (stop - start, units).
        """
        first = start // BLOCK_ROWS
        end = max(-(-stop // BLOCK_ROWS), first + 1)  # of no rows too there is a block to cut from
        draws = np.concatenate([self._block(step, layer, block, units) for block in range(first, end)])
        kept = draws[start - first * BLOCK_ROWS : stop - first * BLOCK_ROWS] >= self.rate  # (rows, units)
        factors: npt.NDArray[Any] = kept.astype(dtype) / np.asarray(1 - self.rate, dtype=dtype)
        return factors

    def _block(self, step: int, layer: int, block: int, units: int) -> npt.NDArray[np.float32]:
        """Return the draws of a block of rows, uniform in [0, 1): (BLOCK_ROWS, units)."""
        philox = np.random.Philox(key=[self.seed, layer], counter=[0, 0, block, step])
        return np.random.Generator(philox).random((BLOCK_ROWS, units), dtype=np.float32)

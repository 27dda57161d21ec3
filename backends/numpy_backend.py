"""The NumPy backend: the generic operations, with temporaries saved where they cost most."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt

from .activations import ACTIVATIONS, Array, relu
from .base import Backend
from .plan import Rows


class NumPyBackend(Backend):
    """NumPy on the CPU."""

    name = "numpy"
    tile_rows = 4096  # 4096 x 784 float32 are 12.8 MB: a tile stays in the last-level cache between its two products

    def __init__(self) -> None:
        super().__init__(xp)

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """See `Backend.to_numpy`."""
        return np.array(array)

    def gather(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        """See `Backend.gather`; integers are scaled in place."""
        x = rows.images[index].astype(dtype, copy=False)  # (batch, features)
        if np.issubdtype(rows.images.dtype, np.integer):
            x *= dtype.type(rows.scale)
        return x, rows.labels[index]

    def linear(self, x: Array, weight: Array, bias: Array, *, activation: str) -> Array:
        """See `Backend.linear`; the bias is added, and ReLU taken, in place."""
        y = x @ weight  # (batch, out_features)
        y += bias
        forward = ACTIVATIONS[activation].forward
        return np.maximum(y, 0, out=y) if forward is relu else forward(np, y)

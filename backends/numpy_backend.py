"""The NumPy backend: the generic operations, with temporaries saved where they cost most."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt

from .activations import ACTIVATIONS, Array, relu
from .base import Backend
from .losses import LOSSES, softmax_cross_entropy
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

    def loss(self, outputs: Array, labels: Array, *, loss: str, batch_size: int) -> tuple[Array, Array, Array]:
        """See `Backend.loss`; cross-entropy takes the label's entry of each row instead of a one-hot product."""
        if LOSSES[loss] is not softmax_cross_entropy:
            return super().loss(outputs, labels, loss=loss, batch_size=batch_size)
        label_of = np.arange(len(labels)), labels  # the entry of each row's label
        correct = np.count_nonzero(outputs.argmax(axis=1) == labels)
        grad = outputs - outputs.max(axis=1, keepdims=True)  # (rows, classes), the shifted logits so far
        shifted = grad[label_of]  # (rows,)
        np.exp(grad, out=grad)
        totals = grad.sum(axis=1, keepdims=True)  # (rows, 1)
        loss_sum = np.sum(np.log(totals[:, 0]) - shifted, dtype=np.float64)
        grad /= totals  # the probabilities
        grad[label_of] -= 1
        grad /= batch_size
        return loss_sum, np.int64(correct), grad

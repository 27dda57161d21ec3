"""The losses as operations: value, gradient and count of right rows in one pass, row after row, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .numba_compile import kernel
from .numba_output_losses import LARGE_PRODUCT, SIGMOID

__all__ = ["output_loss", "softmax_cross_entropy"]


@kernel
def softmax_cross_entropy(logits: Any, labels: Any, weights: Any, size: float, grad_logits: Any) -> tuple[float, int]:
    """Loss, correct rows and gradient of softmax and cross-entropy.

    Args:
        logits: (rows, classes).
        labels: (rows,); a label outside of [0, classes) is no class, as in `losses.softmax_cross_entropy`.
        weights: how much each row counts, (rows,) float64; (0,) for 1 each.
        size: what the mean of the gradient is over: rows, or the sum of their weights.
        grad_logits: result, `(softmax(logits) - one_hot) / size`, (rows, classes). Source: Bishop 2006, 4.3.4.

    Returns:
        Sum of the rows' losses in float64, nats, and the number of correct rows.
    """
    rows, classes = logits.shape
    zero, loss_sum, correct = logits.dtype.type(0), 0.0, 0
    for r in range(rows):
        weight = weights[r] if weights.shape[0] > 0 else 1.0
        label, best, largest = labels[r], 0, logits[r, 0]
        for c in range(1, classes):
            z = logits[r, c]
            # The first of the largest, and a NaN is larger than any number: the rule of argmax.
            if z > largest or (z != z and largest == largest):
                best, largest = c, z
        top, rest = np.float64(largest), 0.0
        for c in range(classes):
            e = math.exp(np.float64(logits[r, c]) - top)  # in [0, 1]: the shift leaves the softmax as it is
            grad_logits[r, c] = e
            rest += e if c != best else 0.0  # the largest's own term is 1, beside which a small rest would be lost
        total = (1 + rest) * size
        share = logits.dtype.type(weight / total)
        e = grad_logits[r, label] if 0 <= label < classes else zero
        for c in range(classes):
            grad_logits[r, c] *= share
        if 0 <= label < classes:
            shifted = np.float64(logits[r, label]) - top
            loss_sum += weight * (math.log1p(rest) - shifted)  # -log p
            # p - 1; of a largest label e is 1, and the compiler might take the rest from 1 before it takes that from e.
            grad_logits[r, label] = weight * (-rest if shifted == 0 else e - 1 - rest) / total
        correct += 1 if best == label else 0
    return loss_sum, correct


@kernel
def output_loss(
    code: int, outputs: Any, labels: Any, weights: Any, size: float, grad_outputs: Any
) -> tuple[float, int]:
    """Loss, correct rows and gradient of a loss that takes a number for each output; see `losses` for the formulas.

    Args:
        code: which loss.
        outputs: (rows, outputs).
        labels: (rows, outputs).
        weights: how much each row counts, (rows,) float64; (0,) for 1 each.
        size: what the mean of the gradient is over: rows, or the sum of their weights.
        grad_outputs: result, (rows, outputs).

    Returns:
        As `softmax_cross_entropy`.
    """
    loss_sum, right_rows = 0.0, 0
    for r in range(outputs.shape[0]):
        weight = weights[r] if weights.shape[0] > 0 else 1.0
        factor, loss, rest, is_right = weight / size, 0.0, 0.0, code == SIGMOID
        for j in range(outputs.shape[1]):
            z, y = np.float64(outputs[r, j]), np.float64(labels[r, j])
            if code == SIGMOID:
                e = math.exp(-abs(z))
                rest += e + rest * e  # the product of all 1 + e, less 1
                if rest > LARGE_PRODUCT:
                    loss, rest = loss + math.log1p(rest), 0.0
                loss += (0.0 if z < 0 else z) - y * z  # this way round a NaN stays one
                p, q = (1.0, e) if z > 0 else (e, 1.0)  # of sigmoid(z), 1 - sigmoid(z), but for 1 + e
                grad_outputs[r, j] = factor * ((p * (1 - y) - q * y) / (1 + e))
                is_right = is_right and (z > 0) == (y > 0.5)
            else:
                error = z - y
                loss += error * error / 2
                grad_outputs[r, j] = factor * error
        loss_sum += weight * (loss + math.log1p(rest))
        right_rows += 1 if is_right else 0
    return loss_sum, right_rows

"""Loss functions with their gradients, one row a function.

A loss takes the last layer's outputs and gives the sum of the rows' losses, the number of rows that were classified
correctly, and the gradient of the *mean* loss over the batch with respect to the outputs. A new loss is a function and
a row in `LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .activations import Array

Loss = Callable[..., tuple[Array, Array, Array]]


def log_softmax(xp: Any, logits: Array) -> Array:
    """Logarithm of the class probabilities, finite however large the logits are.

    With `m = max(logits)`, `log softmax(z) = (z - m) - log sum exp(z - m)`: the largest exponent is 0, so nothing
    overflows (Goodfellow, Bengio and Courville 2016, section 4.1).

    Args:
        xp: the array namespace.
        logits: (batch, classes).

    Returns:
        (batch, classes), every entry at most 0.
    """
    shifted = logits - xp.max(logits, axis=1, keepdims=True)  # (batch, classes)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))  # (batch, classes)


def softmax_cross_entropy(xp: Any, logits: Array, labels: Array, *, batch_size: int) -> tuple[Array, Array, Array]:
    """Cross-entropy of the softmax of `logits`, with `d loss / d logits = (softmax(logits) - one_hot) / batch_size`.

    Args:
        xp: the array namespace.
        logits: (rows, classes).
        labels: (rows,), integers in [0, classes).
        batch_size: rows of the whole step, which the mean is over; `rows` may be a tile of them.

    Returns:
        Sum of the rows' losses (0-d, float64, nats), number of correct rows (0-d, integer), and the gradient
        (rows, classes). Source: Bishop 2006, section 4.3.4.
    """
    classes = xp.arange(logits.shape[1], dtype=labels.dtype)  # (classes,)
    one_hot = labels[:, None] == classes[None, :]  # (rows, classes)
    log_probabilities = log_softmax(xp, logits)  # (rows, classes)
    loss_sum = -xp.sum(xp.where(one_hot, log_probabilities, xp.zeros_like(logits)), dtype=xp.float64)
    correct = xp.sum(xp.astype(xp.argmax(logits, axis=1) == labels, labels.dtype))
    grad_logits = (xp.exp(log_probabilities) - xp.astype(one_hot, logits.dtype)) / batch_size  # (rows, classes)
    return loss_sum, correct, grad_logits


LOSSES: dict[str, Loss] = {"softmax_cross_entropy": softmax_cross_entropy}

"""Plain NumPy script: float images, one function per step, no optimizations.

It also runs on CuPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends import Adam
from .contestant import Array, Task


class PlainNumPy:
    """A network trained by SGD or Adam.

    Args:
        task: settings and initial parameters, which are copied.
        images: (samples, features), float32 in [0, 1].
        labels: (samples,), integers.
        xp: array module of images and labels: numpy or cupy.
    """

    def __init__(self, task: Task, images: Array, labels: Array, *, xp: Any = np) -> None:
        self.xp = xp
        self.parameters = [xp.array(parameter) for parameter in task.start]
        self.task, self.images = task, images
        self.one_hot = xp.eye(task.sizes[-1], dtype=images.dtype)[labels]  # (samples, classes)
        self.means = [xp.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [xp.zeros_like(parameter) for parameter in self.parameters]
        self.step = 0

    def run_epoch(self, order: Array | None) -> Any:
        """Train on the rows in `order`, (samples,), or on a full batch; return the mean loss, (), in nats."""
        loss_sum: Any = 0.0
        count = len(self.images)
        for start in range(0, count, self.task.batch_size):
            batch = slice(start, start + self.task.batch_size)
            rows = batch if order is None else order[batch]
            loss_sum += self._train_batch(self.images[rows], self.one_hot[rows])
        return loss_sum / count

    def forward(self, x: Array) -> list[Array]:
        """Return inputs (batch, features), outputs of hidden layers (batch, units), and logits (batch, classes)."""
        weights, biases = self.parameters[0::2], self.parameters[1::2]
        outputs = [x]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            z = outputs[-1] @ weight + bias
            outputs.append(self.xp.maximum(z, 0) if self.task.activation == "relu" else self.xp.tanh(z))
        return [*outputs, outputs[-1] @ weights[-1] + biases[-1]]

    def _train_batch(self, x: Array, one_hot: Array) -> Any:
        """Train on one batch; return its summed loss, ()."""
        weights = self.parameters[0::2]
        *outputs, logits = self.forward(x)  # (batch, units) each, (batch, classes)
        exponentials = self.xp.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)  # (batch, classes)
        loss_sum = -self.xp.log((probabilities * one_hot).sum(axis=1)).sum()
        grads: list[Array] = []
        grad_y = (probabilities - one_hot) / len(x)
        for k in reversed(range(len(weights))):
            grads = [outputs[k].T @ grad_y, grad_y.sum(axis=0), *grads]
            if k > 0:
                y = outputs[k]
                grad_y = (grad_y @ weights[k].T) * (y > 0 if self.task.activation == "relu" else 1 - y * y)
        self._update(grads)
        return loss_sum

    def _update(self, grads: list[Array]) -> None:
        """Apply one step of SGD or Adam in place."""
        self.step += 1
        rule = self.task.optimizer
        for k, grad in enumerate(grads):
            if isinstance(rule, Adam):
                self.means[k] = rule.beta_1 * self.means[k] + (1 - rule.beta_1) * grad
                self.squares[k] = rule.beta_2 * self.squares[k] + (1 - rule.beta_2) * grad * grad
                mean = self.means[k] / (1 - rule.beta_1**self.step)
                square = self.squares[k] / (1 - rule.beta_2**self.step)
                self.parameters[k] -= rule.learning_rate * mean / (self.xp.sqrt(square) + rule.epsilon)
            else:
                self.parameters[k] -= rule.learning_rate * grad

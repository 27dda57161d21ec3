"""JAX peer: a turn is one jitted call, a scan over epochs and batches."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ....backends import Adam, Optimizer
from ....backends.override import override
from ....nn import Dataset
from ..contestant import Array, Contestant, Orders, Task, as_float32, no_device

# Read when JAX first looks for devices. It would take three quarters of a GPU's memory, which others need as well.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


class Jax(Contestant):
    """JAX training with donated parameters and state; rows are gathered inside, except for full batches.

    On the device "cuda", float32 products may use TF32, JAX's default there, if `tf32` says so.
    """

    compiles = True

    def __init__(self, task: Task, *, device: str = "cpu", tf32: bool = False) -> None:
        super().__init__(task)
        jax.config.update("jax_platforms", device)  # else it takes a GPU where there is one
        if device != "cpu":
            jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")

    @classmethod
    @override
    def check_device(cls, device: str) -> None:
        jax.config.update("jax_platforms", device)
        try:
            jax.block_until_ready(jnp.zeros(()) + 1)
        except (RuntimeError, AssertionError) as error:  # the latter where JAX was built without CUDA
            raise no_device(f"JAX {jax.__version__}", error, 'pip install "jax[cuda13]"') from error

    @override
    def place(self, data: Dataset) -> None:
        self.images = jnp.asarray(as_float32(data.train.images, data.scale))  # (samples, features)
        self.labels = jnp.asarray(data.train.labels.astype(np.int32))  # (samples,)
        self.test = jnp.asarray(as_float32(data.test.images, data.scale))
        self.rule = _transformation(self.task.optimizer)
        self.parameters = [jnp.asarray(array) for array in self.task.start]
        self.state = self.rule.init(self.parameters)
        jax.block_until_ready((self.images, self.labels, self.test))

    @override
    def compile(self) -> None:
        """Compile ahead of time, from the shapes alone."""
        rows = len(self.labels)
        self.full = self.task.batch_size >= rows
        orders = None if self.full else jnp.zeros((self.task.epochs, rows), jnp.int32)  # (epochs, rows)
        arguments = (self.parameters, self.state, self.images, self.labels, orders)
        self.compiled = jax.jit(self._turn, donate_argnums=(0, 1)).lower(*arguments).compile()
        classify = jax.jit(lambda p, x: jnp.argmax(self._logits(p, x), axis=1))
        self.classify = classify.lower(self.parameters, self.test).compile()

    @override
    def take_orders(self, orders: Orders) -> None:
        given = [order for order in orders if order is not None]
        self.turn = jax.block_until_ready(jnp.asarray(np.stack(given), jnp.int32)) if given else None  # (epochs, rows)

    @override
    def run_epochs(self) -> float:
        arguments = (self.parameters, self.state, self.images, self.labels, self.turn)
        self.parameters, self.state, loss = self.compiled(*arguments)
        return float(loss)

    @override
    def predict(self) -> Array:
        return np.asarray(self.classify(self.parameters, self.test))

    @override
    def synchronize(self) -> None:
        jax.block_until_ready((self.parameters, self.state))

    def _logits(self, parameters: Any, x: Any) -> Any:
        """Return the logits, (batch, classes), of inputs (batch, features)."""
        activation = ACTIVATIONS[self.task.activation]
        *hidden, (weight, bias) = zip(parameters[0::2], parameters[1::2], strict=True)
        for hidden_weight, hidden_bias in hidden:
            x = activation(x @ hidden_weight + hidden_bias)  # (batch, units)
        return x @ weight + bias

    def _step(self, parameters: Any, state: Any, x: Any, labels: Any) -> Any:
        """Return parameters and state after a step, and the batch's summed loss."""

        def loss_of(parameters: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(self._logits(parameters, x), labels).mean()

        loss, grads = jax.value_and_grad(loss_of)(parameters)
        updates, state = self.rule.update(grads, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss * len(labels)

    def _turn(self, parameters: Any, state: Any, images: Any, labels: Any, orders: Any) -> Any:
        """Return parameters and state after the turn, and the mean loss of its first epoch."""

        def step(carry: Any, rows: Any) -> Any:
            x = jnp.take(images, rows, axis=0, mode="clip")  # (batch, features); the default would look for NaN
            *carry, loss_sum = self._step(carry[0], carry[1], x, labels[rows])
            return tuple(carry), loss_sum

        def epoch(carry: Any, order: Any) -> Any:
            """Scan over the full batches of `order`, (rows,), then train on the remaining rows."""
            if self.full:
                *carry, loss_sum = self._step(carry[0], carry[1], images, labels)
                return tuple(carry), loss_sum
            size = self.task.batch_size
            whole = len(order) // size * size
            carry, loss_sums = jax.lax.scan(step, carry, order[:whole].reshape(-1, size))
            loss_sum = loss_sums.sum()
            if whole < len(order):
                carry, rest = step(carry, order[whole:])
                loss_sum += rest
            return carry, loss_sum

        if self.task.epochs == 1:  # as a script on a CPU would have it, without a loop around it
            carry, loss_sum = epoch((parameters, state), None if self.full else orders[0])
        else:
            carry, loss_sums = jax.lax.scan(epoch, (parameters, state), orders, length=self.task.epochs)
            loss_sum = loss_sums[0]
        return *carry, loss_sum / len(labels)


def _transformation(rule: Optimizer) -> optax.GradientTransformation:
    """Return the optax transformation of an optimizer."""
    if isinstance(rule, Adam):
        return optax.adam(rule.learning_rate, b1=rule.beta_1, b2=rule.beta_2, eps=rule.epsilon)
    return optax.sgd(rule.learning_rate)

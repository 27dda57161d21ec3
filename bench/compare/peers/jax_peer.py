"""JAX: one jitted function for an epoch, which scans over the batches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ....backends import Adam, Optimizer
from ....nn import Dataset
from ..contestant import Array, Contestant, Orders, Task, as_float32

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


class Jax(Contestant):
    """An epoch is one call, with donated parameters; a full batch is one step without gathering."""

    compiles = True

    def __init__(self, task: Task, *, device: str = "cpu") -> None:
        super().__init__(task)
        jax.config.update("jax_platforms", device)  # else it takes a GPU where there is one

    @property
    def full(self) -> bool:
        """Whether all rows are one batch."""
        return self.task.batch_size >= len(self.labels)

    def place(self, data: Dataset) -> None:
        """See `Contestant.place`."""
        self.images = jnp.asarray(as_float32(data.train.images, data.scale))  # (samples, features)
        self.labels = jnp.asarray(data.train.labels.astype(np.int32))  # (samples,)
        self.test = jnp.asarray(as_float32(data.test.images, data.scale))
        self.rule = _transformation(self.task.optimizer)
        self.parameters = [jnp.asarray(array) for array in self.task.start]
        self.state = self.rule.init(self.parameters)
        jax.block_until_ready((self.images, self.labels, self.test, self.parameters, self.state))

    def compile(self) -> None:
        """See `Contestant.compile`; ahead of time, from the shapes alone."""
        epoch = jax.jit(self._full_batch if self.full else self._epoch, donate_argnums=(0, 1))
        order = None if self.full else jnp.zeros(len(self.labels), jnp.int32)
        arguments = (self.parameters, self.state, self.images, self.labels, order)
        self.compiled = epoch.lower(*arguments).compile()
        self.compile_predictions()

    def compile_predictions(self) -> None:
        """Compile the classification of the test rows."""
        self.classify = jax.jit(lambda p, x: jnp.argmax(self._logits(p, x), axis=1))
        self.classify = self.classify.lower(self.parameters, self.test).compile()

    def take_orders(self, orders: Orders) -> None:
        """See `Contestant.take_orders`."""
        self.orders_on_device = [None if order is None else jnp.asarray(order.astype(np.int32)) for order in orders]

    def run_epochs(self) -> float:
        """See `Contestant.run_epochs`."""
        losses = [self.run_epoch(order) for order in self.orders_on_device]
        return losses[0]

    def run_epoch(self, order: Any) -> float:
        """Train on the rows in `order`, (rows,), or on all at once for None, and return the mean loss of a row."""
        arguments = (self.parameters, self.state, self.images, self.labels, order)
        self.parameters, self.state, loss = self.compiled(*arguments)
        jax.block_until_ready(self.parameters)
        return float(loss)

    def predict(self) -> Array:
        """See `Contestant.predict`."""
        return np.asarray(self.classify(self.parameters, self.test))

    def _logits(self, parameters: Any, x: Any) -> Any:
        """Return the last layer's outputs, (batch, classes), for inputs (batch, features)."""
        activation = ACTIVATIONS[self.task.activation]
        *hidden, (weight, bias) = zip(parameters[0::2], parameters[1::2], strict=True)
        for hidden_weight, hidden_bias in hidden:
            x = activation(x @ hidden_weight + hidden_bias)  # (batch, units)
        return x @ weight + bias

    def _loss(self, parameters: Any, x: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(self._logits(parameters, x), labels).mean()

    def _step(self, parameters: Any, state: Any, x: Any, labels: Any) -> Any:
        """Return parameters and state after a step, and the summed loss of the batch."""
        loss, grads = jax.value_and_grad(self._loss)(parameters, x, labels)
        updates, state = self.rule.update(grads, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss * len(labels)

    def _full_batch(self, parameters: Any, state: Any, images: Any, labels: Any, order: None) -> Any:  # noqa: ARG002
        parameters, state, loss_sum = self._step(parameters, state, images, labels)
        return parameters, state, loss_sum / len(labels)

    def _epoch(self, parameters: Any, state: Any, images: Any, labels: Any, order: Any) -> Any:
        """Scan over the whole batches of `order`, (rows,), then train on the rows that are left."""
        batch_size = self.task.batch_size
        whole = len(order) // batch_size * batch_size

        def step(carry: Any, rows: Any) -> Any:
            x = jnp.take(images, rows, axis=0, mode="clip")  # (batch, features); the default would look for NaN
            *carry, loss_sum = self._step(carry[0], carry[1], x, labels[rows])
            return tuple(carry), loss_sum

        carry, loss_sums = jax.lax.scan(step, (parameters, state), order[:whole].reshape(-1, batch_size))
        loss_sum = loss_sums.sum()
        if whole < len(order):
            carry, rest = step(carry, order[whole:])
            loss_sum += rest
        return *carry, loss_sum / len(order)


def _transformation(rule: Optimizer) -> optax.GradientTransformation:
    """Return optax's form of an optimizer."""
    if isinstance(rule, Adam):
        return optax.adam(rule.learning_rate, b1=rule.beta_1, b2=rule.beta_2, eps=rule.epsilon)
    return optax.sgd(rule.learning_rate)

"""Generic operations as jitted functions, compiled once per shape and dtype.

Arguments that select code are static; `row` is the function from the table, so that a changed table is retraced.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp

from ..activations import Activation, Array
from ..array_api import ArrayAPIBackend
from ..losses import Loss
from ..optimizers import Optimizer, State
from ..plan import Rows

GENERIC = ArrayAPIBackend(jnp)
# Before JAX 0.8 it had another place.
enable_x64: Any = (jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")).enable_x64


def _gather(images: Array, labels: Array, index: Array, *, scale: float, dtype: Any) -> tuple[Array, Array]:
    return GENERIC.gather(Rows(images, labels, scale), index, dtype)


def _all_finite(arrays: Sequence[Array]) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(array)) for array in arrays]))


def _linear(x: Array, weight: Array, bias: Array, *, activation: str, row: Activation) -> Array:  # noqa: ARG001
    return GENERIC.linear(x, weight, bias, activation=activation)


def _linear_backward(
    grad_y: Array,
    y: Array,
    x: Array,
    weight: Array,
    *,
    activation: str,
    need_grad_x: bool,
    row: Activation,  # noqa: ARG001
) -> tuple[Array | None, Array, Array]:
    return GENERIC.linear_backward(grad_y, y, x, weight, activation=activation, need_grad_x=need_grad_x)


def _loss(
    outputs: Array,
    labels: Array,
    batch_size: Array,
    weights: Array | None,
    *,
    loss: str,
    row: Loss,  # noqa: ARG001
) -> tuple[Array, Array, Array]:
    return GENERIC.loss(outputs, labels, loss=loss, batch_size=batch_size, weights=weights)


def _update(
    parameter: Array,
    grad: Array,
    state: State,
    step: Array,
    learning_rate: Array,
    l2: Array,
    *,
    optimizer: Optimizer,
    has_l2: bool,
) -> tuple[Array, State]:
    if has_l2:
        grad = grad + l2 * parameter
    return optimizer.update(jnp, parameter, grad, state, step=step, learning_rate=learning_rate)


gather = jax.jit(_gather, static_argnames=("scale", "dtype"))
all_finite = jax.jit(_all_finite)
linear = jax.jit(_linear, static_argnames=("activation", "row"))
linear_backward = jax.jit(_linear_backward, static_argnames=("activation", "need_grad_x", "row"))
loss = jax.jit(_loss, static_argnames=("loss", "row"))
update = jax.jit(_update, static_argnames=("optimizer", "has_l2"))

"""Generic operations as jitted functions, compiled once per shape and dtype.

Arguments that select code are static; `row` is the function from the table, so that a changed table is retraced.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp

from ..activations import Activation, Array
from ..array_api import ArrayAPIBackend
from ..losses import Loss
from ..optimizers import Optimizer, State

GENERIC = ArrayAPIBackend(jnp)
# Before JAX 0.8 it had another place.
enable_x64: Any = (jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")).enable_x64


def _call(*arrays: Array, operation: str, row: Activation | Loss, **options: Any) -> Any:  # noqa: ARG001
    return getattr(GENERIC, operation)(*arrays, **options)


def _update(
    parameter: Array, grad: Array, state: State, l2: Array, *, optimizer: Optimizer, has_l2: bool, **now: Array
) -> tuple[Array, State]:
    if has_l2:
        grad = grad + l2 * parameter
    return optimizer.update(jnp, parameter, grad, state, **now)


call = jax.jit(_call, static_argnames=("operation", "row", "activation", "loss", "need_grad_x"))
update = jax.jit(_update, static_argnames=("optimizer", "has_l2"))

"""JAX on a GPU: a whole turn is one jitted call, a scan over its epochs around the scan over the batches."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..contestant import Orders, Task
from ..gpus import no_device
from .jax_peer import Jax

# Read when JAX first looks for devices. It would take three quarters of the memory, which others have to use as well.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


class JaxGPU(Jax):
    """`Jax` with E epochs in one call: parameters and optimizer state are donated, rows gathered inside.

    Args:
        task: what is to be done.
        device: "cuda", or "cpu" in tests.
        tf32: whether products of float32 matrices may round their inputs to TF32, JAX's default on a GPU.
    """

    def __init__(self, task: Task, *, device: str = "cuda", tf32: bool = False) -> None:
        super().__init__(task, device=device)
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")

    @classmethod
    def check_device(cls, device: str) -> None:
        """See `Contestant.check_device`."""
        jax.config.update("jax_platforms", device)
        try:
            jax.block_until_ready(jnp.zeros(()) + 1)
        except (RuntimeError, AssertionError) as error:  # the latter where JAX was built without CUDA
            raise no_device(f"JAX {jax.__version__}", error, 'pip install "jax[cuda13]"') from error

    def compile(self) -> None:
        """See `Contestant.compile`; ahead of time, for the turn's number of epochs."""
        orders = None if self.full else jnp.zeros((self.task.epochs, len(self.labels)), jnp.int32)  # (epochs, rows)
        arguments = (self.parameters, self.state, self.images, self.labels, orders)
        self.compiled = jax.jit(self._turn, donate_argnums=(0, 1)).lower(*arguments).compile()
        self.compile_predictions()

    def take_orders(self, orders: Orders) -> None:
        """See `Contestant.take_orders`."""
        given = [order for order in orders if order is not None]
        self.turn = jax.block_until_ready(jnp.asarray(np.stack(given), jnp.int32)) if given else None  # (epochs, rows)

    def run_epochs(self) -> float:
        """See `Contestant.run_epochs`."""
        return self.run_epoch(self.turn)

    def synchronize(self) -> None:
        """See `Contestant.synchronize`."""
        jax.block_until_ready((self.parameters, self.state))

    def _turn(self, parameters: Any, state: Any, images: Any, labels: Any, orders: Any) -> Any:
        """Return parameters and state after the turn, and the mean loss of a row in its first epoch."""
        train = self._full_batch if self.full else self._epoch

        def epoch(carry: Any, order: Any) -> Any:
            parameters, state, loss = train(carry[0], carry[1], images, labels, order)
            return (parameters, state), loss

        carry, losses = jax.lax.scan(epoch, (parameters, state), orders, length=self.task.epochs)
        return *carry, losses[0]

"""The JAX backend: the generic operations compiled by XLA, and a plan that runs many steps in one compiled call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import ACTIVATIONS, Array
from ..base import Backend
from ..errors import check_product, unavailable_if
from ..generic_plan import GenericPlan
from ..losses import loss_function
from ..optimizers import SGD, Adam, AdamW, Optimizer, RMSprop, State
from ..override import override
from ..plan import Plan, TrainingJob

INSTALL = 'pip install "xpnn[jax]"'
TRACED_OPTIMIZERS = (SGD, RMSprop, Adam, AdamW)  # one of the user's own may ask for the value of what is traced


def _compiled(operation: str, kind: str, find: Callable[[str], Any]) -> Any:
    """Return a generic operation, compiled by XLA; `find` returns the row that its argument `kind` names."""

    @wraps(getattr(Backend, operation))
    def run(self: JaxBackend, *arrays: Array, **options: Any) -> Any:
        return self._functions.call(*arrays, operation=operation, row=find(options[kind]), **options)

    return run


class JaxBackend(Backend):
    """JAX arrays on JAX's default device; gradients are those of this package, not of `jax.grad`.

    JAX converts float64 to float32 unless `jax_enable_x64` is set. Loss sums are float64, and networks may be, so the
    methods enable it for their own thread while they run; the caller's JAX code keeps its setting. Code that uses the
    backend's arrays outside its methods needs `with backend.scope():`.

    XLA splits sums among its threads at compile time, and their number is fixed when JAX starts: results are
    bit-identical on the same number of cores, or with PJRT_NPROC=1 in the environment.

    Raises:
        BackendUnavailable: JAX cannot be imported, or its default device does not compute in float64.
    """

    name = "jax"
    has_compiled_plan = True
    evaluation_rows = 16384

    def __init__(self) -> None:
        with unavailable_if("backend jax cannot import jax", INSTALL):
            self._jax: Any = import_module("jax")
            super().__init__(import_module("jax.numpy"))
        self._functions: Any = import_module(".functions", __package__)
        fix = "take another device by JAX_PLATFORMS=cpu in the environment"
        with unavailable_if("backend jax: a small product in float64 does not run", fix), self.scope():
            x = self.xp.arange(6, dtype=self.xp.float64).reshape(2, 3)  # (2, 3)
            check_product(x @ x.T + 1)
            self._devices = x.devices()

    def scope(self) -> AbstractContextManager[object]:
        """Return a context with 64-bit types, and with full float32 products on GPUs that default to fewer bits."""
        scope = ExitStack()
        scope.enter_context(self._functions.enable_x64(True))
        scope.enter_context(self._jax.default_matmul_precision("highest"))
        return scope

    @override
    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        return np.array(array)

    @override
    def own(self, array: Any) -> Array | None:
        """Return the array if it is concrete; a JAX tracer has no values."""
        if not isinstance(array, self._jax.Array) or isinstance(array, self._jax.core.Tracer):
            return None
        return array if array.devices() == self._devices else None

    linear = _compiled("linear", "activation", ACTIVATIONS.__getitem__)
    linear_backward = _compiled("linear_backward", "activation", ACTIVATIONS.__getitem__)
    loss = _compiled("loss", "loss", loss_function)

    @override
    def update(
        self,
        optimizer: Optimizer,
        parameter: Array,
        grad: Array,
        state: State,
        *,
        step: int,
        learning_rate: float,
        l2: float = 0.0,
    ) -> tuple[Array, State]:
        """Update; the optimizers of this package are compiled."""
        if type(optimizer) not in TRACED_OPTIMIZERS:
            return super().update(optimizer, parameter, grad, state, step=step, learning_rate=learning_rate, l2=l2)
        updated, next_state = self._functions.update(
            parameter, grad, state, float(l2), optimizer=optimizer, has_l2=bool(l2),
            step=step, learning_rate=float(learning_rate),
        )  # fmt: skip
        return updated, next_state

    @override
    def read_sums(self, sums: Sequence[tuple[Array, Array]]) -> npt.NDArray[np.float64]:
        """Read sums one by one: stacking would recompile for each number of them."""
        return np.array(self._jax.device_get(list(sums)), dtype=np.float64)  # (pairs, 2)

    @override
    def compile(self, job: TrainingJob) -> Plan:
        """Return a jitted plan; the generic one for weighted rows and penalties that differ by batch."""
        self.check_precision(job.options.precision)
        has_even_batches = job.rows.weights is None and not (job.options.l2 and job.options.l2_per_batch)
        is_known = has_even_batches and job.tile_rows is None and type(job.options.optimizer) in TRACED_OPTIMIZERS
        if job.options.drops_or_clips or job.rows.on_host or job.is_divided or not is_known:
            return GenericPlan(self, job)
        plan: Plan = import_module(".plan", __package__).JaxPlan(self, job)
        return plan


def _scoped(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: run a method inside the backend's scope."""

    @wraps(method)
    def run(self: JaxBackend, *args: Any, **options: Any) -> Any:
        with self.scope():
            return method(self, *args, **options)

    return run


for _name in (
    "put", "to_numpy", "place", "batch", "gather", "all_finite", "linear", "linear_backward", "loss", "update",
    "forward", "gradients", "evaluate", "read_sums", "read_totals", "logits", "logits_on_device", "compile",
):  # fmt: skip
    setattr(JaxBackend, _name, _scoped(getattr(JaxBackend, _name)))

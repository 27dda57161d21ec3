"""The Numba backend: fused kernels for the operations, and a plan that is one compiled call."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt

from .activations import ACTIVATIONS, Array, identity, leaky_relu, relu, sigmoid, tanh
from .base import Backend
from .blas_threads import one_blas_thread
from .errors import BackendUnavailable
from .job_outline import Estimate, JobOutline, Probe, density_of
from .kernel_cache import are_cached, kernels_of, mark_cached
from .losses import LOSSES, sigmoid_cross_entropy, softmax_cross_entropy, squared_error
from .mapped import is_mapped, unlocked
from .optimizers import SGD, Adam, AdamW, Optimizer, RMSprop, State
from .plan import Layer, Plan, Rows, Totals, TrainingJob, checked_order

# Seconds on two cores of an AMD EPYC at 3 GHz, Numba 0.68.1, 2026-11, a little above the slowest of four recipes: to
# import Numba and the kernels' modules; to make a plan whose kernels are on disk; and to make one and evaluate once
# with an empty cache.
IMPORT_SECONDS, LOAD_SECONDS, COMPILE_SECONDS = 0.25, 0.3, 8.5
# How many times faster than NumPy an epoch is, there: 784-10-10 4.9, 784-32-32-10 4.3, 784-256-10 5.1 in batches of 128
# and 3.5 as a full batch, all of density 0.19, and 1.3 for dense rows. The estimate stays below what was measured.
SPARSE_GAIN, DENSE_GAIN, MOST_GAIN = 0.65, 1.2, 8.0  # times faster: SPARSE_GAIN / density


# A forward pass of fewer multiply-adds than this, a few milliseconds, goes without the kernels and their compilation.
FORWARD_WORK = 2e8
# What the kernels know, told without importing Numba.
OPTIMIZERS = (SGD, RMSprop, Adam, AdamW)
ACTIVATIONS_OF_KERNELS = (identity, relu, leaky_relu, tanh, sigmoid)
LOSSES_OF_KERNELS = (softmax_cross_entropy, sigmoid_cross_entropy, squared_error)


class NumbaBackend(Backend):
    """NumPy arrays, worked on by kernels that Numba compiles for this CPU.

    What the kernels do not know (an activation, loss or optimizer of the user's own, other types) goes the generic way.

    Raises:
        BackendUnavailable: Numba cannot be imported.
    """

    name = "numba"
    has_compiled_plan = True
    tile_rows = 4096  # of the generic plan, as on NumPy

    def __init__(self) -> None:
        try:
            import numba  # noqa: F401
        except ImportError as error:
            raise BackendUnavailable(f"backend numba cannot import numba ({error}): {_install_line()}") from error
        from . import (
            numba_divided_plan,
            numba_forward,
            numba_loss_operations,
            numba_operations,
            numba_optimizers,
            numba_plan,
            numba_targets,
            numba_team,
        )

        super().__init__(xp)
        self._operations, self._optimizers, self._plan = numba_operations, numba_optimizers, numba_plan
        self._divided_plan = numba_divided_plan
        self._losses, self._targets = numba_loss_operations, numba_targets
        self._forward, self._team = numba_forward, numba_team.Team(numba_team.usable_threads())

    @classmethod
    def estimate(cls, job: JobOutline, probe: Probe) -> Estimate | None:
        """See `Backend.estimate`; the plan skips zeros, so its time goes with the density of the rows."""
        imported = sys.modules.get("numba") is not None
        if not imported and find_spec("numba") is None:
            return None
        is_known = type(job.optimizer) in OPTIMIZERS and LOSSES[job.loss] in LOSSES_OF_KERNELS
        if job.needs_generic_plan or not is_known or ACTIVATIONS[job.activation].forward not in ACTIVATIONS_OF_KERNELS:
            return Estimate(0 if imported else IMPORT_SECONDS, probe.numpy_seconds, "no compiled plan")
        gain = max(DENSE_GAIN, min(SPARSE_GAIN / max(job.density, 1e-9), MOST_GAIN))
        cached = are_cached(kernels_of(job))
        start = (LOAD_SECONDS if cached else COMPILE_SECONDS) + (0 if imported else IMPORT_SECONDS)
        note = "kernels cached" if cached else "kernels to compile"
        return Estimate(start * probe.slowness, probe.quiet_seconds / gain, note)

    def put(self, array: npt.NDArray[Any]) -> Array:
        """See `Backend.put`; rows come to lie one after the other, as the kernels read them."""
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """See `Backend.to_numpy`."""
        return np.array(array)

    def place(
        self,
        images: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        scale: float,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> Rows:
        """See `Backend.place`; what is mapped is computed with where it lies, if it lies as the kernels read it."""
        rows = super().place(images, labels, scale, weights)
        is_readable = rows.images.flags.c_contiguous and rows.images.dtype.isnative
        return rows._replace(on_host=rows.on_host and not is_readable)

    def gather(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        """See `Backend.gather`; integers are taken, converted and scaled in one pass."""
        images = rows.images
        if not (np.issubdtype(images.dtype, np.integer) and np.dtype(dtype) in self._operations.FLOATS):
            return super().gather(rows, index, dtype)
        count = len(images)
        taken = np.arange(count)[index] if isinstance(index, slice) else checked_order(index, count)
        x = np.empty((len(taken), images.shape[1]), dtype=dtype)  # (batch, features)
        self._operations.gather_images(unlocked(images), taken, float(rows.scale), x)
        return x, rows.labels[index]

    def linear(self, x: Array, weight: Array, bias: Array, *, activation: str) -> Array:
        """See `Backend.linear`; bias and activation take one pass over the product."""
        code = self._operations.activation_code(activation)
        if code is None or not self._operations.same_float(x, weight, bias):
            return super().linear(x, weight, bias, activation=activation)
        y = x @ weight  # (batch, out_features)
        self._operations.activate(y, bias, code)
        return y

    def linear_backward(
        self, grad_y: Array, y: Array, x: Array, weight: Array, *, activation: str, need_grad_x: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """See `Backend.linear_backward`; the activation's derivative and the bias's sum take one pass."""
        code = self._operations.activation_code(activation)
        if code is None or not self._operations.same_float(grad_y, y, x, weight):
            return super().linear_backward(grad_y, y, x, weight, activation=activation, need_grad_x=need_grad_x)
        grad_z = np.array(grad_y, order="C")  # (batch, out_features)
        grad_bias = np.empty(y.shape[1], dtype=y.dtype)  # (out_features,)
        self._operations.activate_backward(grad_z, y, grad_bias, code)
        grad_weight = x.T @ grad_z  # (in_features, out_features)
        return (grad_z @ weight.T if need_grad_x else None), grad_weight, grad_bias

    def loss(
        self, outputs: Array, labels: Array, *, loss: str, batch_size: float, weights: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """See `Backend.loss`; value, gradient and count are taken row by row."""
        code, is_class = self._targets.loss_code(loss), LOSSES[loss] is softmax_cross_entropy
        shape = outputs.shape[:1] if is_class else outputs.shape
        if code is None or not self._operations.same_float(outputs) or labels.shape != shape:
            return super().loss(outputs, labels, loss=loss, batch_size=batch_size, weights=weights)
        grad_outputs = np.empty(outputs.shape, dtype=outputs.dtype)  # (batch, outputs)
        weights = np.empty(0) if weights is None else np.broadcast_to(weights, outputs.shape[:1])
        arguments = (outputs, labels, np.array(weights, dtype=np.float64), float(batch_size), grad_outputs)
        if is_class:
            loss_sum, correct = self._losses.softmax_cross_entropy(*arguments)
        else:
            loss_sum, correct = self._losses.output_loss(code, *arguments)
        return np.asarray(loss_sum), np.asarray(correct), grad_outputs

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
        """See `Backend.update`; in place, one pass over all arrays."""
        rule, arrays = self._optimizers.rule_of(optimizer), (parameter, grad, *state.values())
        flat = all(array.flags.c_contiguous and array.shape == parameter.shape for array in arrays)
        if rule is None or not flat or not self._operations.same_float(*arrays) or not parameter.flags.writeable:
            return super().update(optimizer, parameter, grad, state, step=step, learning_rate=learning_rate, l2=l2)
        slots = self._optimizers.slot_pair([state[slot] for slot in optimizer.slots if slot in state], parameter)
        self._optimizers.update(
            rule, parameter.reshape(-1), grad.reshape(-1), *slots, int(step), float(learning_rate), float(l2)
        )
        return parameter, state

    def evaluate(self, layers: list[Layer], rows: Rows, *, loss: str = "softmax_cross_entropy") -> Totals:
        """See `Backend.evaluate`; many rows go through the training's kernels."""
        is_known = self._targets.loss_code(loss) is not None and not is_mapped(
            rows.images
        )  # whose logits may be too many
        if not (is_known and self._forward_pays(layers, rows.images)):
            # A small evaluation stands between two epochs, whose cores BLAS's threads would keep busy.
            is_small = _forward_work(layers, len(rows.images)) < FORWARD_WORK
            with one_blas_thread() if is_small else nullcontext():
                return super().evaluate(layers, rows, loss=loss)
        logits = self._forward.forward_logits(self._team, layers, rows.images, float(rows.scale))  # (samples, classes)
        loss_sum, correct, _ = self.loss(logits, rows.labels, loss=loss, batch_size=len(logits))
        return Totals(float(loss_sum), int(correct), len(logits))

    def logits(self, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
        """See `Backend.logits`; many rows go through the training's kernels."""
        if not self._forward_pays(layers, images):
            return super().logits(layers, images, scale)
        logits: npt.NDArray[Any] = self._forward.forward_logits(self._team, layers, unlocked(images), scale)
        return logits

    def _forward_pays(self, layers: list[Layer], images: npt.NDArray[Any]) -> bool:
        """Whether the kernels know the network, and the rows are worth compiling them."""
        known = self._forward.supports_forward(layers, images, self._operations.FLOATS)
        return known and _forward_work(layers, len(images)) >= FORWARD_WORK

    def compile(self, job: TrainingJob) -> Plan:
        """See `Backend.compile`."""
        self.check_precision(job.precision)
        if not self._plan.supports(job):
            generic = super().compile(job)
            generic.description += f", since {self._why_generic(job)}"
            return generic
        if job.is_divided:
            divided: Plan = self._divided_plan.DividedPlan(self, job)
            return divided
        plan: Plan = self._plan.NumbaPlan(job)
        mark_cached(kernels_of(_outline_of(job)))
        return plan

    def _why_generic(self, job: TrainingJob) -> str:
        """Return what of a job the kernels do not know."""
        for layer in job.layers:
            if self._operations.activation_code(layer.activation) is None:
                return f"the kernels do not know the activation {layer.activation!r}"
        if self._optimizers.rule_of(job.optimizer) is None:
            return f"the kernels do not know the optimizer {job.optimizer.name!r}"
        if self._targets.loss_code(job.loss) is None:
            return f"the kernels do not know the loss {job.loss!r}"
        for name, is_asked in (("dropout", job.dropout != 0), ("clipping", job.clip_norm is not None)):
            if is_asked:
                return f"the kernels do not know {name}"
        return "the kernels do not take such types, shapes or last layer"


def _outline_of(job: TrainingJob) -> JobOutline:
    """Return the size and kind of a job for one epoch."""
    images, weights = job.rows.images, [layer.weight for layer in job.layers]
    return JobOutline(
        sizes=(images.shape[1], *(weight.shape[1] for weight in weights)),
        rows=len(images),
        epochs=1,
        batch_size=job.batch_size,
        optimizer=job.optimizer,
        loss=job.loss,
        dtype=weights[0].dtype.name,
        images_dtype=images.dtype.name,
        density=density_of(images),
    )


def _forward_work(layers: list[Layer], rows: int) -> int:
    """Return the multiply-adds of a forward pass."""
    return rows * sum(int(layer.weight.size) for layer in layers)


def _install_line() -> str:
    """Return the line that installs Numba in a version that this package requires."""
    from importlib.metadata import requires

    required = (each for each in requires("xpnn") or () if each.startswith("numba"))
    return f'pip install "{next(required, "numba")}"'

"""The Numba backend: fused kernels for the operations, and a plan that is one compiled call."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import ACTIVATIONS, Array, identity, leaky_relu, relu, sigmoid, tanh
from ..base import Backend
from ..errors import BackendUnavailable
from ..generic_plan import GenericPlan
from ..job_outline import Estimate, JobOutline, Probe, density_of
from ..losses import LOSSES, sigmoid_cross_entropy, softmax_cross_entropy, squared_error
from ..mapped import is_mapped, unlocked
from ..numpy.backend import NumPyBackend
from ..optimizers import SGD, Adam, AdamW, RMSprop
from ..plan import Layer, Plan, Rows, Totals, TrainingJob
from ..threads import one_blas_thread
from .kernel_cache import are_cached, kernels_of, mark_cached

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


class NumbaBackend(NumPyBackend):
    """NumPy's operations, and plans that are one compiled call.

    What the kernels do not know (an activation, loss or optimizer of the user's own, dropout) goes by the operations.

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
        from . import divided_plan as numba_divided_plan
        from . import forward as numba_forward
        from . import plan as numba_plan
        from .compiler import team as numba_team
        from .network import functions as numba_functions
        from .network import optimizers as numba_optimizers
        from .network import targets as numba_targets

        super().__init__()
        self._functions, self._optimizers, self._plan = numba_functions, numba_optimizers, numba_plan
        self._divided_plan, self._targets = numba_divided_plan, numba_targets
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

    def place(
        self,
        images: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        scale: float,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> Rows:
        """See `Backend.place`; what is mapped is computed with where it lies, if it lies as the kernels read it."""
        rows = Backend.place(self, images, labels, scale, weights)
        is_readable = rows.images.flags.c_contiguous and rows.images.dtype.isnative
        return rows._replace(on_host=rows.on_host and not is_readable)

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
        known = self._forward.supports_forward(layers, images, self._functions.FLOATS)
        return known and _forward_work(layers, len(images)) >= FORWARD_WORK

    def compile(self, job: TrainingJob) -> Plan:
        """See `Backend.compile`."""
        self.check_precision(job.precision)
        if not self._plan.supports(job):
            generic: Plan = GenericPlan(self, job)
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
            if self._functions.activation_code(layer.activation) is None:
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

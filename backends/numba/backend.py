"""The Numba backend: fused kernels for the operations, and a plan that is one compiled call."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import Array
from ..choice import JobOutline
from ..errors import BackendUnavailable
from ..generic_plan import GenericPlan
from ..mapped import is_mapped, unlocked
from ..numpy.backend import NumPyBackend
from ..override import override
from ..plan import Layer, Plan, Rows, Totals, TrainingJob
from ..threads import one_blas_thread

# A forward pass of fewer multiply-adds than this, a few milliseconds, goes without the kernels and their compilation.
FORWARD_WORK = 2e8


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
        from .network import layout as numba_layout
        from .network import optimizers as numba_optimizers
        from .network import targets as numba_targets

        super().__init__()
        self._functions, self._optimizers, self._plan = numba_functions, numba_optimizers, numba_plan
        self._divided_plan, self._targets, self._layout = numba_divided_plan, numba_targets, numba_layout
        self._forward, self._team = numba_forward, numba_team.Team(numba_team.usable_threads())

    @override
    def suits(self, job: JobOutline) -> bool:
        """What the kernels do not know takes as long as on NumPy."""
        return (
            not job.needs_generic_plan
            and self._functions.activation_code(job.activation) is not None
            and self._optimizers.rule_of(job.optimizer) is not None
            and self._targets.loss_code(job.loss) is not None
        )

    @override
    def put(self, array: npt.NDArray[Any]) -> Array:
        """Rows come to lie one after the other, as the kernels read them."""
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")

    @override
    def evaluate(self, layers: list[Layer], rows: Rows, *, loss: str = "softmax_cross_entropy") -> Totals:
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

    @override
    def logits(self, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
        if not self._forward_pays(layers, images):
            return super().logits(layers, images, scale)
        logits: npt.NDArray[Any] = self._forward.forward_logits(self._team, layers, unlocked(images), scale)
        return logits

    def _forward_pays(self, layers: list[Layer], images: npt.NDArray[Any]) -> bool:
        """Whether the kernels know the network, and the rows are worth compiling them."""
        known = self._layout.are_layers(layers, images)
        return known and _forward_work(layers, len(images)) >= FORWARD_WORK

    @override
    def compile(self, job: TrainingJob) -> Plan:
        self.check_precision(job.options.precision)
        if not self._plan.supports(job):
            generic: Plan = GenericPlan(self, job)
            generic.description += f", since {self._why_generic(job)}"
            return generic
        if job.is_divided:
            divided: Plan = self._divided_plan.DividedPlan(self, job)
            return divided
        plan: Plan = self._plan.NumbaPlan(job)
        return plan

    def _why_generic(self, job: TrainingJob) -> str:
        """Return what of a job the kernels do not know."""
        for layer in job.layers:
            if self._functions.activation_code(layer.activation) is None:
                return f"the kernels do not know the activation {layer.activation!r}"
        if self._optimizers.rule_of(job.options.optimizer) is None:
            return f"the kernels do not know the optimizer {job.options.optimizer.name!r}"
        if self._targets.loss_code(job.loss) is None:
            return f"the kernels do not know the loss {job.loss!r}"
        for name, is_asked in (("dropout", job.options.dropout != 0), ("clipping", job.options.clip_norm is not None)):
            if is_asked:
                return f"the kernels do not know {name}"
        return "the kernels do not take such types, shapes or last layer"


def _forward_work(layers: list[Layer], rows: int) -> int:
    """Return the multiply-adds of a forward pass."""
    return rows * sum(int(layer.weight.size) for layer in layers)


def _install_line() -> str:
    """Return the line that installs Numba in a version that this package requires."""
    from importlib.metadata import requires

    required = (each for each in requires("xpnn") or () if each.startswith("numba"))
    return f'pip install "{next(required, "numba")}"'

"""The Numba backend: fused kernels for the operations, and a plan that is one compiled call."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

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
from ..sparse_rows import is_sparse
from ..working_folder import import_numba

if TYPE_CHECKING:
    from .compiler.team import Team

# A forward pass of fewer multiply-adds than this, a few milliseconds, goes without the kernels and their compilation.
FORWARD_WORK = 2e8


class NumbaBackend(NumPyBackend):
    """NumPy's operations, and plans that are one compiled call.

    What the kernels do not know (an activation, loss or optimizer of the user's own) goes by the operations.

    Raises:
        BackendUnavailable: Numba cannot be imported.
    """

    name = "numba"
    has_compiled_plan = True
    tile_rows = 4096  # of the generic plan, as on NumPy

    def __init__(self) -> None:
        try:
            import_numba()
        except ImportError as error:
            raise BackendUnavailable(f"backend numba cannot import numba ({error}): {_install_line()}") from error
        from . import divided_plan as numba_divided_plan
        from . import forward as numba_forward
        from . import plan as numba_plan
        from .network.layout import are_layers
        from .network.targets import loss_code

        super().__init__()
        self._plan, self._divided_plan, self._forward = numba_plan, numba_divided_plan, numba_forward
        self._are_layers, self._loss_code = are_layers, loss_code

    @cached_property
    def _team(self) -> Team:
        """Threads of the forward pass, made at its first use: a prediction for a few rows needs none."""
        from .compiler.team import Team, usable_threads

        return Team(usable_threads())

    @override
    def suits(self, job: JobOutline) -> bool:
        """Decline jobs that the kernels do not know, which take as long as on NumPy."""
        return not (job.uses_lbfgs or self._plan.unknown_part([job.activation], job.optimizer, job.loss))

    @override
    def scope(self) -> AbstractContextManager[object]:
        """One thread of BLAS: more would sum in another order, and keep the cores of the next epoch busy."""
        return self.fixed_order()

    @override
    def put(self, array: npt.NDArray[Any]) -> Array:
        """Rows come to lie one after the other, as the kernels read them."""
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")

    @override
    def evaluate(self, layers: list[Layer], rows: Rows, *, loss: str = "softmax_cross_entropy") -> Totals:
        is_known = self._loss_code(loss) is not None
        fits = not is_mapped(rows.images)  # the logits of mapped rows may be too many
        if not (is_known and fits and self._forward_pays(layers, rows.images)):
            with self.scope():
                return super().evaluate(layers, rows, loss=loss)
        logits = self._forward.forward_logits(self._team, layers, rows.images, float(rows.scale))  # (samples, classes)
        loss_sum, correct, _ = self.loss(logits, rows.labels, loss=loss, batch_size=len(logits), weights=rows.weights)
        return Totals(float(loss_sum), int(correct), len(logits))

    @override
    def logits(self, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
        if not self._forward_pays(layers, images):
            return super().logits(layers, images, scale)
        logits: npt.NDArray[Any] = self._forward.forward_logits(self._team, layers, unlocked(images), scale)
        return logits

    def _forward_pays(self, layers: list[Layer], images: npt.NDArray[Any]) -> bool:
        """Whether the kernels know the network, and the rows are dense and worth compiling them."""
        is_worth = not is_sparse(images) and _forward_work(layers, len(images)) >= FORWARD_WORK
        return is_worth and self._are_layers(layers, images)

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
        """Return the reason why the kernels do not take a job."""
        activations = [layer.activation for layer in job.layers]
        unknown = self._plan.unknown_part(activations, job.options.optimizer, job.loss)
        return f"the kernels do not {f'know {unknown}' if unknown else 'take such types, shapes or last layer'}"


def _forward_work(layers: list[Layer], rows: int) -> int:
    """Return the multiply-adds of a forward pass."""
    return rows * sum(int(layer.weight.size) for layer in layers)


def _install_line() -> str:
    """Return the line that installs Numba in a version that this package requires."""
    from importlib.metadata import requires

    required = (each for each in requires("xpnn") or () if each.startswith("numba"))
    return f'pip install "{next(required, "numba")}"'

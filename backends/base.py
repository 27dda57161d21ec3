"""Base class of backends: operations, evaluation and prediction, and compilation of training plans.

The reference that every other backend is tested against. A backend is a subclass that sets `name` and `xp` and
overrides the operations that it speeds up; `compile` may return a faster plan than the loop over operations.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .activations import Array
from .choice import JobOutline
from .communicator import Communicator
from .errors import ConfigError
from .generic_plan import GenericPlan
from .operations import Operations
from .plan import Layer, Plan, Rows, Totals, TrainingJob


class Backend(Operations):
    """Operations on the arrays of one namespace, and training plans.

    Attributes:
        has_compiled_plan: whether `compile` returns a plan other than the generic loop for ReLU and plain SGD.
        precisions: supported precisions of matrix products, the values of `StepOptions.precision`.
        evaluation_rows: batch size of evaluation and prediction.
        reason: why `get_backend("auto")` chose it; empty otherwise.
    """

    has_compiled_plan: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = ("full",)
    evaluation_rows: ClassVar[int] = 4096

    def __init__(self, xp: Any) -> None:
        super().__init__(xp)
        self.reason = ""

    def suits(self, job: JobOutline) -> bool:
        """Return whether `auto` may choose this backend for a job, if it is large enough."""
        return self.takes_sparse or not job.has_sparse_rows

    def evaluate(self, layers: list[Layer], rows: Rows, *, loss: str = "softmax_cross_entropy") -> Totals:
        """Return the (weighted) summed loss and the number of correct rows, with one read from the device."""
        count = rows.images.shape[0]
        loss_sum, correct = self.put(np.asarray(0.0)), self.put(np.asarray(0))  # (), ()
        for start in range(0, count, self.evaluation_rows):
            tile = slice(start, min(start + self.evaluation_rows, count))
            x, labels = self.batch(rows, tile, layers[0].weight.dtype)
            logits = self.forward(layers, x)[-1]  # (tile, classes)
            weights = None if rows.weights is None else self.put(rows.weights[tile])  # (tile,)
            tile_loss, tile_correct, _ = self.loss(logits, labels, loss=loss, batch_size=count, weights=weights)
            loss_sum, correct = loss_sum + tile_loss, correct + tile_correct
        return self.read_totals(loss_sum, correct, count)

    def logits(self, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
        """Return the last layer's outputs on the host, (samples, classes), for images (samples, features)."""
        results = []
        for start in range(0, max(images.shape[0], 1), self.evaluation_rows):  # one tile at least: no images, no rows
            tile = self.put_rows(images[start : start + self.evaluation_rows])  # (tile, features)
            results.append(self.to_numpy(self.logits_on_device(layers, tile, scale)))
        return np.concatenate(results)  # (samples, classes)

    def logits_on_device(self, layers: list[Layer], images: Array, scale: float) -> Array:
        """Return the last layer's outputs, (samples, outputs), for images (samples, features), both on the device."""
        results, count, most = [], images.shape[0], self.evaluation_rows
        for start in range(0, max(count, 1), most):
            tile = images if count <= most else images[start : min(start + most, count), :]  # (tile, features)
            x, _ = self.gather(Rows(tile, tile, float(scale)), slice(0, tile.shape[0]), layers[0].weight.dtype)
            results.append(self.forward(layers, x)[-1])
        return results[0] if len(results) == 1 else self.xp.concat(results)  # (samples, outputs)

    def compile(self, job: TrainingJob) -> Plan:
        """Return this backend's fastest plan for `job`; compilation may be deferred to the first run.

        Raises:
            ConfigError: the backend does not support `job.options.precision`.
        """
        self.check_precision(job.options.precision)
        return GenericPlan(self, job)

    def communicator(self, communicator: Communicator) -> Communicator:
        """Return a communicator for this backend's arrays over the same processes, such as NCCL's for a GPU."""
        return communicator

    def check_precision(self, precision: str) -> None:
        """Check that the backend supports a precision of matrix products; every `compile` begins with it.

        Raises:
            ConfigError: it is not one of `precisions`.
        """
        if precision not in self.precisions:
            known = " or ".join(self.precisions)
            others = "; bfloat16 needs the backend cupy on a GPU" if precision == "bfloat16" else ""
            raise ConfigError(f"precision of the backend {self.name} must be {known}, got {precision!r}{others}")

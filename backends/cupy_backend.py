"""The CuPy backend: the generic operations on a CUDA device, with temporaries saved where that is one line."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from .activations import ACTIVATIONS, Array, relu
from .base import Backend, in_native_order
from .cupy_start import gpu_memory, start_cupy
from .generic_plan import GenericPlan
from .job_outline import Estimate, JobOutline, Probe
from .plan import NO_ROWS, Layer, Plan, Rows, Totals, TrainingJob

# Estimates, all three: no figure has been measured yet. Seconds to import CuPy, make a context and compile the first
# kernels; of a step, whose some thirty launches a layer keep the host busy; and multiply-adds a second.
START_SECONDS, STEP_SECONDS, MULTIPLY_ADDS = 3.0, 0.0005, 2e12

FREE_OR_NUMBA = "close what else runs on the GPU, use a smaller network, or the backend numba"


class CuPyBackend(Backend):
    """CuPy arrays on the current CUDA device.

    Raises:
        BackendUnavailable: CuPy is not installed or is installed twice, there is no driver or device, the package is
            newer than the driver, or a small kernel does not run; the message has the line that mends it.
    """

    name = "cupy"
    # All 60,000 rows of MNIST are one tile (188 MB as float32 with 784 features): few, large launches. Only a larger
    # batch is divided, so that its memory stays bounded. An estimate: no other size has been measured.
    tile_rows = 65536
    evaluation_rows = 65536

    def __init__(self) -> None:
        self._cupy = start_cupy()
        super().__init__(import_module("array_api_compat.cupy"))

    @classmethod
    def estimate(cls, job: JobOutline, probe: Probe) -> Estimate | None:
        """See `Backend.estimate`; whether there is a device shows when it is started."""
        imported = sys.modules.get("cupy") is not None
        if not imported and find_spec("cupy") is None:
            return None
        work = job.rows_in_all * job.multiply_adds_of_row / MULTIPLY_ADDS
        start = 0.0 if imported else START_SECONDS * probe.slowness
        return Estimate(start, job.steps * STEP_SECONDS * probe.slowness + work, "a guess")

    def put(self, array: npt.NDArray[Any]) -> Array:
        """See `Backend.put`; waits for the copy, since the caller may write to `array` afterwards."""
        work = f"copying {array.dtype} of shape {array.shape} to the GPU"
        with gpu_memory(self._cupy, work, "use fewer rows, or the backend numba"):
            return self._cupy.array(in_native_order(array), blocking=True)

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """See `Backend.to_numpy`."""
        host: npt.NDArray[Any] = self._cupy.asnumpy(array)
        return host

    def gather(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        """See `Backend.gather`; integers are scaled in place. An index out of range wraps around, as CuPy does it."""
        if isinstance(index, slice):
            images, labels = rows.images[index], rows.labels[index]
        else:
            images, labels = rows.images.take(index, axis=0), rows.labels.take(index, axis=0)
        x = images.astype(dtype, copy=False)  # (batch, features)
        if self.xp.isdtype(images.dtype, "integral"):
            x *= rows.scale  # a copy already, since its type changed
        return x, labels

    def linear(self, x: Array, weight: Array, bias: Array, *, activation: str) -> Array:
        """See `Backend.linear`; the bias is added, and ReLU taken, in place."""
        y = x @ weight  # (batch, out_features)
        y += bias
        forward = ACTIVATIONS[activation].forward
        return self.xp.maximum(y, 0, out=y) if forward is relu else forward(self.xp, y)

    def evaluate(self, layers: list[Layer], rows: Rows, *, loss: str = "softmax_cross_entropy") -> Totals:
        """See `Backend.evaluate`."""
        with gpu_memory(self._cupy, "evaluation", FREE_OR_NUMBA):
            return super().evaluate(layers, rows, loss=loss)

    def logits(self, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
        """See `Backend.logits`."""
        with gpu_memory(self._cupy, "prediction", FREE_OR_NUMBA):
            return super().logits(layers, images, scale)

    def compile(self, job: TrainingJob) -> Plan:
        """See `Backend.compile`."""
        with gpu_memory(self._cupy, "the optimizer's state", FREE_OR_NUMBA):
            return CuPyPlan(self, job, self._cupy)


class CuPyPlan(GenericPlan):
    """The generic plan: every step is queued on the current stream, and a run waits for the device once, at its end."""

    def __init__(self, backend: CuPyBackend, job: TrainingJob, cupy: Any) -> None:
        super().__init__(backend, job)
        self._cupy = cupy

    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        """See `Plan.run`."""
        mend = f"use a smaller batch_size than {self.job.batch_size}, a smaller network, or the backend numba"
        with gpu_memory(self._cupy, "training", mend):
            return super().run(order, totals)

"""The CuPy backend: the generic operations on a CUDA device, and plans of CUDA kernels for training."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import Array
from ..base import Backend
from ..communicator import Communicator
from ..errors import ConfigError
from ..generic_plan import GenericPlan
from ..operations import in_native_order
from ..override import override
from ..plan import NO_ROWS, Layer, Plan, Rows, Totals, TrainingJob
from .device import Device, current_device
from .errors import gpu_errors
from .full_batch_plan import FullBatchPlan, is_for_full_batch
from .graph_plan import GraphPlan, is_for_graph
from .nccl_communicator import gpu_communicator
from .plan import network_of, smaller_batch, supports
from .source import EXACT_PARTS
from .start import start_cupy

FREE_MEMORY = "close what else runs on the GPU, use a smaller network, or the backend numba"


class CuPyBackend(Backend):
    """CuPy arrays on the current CUDA device.

    Raises:
        BackendUnavailable: CuPy is not installed, or a small kernel does not run on a device; the message says why, and
            how to install CuPy.
    """

    name = "cupy"
    has_compiled_plan = True
    precisions = ("full", "bfloat16")
    # All 60,000 rows of MNIST are one tile (188 MB as float32 with 784 features): few, large launches. Only a larger
    # batch is divided, so that its memory stays bounded. An estimate: no other size has been measured.
    tile_rows = 65536
    evaluation_rows = 65536

    def __init__(self) -> None:
        self._cupy = start_cupy()
        super().__init__(import_module("array_api_compat.cupy"))

    @override
    def put(self, array: npt.NDArray[Any]) -> Array:
        """Copy to the GPU and wait, since the caller may write to `array` afterwards."""
        work = f"copying {array.dtype} of shape {array.shape} to the GPU"
        with gpu_errors(self._cupy, work, "use fewer rows, or the backend numba"):
            return self._cupy.array(in_native_order(array), blocking=True)

    @override
    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        with gpu_errors(self._cupy, "reading from the GPU", FREE_MEMORY):  # a kernel's fault may show here first
            host: npt.NDArray[Any] = self._cupy.asnumpy(array)
            return host

    @override
    def own(self, array: Any) -> Array | None:
        is_own = isinstance(array, self._cupy.ndarray) and array.device.id == self._cupy.cuda.Device().id
        return array if is_own else None

    @override
    def evaluate(self, layers: list[Layer], rows: Rows, *, loss: str = "softmax_cross_entropy") -> Totals:
        with gpu_errors(self._cupy, "evaluation", FREE_MEMORY):
            return super().evaluate(layers, rows, loss=loss)

    @override
    def logits(self, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
        with gpu_errors(self._cupy, "prediction", FREE_MEMORY):
            return super().logits(layers, images, scale)

    @override
    def logits_on_device(self, layers: list[Layer], images: Array, scale: float) -> Array:
        with gpu_errors(self._cupy, "prediction", FREE_MEMORY):
            return super().logits_on_device(layers, images, scale)

    @override
    def compile(self, job: TrainingJob) -> Plan:
        """Return a plan of CUDA kernels, or the generic plan where they do not support the job."""
        self.check_precision(job.options.precision)
        with gpu_errors(self._cupy, "compiling", smaller_batch(job)):
            return self._compiled(job, current_device(self._cupy))

    @override
    def communicator(self, communicator: Communicator) -> Communicator:
        """Return NCCL's communicator if every process has its own GPU.

        Raises:
            DeviceError: NCCL cannot connect the GPUs.
        """
        with gpu_errors(self._cupy, "joining the GPUs of the ranks", FREE_MEMORY):
            return gpu_communicator(self._cupy, communicator)

    def _compiled(self, job: TrainingJob, device: Device) -> Plan:
        """Return the plan that reads the images least often."""
        parts = _parts(job, device)
        if supports(job):
            network = network_of(job, parts=parts)
            if is_for_full_batch(job, network, device):
                return FullBatchPlan(job, network, self._cupy, device)
            if is_for_graph(network, device):
                return GraphPlan(job, network, self._cupy, device)
        if job.options.precision != "full":
            raise ConfigError(f"precision {job.options.precision} needs a network that the kernels know; use full")
        return LoopPlan(self, job, self._cupy)


class LoopPlan(GenericPlan):
    """Generic plan: all steps are queued on the current stream, with one synchronization at the end of a run."""

    def __init__(self, backend: CuPyBackend, job: TrainingJob, cupy: Any) -> None:
        super().__init__(backend, job)
        self._cupy = cupy
        if job.communicator.size > 1:
            self.description += f", summed {'on the host' if job.communicator.on_host else 'by NCCL on the GPUs'}"

    @override
    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        with gpu_errors(self._cupy, "training", smaller_batch(self.job)):
            return super().run(order, totals)


def _parts(job: TrainingJob, device: Device) -> int:
    """Return the number of bf16 parts that the first layer's numbers are split into; 0 without bf16 products.

    Raises:
        ConfigError: bfloat16 is not supported for this job or device.
    """
    is_bytes = job.rows.images.dtype == np.uint8 and job.layers[0].weight.dtype == np.float32
    if job.options.precision == "full":
        return EXACT_PARTS if is_bytes and device.has_bf16 else 0
    if not device.has_bf16:
        number = ".".join(map(str, device.capability))
        raise ConfigError(f"precision bfloat16 needs a GPU of compute capability 8.0, this one has {number}; use full")
    if not (is_bytes and supports(job)):
        raise ConfigError(
            "precision bfloat16 needs uint8 images and a float32 network that the kernels know, "
            f"got {job.rows.images.dtype} and {job.layers[0].weight.dtype}; use full"
        )
    return 1

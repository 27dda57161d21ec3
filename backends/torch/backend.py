"""The PyTorch backend: the generic operations on tensors, on the CPU or a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import ACTIVATIONS, Array, relu
from ..base import Backend
from ..errors import check_product, unavailable_if
from ..override import override
from ..threads import one_blas_thread

INSTALL = 'pip install "xpnn[torch]"'


class _OneThread:
    """Limit of PyTorch to one thread, shared by all open blocks: `before` is the number of threads without it."""

    lock, blocks, before = Lock(), 0, 1


class TorchBackend(Backend):
    """PyTorch tensors; gradients are those of this package, without autograd.

    Attributes:
        device: the `torch.device` of the tensors.

    Raises:
        BackendUnavailable: PyTorch cannot be imported, or the device does not compute in float64.
    """

    name = "torch"
    # All 60,000 rows of MNIST are one tile on a GPU; on a CPU, a tile that stays near the cores. See the constructor.
    evaluation_rows = 16384

    def __init__(self, device: str | None = None) -> None:
        """Start PyTorch and multiply two small matrices as a test.

        Args:
            device: such as "cpu" or "cuda:1"; None for the device set by `torch.set_default_device` if any, else the
                current CUDA device if available, else the CPU.
        """
        with unavailable_if("backend torch cannot import torch", INSTALL):
            self._torch: Any = import_module("torch")
            super().__init__(import_module("array_api_compat.torch"))
        wanted = self._default_device() if device is None else device
        failed = f"backend torch: a small product in float64 does not run on the device {wanted}"
        other = 'take another, such as TorchBackend("cpu") or, for PyTorch as a whole, torch.set_default_device("cpu")'
        with unavailable_if(failed, other):
            # A tensor knows the number of the device, which "cuda" leaves open.
            x = self._torch.arange(6, dtype=self._torch.float64, device=wanted).reshape(2, 3)  # (2, 3)
            check_product(x @ x.T + 1)
            self.device = x.device
        self.tile_rows = 4096 if self.device.type == "cpu" else 65536  # type: ignore[misc]  # hangs on the device

    def _default_device(self) -> Any:
        """Return the default device; Apple's MPS is skipped, as it lacks float64."""
        chosen = self._torch.get_default_device()
        if chosen.type == "cpu" and self._torch.cuda.is_available():
            return "cuda"
        return "cpu" if chosen.type == "mps" else chosen

    @contextmanager
    @override
    def fixed_order(self) -> Iterator[None]:
        """Limit PyTorch to one thread, since it splits sums among its threads."""
        with _OneThread.lock:
            if not _OneThread.blocks:
                _OneThread.before = self._torch.get_num_threads()
            _OneThread.blocks += 1
            self._torch.set_num_threads(1)  # of this Python thread, and of those that have not computed yet
        try:
            with one_blas_thread():
                yield
        finally:
            with _OneThread.lock:
                _OneThread.blocks -= 1
                self._torch.set_num_threads(_OneThread.before)

    @override
    def put(self, array: npt.NDArray[Any]) -> Array:
        """Copy into memory allocated by PyTorch, as NumPy aligns to 16 bytes only.

        MKL's results depend on the alignment of operands within a cache line. Tensors have no negative strides, so the
        copy is contiguous.
        """
        tensor = self._torch.empty(array.shape, dtype=getattr(self._torch, array.dtype.name), device="cpu")
        tensor.numpy()[...] = array
        return tensor.to(self.device)

    @override
    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        return np.array(array.cpu().numpy())

    @override
    def own(self, array: Any) -> Array | None:
        """Return the tensor, detached from the autograd graph."""
        is_own = isinstance(array, self._torch.Tensor) and array.device == self.device
        return array.detach() if is_own and array.layout is self._torch.strided else None

    @override
    def linear(self, x: Array, weight: Array, bias: Array, *, activation: str) -> Array:
        """Compute the layer with `addmm`; ReLU is applied in place."""
        y = self._torch.addmm(bias, x, weight)  # (batch, out_features)
        forward = ACTIVATIONS[activation].forward
        return y.relu_() if forward is relu else forward(self.xp, y)

"""NCCL communicator: collectives on GPU arrays; host arrays and objects use another communicator, such as MPI's.

NCCL: https://docs.nvidia.com/deeplearning/nccl/user-guide/docs, through `cupy.cuda.nccl`.
"""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ..activations import Array
from ..communicator import Communicator
from ..errors import ConfigError, DeviceError, DeviceLost
from ..override import override
from .errors import one_line, why_lost

LOGGER = logging.getLogger("xpnn")

SYSTEM_ERROR = 2  # ncclSystemError: of the network or of the memory that processes share


class NcclCommunicator(Communicator):
    """NCCL over the processes of another communicator, with one GPU each.

    Collectives are queued on the stream; the host does not wait. All processes create it together.

    Args:
        cupy: the module; the current device is this process's.
        host: communicator of the same processes, for NCCL's id, objects and NumPy arrays.

    Attributes:
        has_failed: whether it is unusable after an error.

    Raises:
        DeviceError: NCCL cannot connect the GPUs, or two processes share one.
        DeviceLost: this process can no longer use its GPU.
    """

    on_host = False

    def __init__(self, cupy: Any, host: Communicator) -> None:
        self._cupy, self._host, self._nccl = cupy, host, import_module("cupy.cuda.nccl")
        self.rank, self.size = host.rank, host.size
        self._comm: Any = None
        self.has_failed = False
        self._begun: dict[int, Array] = {}  # by number: their memory must not be given to others before they end
        self._number = 0
        with self._in_words("joining the GPUs of the ranks"):
            unique_id = host.exchange(self._nccl.get_unique_id() if self.rank == 0 else None)[0]
            self._comm = self._nccl.NcclCommunicator(self.size, unique_id, self.rank)
        self._stream = cupy.cuda.Stream(non_blocking=True)  # of the sums that run beside the current stream's work

    @override
    def sum(self, array: Array) -> None:
        """Sum; an array on the GPU is summed on the current stream."""
        if not self._is_on_gpu(array):
            self._host.sum(array)
            return
        whole = array if array.flags.c_contiguous else array.copy(order="C")
        self._all_reduce(whole, self._cupy.cuda.get_current_stream())
        if whole is not array:
            array[...] = whole

    @override
    def start_sum(self, array: Array) -> Callable[[], None]:
        """Begin a sum; the returned function makes the current stream wait, not the host."""
        if not self._is_on_gpu(array):
            return self._host.start_sum(array)
        if not array.flags.c_contiguous:
            return super().start_sum(array)
        self._stream.wait_event(self._event(self._cupy.cuda.get_current_stream()))  # the array is complete by then
        self._all_reduce(array, self._stream)
        end, number = self._event(self._stream), self._number
        self._begun[number], self._number = array, number + 1

        def wait() -> None:
            self._cupy.cuda.get_current_stream().wait_event(end)
            self._begun.pop(number, None)

        return wait

    @override
    def gather(self, array: Array) -> Array:
        """Gather; arrays on the GPU are gathered on the GPU."""
        if not self._is_on_gpu(array):
            return self._host.gather(array)
        own = array if array.flags.c_contiguous else array.copy(order="C")
        gathered = self._cupy.empty((self.size, *own.shape), dtype=own.dtype)
        stream = self._cupy.cuda.get_current_stream()
        with self._in_words("gathering the arrays of the ranks"):
            self._comm.allGather(own.data.ptr, gathered.data.ptr, own.size, self._type_of(own), stream.ptr)
        return gathered

    @override
    def exchange(self, value: Any) -> list[Any]:
        return self._host.exchange(value)

    @override
    def barrier(self) -> None:
        """Wait for all processes, not for the work queued on their GPUs."""
        self._host.barrier()

    def _is_on_gpu(self, array: Array) -> bool:
        return isinstance(array, self._cupy.ndarray)

    def _event(self, stream: Any) -> Any:
        """Record an event after all work queued on a stream."""
        return stream.record(self._cupy.cuda.Event(disable_timing=True))

    def _all_reduce(self, array: Array, stream: Any) -> None:
        """Queue an in-place all-reduce of a contiguous array on a stream."""
        address = array.data.ptr
        with self._in_words("summing over the GPUs of the ranks"):
            kind, operation = self._type_of(array), self._nccl.NCCL_SUM
            self._comm.allReduce(address, address, array.size, kind, operation, stream.ptr)

    def _type_of(self, array: Array) -> int:
        """Return NCCL's enum value of an array's dtype.

        Raises:
            ConfigError: NCCL does not support the dtype.
        """
        name = np.dtype(array.dtype).name
        number: int | None = getattr(self._nccl, f"NCCL_{name.upper()}", None)
        if number is None:
            raise ConfigError(f"NCCL sums arrays of float32, float64 and whole numbers of 8, 32 or 64 bits, got {name}")
        return number

    @contextmanager
    def _in_words(self, work: str) -> Iterator[None]:
        """Context manager: raise NCCL's errors as a one-line `DeviceError` and mark the communicator as failed."""
        if self.has_failed:
            raise DeviceError(f"{work}: NCCL has failed before on rank {self.rank}: start all ranks again")
        try:
            yield
        except self._nccl.NcclError as error:
            self.abort()
            if lost := why_lost(self._cupy):
                raise DeviceLost(
                    f"{work}: rank {self.rank}'s GPU is lost to its process ({one_line(lost)}): start all ranks again; "
                    "if it happens again, check the GPU with nvidia-smi"
                ) from error
            raise DeviceError(f"{work}: NCCL failed on rank {self.rank} ({one_line(error)}): {_fix(error)}") from error

    def abort(self) -> None:
        """Abort queued collectives: an all-reduce with a lost rank would block the stream forever."""
        self.has_failed = True
        if self._comm is not None:
            self._comm.abort()
        self._begun.clear()


def _fix(error: Any) -> str:
    """Return advice on an NCCL error."""
    more = "set NCCL_DEBUG=INFO for details"
    if getattr(error, "status", None) == SYSTEM_ERROR:
        return (
            "check that the machines reach each other (NCCL_SOCKET_IFNAME names the network), and that a container has "
            f"shared memory (--shm-size=1g); {more}"
        )
    return f"check that each rank has its own GPU, and all the same NCCL and driver; {more}"


class Place(NamedTuple):
    """Machine, GPU and versions of a process.

    Attributes:
        host: name of the machine.
        gpu: PCI bus id of the device.
        nccl: version of NCCL, such as 22707 for 2.27.7; 0 where there is none.
        cuda: major CUDA version of CuPy's build.
    """

    host: str
    gpu: str
    nccl: int
    cuda: int


# To be used by the next training too. Two threads never ask for the same key, since only one at a time may use a
# communicator. With a lock over all, the ranks of two communicators could wait crosswise.
_MADE: dict[tuple[Any, Communicator, tuple[Place, ...]], NcclCommunicator] = {}


def gpu_communicator(cupy: Any, communicator: Communicator) -> Communicator:
    """Return an NCCL communicator over the processes of the given one, or the given one if NCCL cannot be used.

    NCCL needs several processes with a GPU each. All ranks call this together and get the same kind, logged by
    rank 0.

    Raises:
        DeviceError: NCCL cannot connect the GPUs.
    """
    if communicator.size == 1:
        return communicator
    places = tuple(communicator.exchange(_own_place(cupy)))
    is_first, key = communicator.rank == 0, (cupy, communicator, places)
    if reason := _why_on_host(places):
        if is_first:
            LOGGER.warning("the gradients of %d ranks are summed on the host: %s", communicator.size, reason)
        return communicator
    if (kept := _kept(key)) is not None:
        return kept
    made = _MADE[key] = NcclCommunicator(cupy, communicator)
    if is_first:
        LOGGER.info("the gradients of %d ranks are summed by NCCL on their GPUs", communicator.size)
    return made


def _kept(key: tuple[Any, Communicator, tuple[Place, ...]]) -> NcclCommunicator | None:
    """Return the communicator of an earlier run; drop it and return None if it is unusable on any rank."""
    made, (_, communicator, _) = _MADE.get(key), key
    is_usable = np.array([made is not None and not made.has_failed], dtype=np.int64)  # (1,)
    if communicator.gather(is_usable).all():
        return made
    if made is not None and not made.has_failed:
        made.abort()
    _MADE.pop(key, None)
    return None


def _own_place(cupy: Any) -> Place:
    """Return the machine, GPU and versions of this process."""
    with warnings.catch_warnings():  # CuPy warns where it does not find the library; the reason is told below
        warnings.simplefilter("ignore")
        nccl = import_module("cupy.cuda.nccl")
    cuda = int(cupy.cuda.runtime.runtimeGetVersion()) // 1000
    return Place(
        socket.gethostname(), str(cupy.cuda.Device().pci_bus_id), int(nccl.get_version()) if nccl.available else 0, cuda
    )


def _why_on_host(places: tuple[Place, ...]) -> str:
    """Return why NCCL cannot be used; empty if it can."""
    seen: dict[tuple[str, str], int] = {}
    for rank, place in enumerate(places):
        if not place.nccl:
            return f"CuPy finds no NCCL on rank {rank}: pip install nvidia-nccl-cu{place.cuda}"
        if place.nccl != places[0].nccl:
            return f"NCCL is {place.nccl} on rank {rank} and {places[0].nccl} on rank 0: install the same everywhere"
        first = seen.setdefault((place.host, place.gpu), rank)
        if first != rank:
            return (
                f"ranks {first} and {rank} have the same GPU, {place.gpu} of {place.host}: start one process for each "
                "GPU, or name each its own in CUDA_VISIBLE_DEVICES"
            )
    return ""

"""NCCL as CuPy 14 wraps it: each process has one device, and what the ranks exchange goes by mpi4py.

Real sums, in the order of the ranks. What is kept of NCCL's rules: one unique id for all ranks, a device for each rank
and no other rank; addresses, a number of elements and a type, none of which NCCL can check; work is queued on a stream.
What NCCL leaves to chance fails here: unlike calls on the ranks, a type or a number that is not that of the array,
memory that is freed before the stream has come so far, and a stream that does not wait for another's work.
"""

# ruff: noqa: N802, N803 - the signatures are CuPy's

import os
import socket
import sys
from typing import NamedTuple

import host_kernels
import numpy

from . import in_flight
from .device import Device
from .stream import get_current_stream, stream_at

available = True
version = 22707

NCCL_SUM, NCCL_PROD, NCCL_MAX, NCCL_MIN = range(4)
NCCL_INT8, NCCL_UINT8, NCCL_INT32, NCCL_UINT32, NCCL_INT64, NCCL_UINT64 = range(6)
NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64 = 6, 7, 8

_TYPES = ("int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")
_ERRORS = {
    1: "NCCL_ERROR_UNHANDLED_CUDA_ERROR: unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
    2: "NCCL_ERROR_SYSTEM_ERROR: unhandled system error (run with NCCL_DEBUG=INFO for details)",
    3: "NCCL_ERROR_INTERNAL_ERROR: internal error - please report this issue to the NCCL developers",
    4: "NCCL_ERROR_INVALID_ARGUMENT: invalid argument (run with NCCL_DEBUG=WARN for details)",
    5: "NCCL_ERROR_INVALID_USAGE: invalid usage (run with NCCL_DEBUG=WARN for details)",
    6: "NCCL_ERROR_REMOTE_ERROR: remote process exited or there was a network error",
}

calls = []  # each Call, in order


class Call(NamedTuple):
    name: str
    count: int
    type: str
    beside: bool  # whether it was queued on another stream than the current one


class NcclError(RuntimeError):
    def __init__(self, status):
        super().__init__(_ERRORS[status])
        self.status = status


def get_version():
    return version


def get_unique_id():
    return os.urandom(24) + bytes(104)


class NcclCommunicator:
    def __init__(self, ndev, commId, rank, config=None):
        if type(commId) is not bytes:
            raise TypeError(f"Argument 'commId' has incorrect type (expected bytes, got {type(commId).__name__})")
        if len(commId) != 128 or config is not None:
            raise ValueError(
                f"the unique id has 128 bytes, and the stand-in knows no config; got {len(commId)}, {config}"
            )
        if not 0 <= rank < ndev:
            raise NcclError(4)
        self._ranks = _Ranks(ndev, rank)
        places = self._ranks.exchange((commId, rank, socket.gethostname(), Device().pci_bus_id))
        if len({each[0] for each in places}) > 1 or [each[1] for each in places] != list(range(ndev)):
            raise NcclError(4)
        if len({each[2:] for each in places}) < ndev:  # NCCL says "Duplicate GPU detected"
            raise NcclError(5)
        self._device, self._queue = Device().id, []

    def size(self):
        return self._ranks.size

    def rank_id(self):
        return self._ranks.rank

    def device_id(self):
        return self._device

    def check_async_error(self):
        self._refuse_after_its_end()

    def abort(self):
        self._ranks = None

    destroy = abort

    def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
        self._refuse_after_its_end()
        send, receive = _array_at(sendbuf, count, datatype), _array_at(recvbuf, count, datatype)
        if op != NCCL_SUM:
            raise NotImplementedError("the stand-in's NCCL only sums")
        if sendbuf != recvbuf:
            _refuse_overlap(send, receive)
        self._submit("allReduce", stream, count, datatype, send, receive, lambda parts: sum(parts[1:], start=parts[0]))

    def allGather(self, sendbuf, recvbuf, count, datatype, stream):
        self._refuse_after_its_end()
        send = _array_at(sendbuf, count, datatype)
        receive = _array_at(recvbuf, count * self._ranks.size, datatype)
        if sendbuf != recvbuf + self._ranks.rank * count * send.itemsize:
            _refuse_overlap(send, receive)
        self._submit("allGather", stream, count, datatype, send, receive, numpy.concatenate)

    def _submit(self, name, ptr, count, datatype, send, receive, combine):
        """Queue a call; what is queued on the current stream is done at once, with all before it."""
        if Device().id != self._device:
            raise NcclError(4)
        on, current = stream_at(ptr), get_current_stream()
        on.refuse_while_capturing(f"nccl.{name}")
        calls.append(Call(name, count, _TYPES[datatype], beside=on is not current))
        ranks, purpose = self._ranks, (name, count, _TYPES[datatype])

        def run(source, target):
            target[...] = combine(ranks.exchange(source.copy(), purpose))

        if not on.comes_after(current, current.submitted):
            raise host_kernels.KernelFault(f"nccl.{name}: its stream does not wait for the current one's work")
        for array in (send, receive):
            in_flight.touch(array, on)
        operation = in_flight.Operation(name, on, send, receive, run)
        self._queue.append(operation)
        on.queue(operation, self._queue)
        if on is current:
            on.run_queued()

    def _refuse_after_its_end(self):
        if self._ranks is None:
            raise host_kernels.KernelFault("the NCCL communicator was aborted or destroyed before")


class _Ranks:
    """The processes of a communicator."""

    def __init__(self, size, rank):
        self.size, self.rank, self._comm = size, rank, None
        if size > 1:
            from mpi4py import MPI

            if MPI.COMM_WORLD.Get_size() != size:
                raise NcclError(4)
            self._comm = MPI.COMM_WORLD.Dup()

    def exchange(self, value, purpose=None):
        """The values of all ranks, who must have come for the same."""
        parts = [(purpose, value)] if self._comm is None else self._comm.allgather((purpose, value))
        if len({each for each, _ in parts}) > 1:
            raise host_kernels.KernelFault(f"the ranks of NCCL called differently: {[each for each, _ in parts]}")
        return [part for _, part in parts]


def _array_at(address, count, datatype):
    """The elements at an address; they must be of one array, and of its type."""
    if not 0 <= datatype < len(_TYPES):
        raise NcclError(4)
    dtype = numpy.dtype(_TYPES[datatype])
    end, found = address + count * dtype.itemsize, None
    for array in list(sys.modules["cupy"].held.values()):
        start = host_kernels.address_of(array)
        if array.flags.c_contiguous and start <= address and end <= start + array.nbytes:
            found = array
            if array.dtype == dtype:
                return numpy.ndarray((count,), dtype, array, address - start)
    if found is None:
        raise host_kernels.KernelFault(f"NCCL: there is no array of {count} {dtype} at {address:#x}")
    raise TypeError(f"NCCL was told {dtype} of an array of {found.dtype}")


def _refuse_overlap(send, receive):
    if numpy.may_share_memory(send, receive):
        raise host_kernels.KernelFault("NCCL: the buffers overlap, and are not the same")

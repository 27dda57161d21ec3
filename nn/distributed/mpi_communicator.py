"""MPI communicator, through mpi4py.

MPI: A Message-Passing Interface Standard, version 4.1, chapter 6. mpi4py: https://mpi4py.readthedocs.io
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...backends.activations import Array
from ...backends.communicator import Communicator
from ...backends.machine import usable_core_numbers, usable_cores
from ...backends.override import override


class MpiCommunicator(Communicator):
    """Communicator over MPI for host arrays.

    Args:
        comm: communicator of mpi4py, which is duplicated to separate its messages from others.

    Attributes:
        local_rank: index of this process on its machine.
        sharing: number of local processes that may use the same cores, including this one.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi, self._comm = MPI, comm.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        local = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, cores = local.Get_rank(), usable_core_numbers()
        self.sharing = sum(1 for others in local.allgather(cores) if cores & others)
        local.Free()
        self._sums: ThreadPoolExecutor | None = None  # a thread that sums while this one computes
        # The thread takes a core. With one core a rank, steps whose sums began early took 8 % less to 14 % more, mostly
        # more (bench/results/distributed); with more cores nothing was measured.
        has_core = usable_cores() > self.sharing
        self.overlaps = has_core and MPI.Query_thread() >= MPI.THREAD_SERIALIZED

    def __repr__(self) -> str:
        return f"<MpiCommunicator rank {self.rank} of {self.size}>"

    @override
    def sum(self, array: Array) -> None:
        self._comm.Allreduce(self._mpi.IN_PLACE, array)

    @override
    def start_sum(self, array: Array) -> Callable[[], None]:
        """Sum in a background thread, since MPI makes no progress by itself."""
        if not self.overlaps:
            return super().start_sum(array)
        if self._sums is None:
            self._sums = ThreadPoolExecutor(1, thread_name_prefix="xpnn-sums")
        return self._sums.submit(self.sum, array).result

    @override
    def gather(self, array: Array) -> Array:
        own = np.asarray(array, order="C")
        gathered = np.empty((self.size, *own.shape), own.dtype)
        self._comm.Allgather(own, gathered)
        return gathered

    @override
    def exchange(self, value: Any) -> list[Any]:
        return list(self._comm.allgather(value))

    @override
    def barrier(self) -> None:
        self._comm.Barrier()

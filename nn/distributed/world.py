"""World communicator of an MPI job, and abort of all ranks on failure."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType

from ...backends import MissingDependency
from ...backends.machine import usable_cores
from ...backends.threads import at_most_threads, thread_limit
from .mpi_communicator import MpiCommunicator

# What all ranks get wrong alike is told once: the others leave rank 0 so many seconds to say it and end the job.
OTHERS_WAIT_SECONDS = 1.0
DRAIN_SECONDS, POLL_SECONDS = 2.0, 0.005  # longest wait for the launcher to drain stderr, and the polling interval
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# By which launchers tell a process its rank and the number of ranks: MPICH and its kin, Open MPI, Slurm's srun.
PLACE_VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)

_LIMITS = ExitStack()  # for as long as the process lives
_LOCK = threading.Lock()  # of the first call of `world`
_world: MpiCommunicator | None = None  # since `world` was first called


def world() -> MpiCommunicator:
    """Return the communicator of all processes started by `mpiexec`, or of a single process without it.

    From the first call on, an uncaught exception ends all ranks with `MPI_Abort`, since the others would wait forever.
    Processes on one machine divide its cores, unless a variable such as OMP_NUM_THREADS sets the number of
    threads.

    Raises:
        MissingDependency: mpi4py or an MPI library is not installed.
    """
    global _world
    with _LOCK:
        if _world is not None:
            return _world
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:  # mpi4py raises the latter where it finds no MPI library
            raise MissingDependency(
                f"distributed training needs MPI ({error}): "
                'pip install "xpnn[mpi]" mpich, or use the MPI of your cluster'
            ) from error
        _world = MpiCommunicator(MPI.COMM_WORLD)
        if _world.size > 1:
            sys.excepthook = partial(_abort_after, sys.excepthook)
            _share_cores(_world)
        return _world


def _share_cores(communicator: MpiCommunicator) -> None:
    """Limit this process to its share of the cores, unless the launcher or the user has done so."""
    if communicator.sharing > 1 and not any(name in os.environ for name in THREAD_VARIABLES):
        _LIMITS.enter_context(at_most_threads(max(1, usable_cores() // communicator.sharing)))


def launched(environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return rank and number of ranks from the launcher's environment; (0, 1) without a launcher."""
    for rank, size in PLACE_VARIABLES:
        if environ.get(rank, "").isdecimal() and environ.get(size, "").isdecimal():
            return int(environ[rank]), int(environ[size])
    return 0, 1


def threads_of_process() -> int:
    """Return the number of threads of this process, as configured."""
    numbers = [os.environ[name] for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS") if name in os.environ]
    return thread_limit(int(numbers[0]) if numbers and numbers[0].isdecimal() else usable_cores())


def abort(code: int, say: Callable[[str], object] | None = None) -> None:
    """Abort all ranks with an exit code; do nothing for a single process or after MPI is finalized.

    Args:
        code: at least 1.
        say: called with the name of this rank, to print the reason to stderr.
    """
    if _world is None or _world.size == 1:
        return
    from mpi4py import MPI

    if MPI.Is_finalized():
        return
    if _world.rank > 0:
        time.sleep(OTHERS_WAIT_SECONDS)
    try:
        if say is not None:
            say(f"rank {_world.rank}")
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as where it was closed
                stream.flush()
        _wait_until_read()
    finally:  # a broken stream ends the job, too
        MPI.COMM_WORLD.Abort(code)


def _wait_until_read() -> None:
    """Wait until the launcher has read stderr, since MPICH may drop pending output on abort."""
    deadline = time.monotonic() + DRAIN_SECONDS
    if sys.platform != "win32":
        from fcntl import ioctl
        from termios import FIONREAD

        with suppress(OSError):  # stderr is no pipe
            while any(ioctl(2, FIONREAD, bytes(4))) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)


def abort_after_exit(error: SystemExit) -> None:
    """Abort all ranks if this one exits with an error."""
    if error.code not in (None, 0):
        words = f"exits with {error.code}" if isinstance(error.code, int) else str(error.code)
        code = error.code if isinstance(error.code, int) else 1
        abort(code, lambda rank: print(f"{rank}: {words}", file=sys.stderr))  # noqa: T201


def finalize() -> None:
    """Finalize MPI; a collective operation before exit, whatever the exit code."""
    if _world is not None:
        from mpi4py import MPI

        MPI.Finalize()


def _abort_after(
    before: Callable[..., object], kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report an uncaught exception by the previous hook, and abort all ranks."""

    def say(rank: str) -> None:
        before(kind, error, trace)
        print(f"{rank} ends the job: {kind.__name__}: {error}", file=sys.stderr)  # noqa: T201

    abort(130 if issubclass(kind, KeyboardInterrupt) else 1, say)
    before(kind, error, trace)  # MPI has been finalized: there is no job to end

"""All processes that were started together, and their common end."""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import ExitStack
from functools import cache
from types import TracebackType

from ...backends import MissingDependency
from ...backends.machine import usable_cores
from ...backends.thread_limit import at_most_threads
from .mpi_communicator import MpiCommunicator

# What all ranks get wrong in the same way, the first one says for all: the others wait for it so long.
OTHERS_WAIT_SECONDS = 1.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_LIMITS = ExitStack()  # for as long as the process lives


@cache
def world() -> MpiCommunicator:
    """Return the communicator of all processes that `mpiexec` started; of one alone where it did not.

    From now on an exception that nobody catches ends all of them: the others would wait for this one for ever.
    Processes on one machine share its cores: each is given as many threads as there are for it, unless a variable such
    as OMP_NUM_THREADS says how many.

    Raises:
        MissingDependency: mpi4py or an MPI library is not installed.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py raises the latter where it finds no MPI library
        raise MissingDependency(
            f'many processes need MPI ({error}): pip install "xpnn[mpi]" mpich, or use the MPI of your cluster'
        ) from error
    communicator = MpiCommunicator(MPI.COMM_WORLD)
    if communicator.size > 1:
        sys.excepthook = _end_all
        _share_cores(communicator)
    return communicator


def _share_cores(communicator: MpiCommunicator) -> None:
    """Give this process its part of the machine's cores, unless the launcher or the user has seen to that."""
    if communicator.sharing > 1 and not any(name in os.environ for name in THREAD_VARIABLES):
        _LIMITS.enter_context(at_most_threads(max(1, usable_cores() // communicator.sharing)))


def _end_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what nobody caught, with the number of the rank, and end all processes."""
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip().splitlines()
    end_job(1, "\n".join(f"rank {world().rank}: {line}" for line in lines))


def end_job(code: int, words: str) -> None:
    """End all processes with an exit code, after saying why on stderr; an end that all come to is told once.

    Args:
        code: at least 1.
        words: what happened here.
    """
    communicator = world()
    if communicator.rank != 0:
        time.sleep(OTHERS_WAIT_SECONDS)
    sys.stdout.flush()
    print(words, file=sys.stderr, flush=True)  # noqa: T201
    communicator.abort(code)

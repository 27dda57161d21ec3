"""All processes that were started together, and their common end."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

from ...backends import MissingDependency
from ...backends.machine import usable_cores
from ...backends.threads import at_most_threads
from .mpi_communicator import MpiCommunicator
from .supervision import SAID, end_others, flush_streams, is_supervised, launched, let_words_pass, tell_supervisor

# What all ranks get wrong in the same way, the first one says for all: the others wait for it so long.
OTHERS_WAIT_SECONDS = 1.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_LIMITS = ExitStack()  # for as long as the process lives
_world: MpiCommunicator | None = None  # as soon as it was asked for


def world() -> MpiCommunicator:
    """Return the communicator of all processes that `mpiexec` started; of one alone where it did not.

    From now on an exception that nobody catches ends all of them: the others would wait for this one for ever.
    Processes on one machine share its cores: each is given as many threads as there are for it, unless a variable such
    as OMP_NUM_THREADS says how many.

    Raises:
        MissingDependency: mpi4py or an MPI library is not installed.
    """
    global _world
    if _world is not None:
        return _world
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py raises the latter where it finds no MPI library
        raise MissingDependency(
            f'many processes need MPI ({error}): pip install "xpnn[mpi]" mpich, or use the MPI of your cluster'
        ) from error
    _world = MpiCommunicator(MPI.COMM_WORLD)
    if _world.size > 1:
        sys.excepthook = partial(_end_all, sys.excepthook)
        _share_cores(_world)
    return _world


def _share_cores(communicator: MpiCommunicator) -> None:
    """Give this process its part of the machine's cores, unless the launcher or the user has seen to that."""
    if communicator.sharing > 1 and not any(name in os.environ for name in THREAD_VARIABLES):
        _LIMITS.enter_context(at_most_threads(max(1, usable_cores() // communicator.sharing)))


def joined() -> MpiCommunicator | None:
    """Return the communicator of `world()` where it has been called and there are others; else None."""
    return _world if _world is not None and _world.size > 1 else None


def is_one_of_many() -> bool:
    """Return whether others train with this process, or will as soon as MPI has begun."""
    return is_supervised() or joined() is not None


def threads_of_process() -> int:
    """Return how many threads this process computes with, as far as it was told."""
    numbers = [os.environ[name] for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS") if name in os.environ]
    return int(numbers[0]) if numbers and numbers[0].isdecimal() else usable_cores()


def _end_all(
    before: Callable[..., object], kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say what nobody caught, with the number of the rank, and end all processes.

    Args:
        before: the hook that was there; where it is not Python's own, it says where the error comes from.
        kind: of the error.
        error: what nobody caught.
        trace: where it comes from.
    """
    if before is sys.__excepthook__:
        end_after_error(error, trace)
    try:
        before(kind, error, trace)
    except Exception:  # all must end all the same
        end_after_error(error, trace)
    end_after_error(error, None)


def end_after_error(error: BaseException, trace: TracebackType | None) -> NoReturn:
    """Say what nobody caught, with the number of the rank, and end all processes: with 130 after Ctrl-C, else with 1.

    Args:
        error: what nobody caught.
        trace: where it comes from; None leaves that out.
    """
    words = "".join(traceback.format_exception(type(error), error, trace, chain=trace is not None))
    end_job(130 if isinstance(error, KeyboardInterrupt) else 1, of_rank(words))


def of_rank(words: str) -> str:
    """Return words with the number of this process before each line."""
    return "\n".join(f"rank {own_rank()}: {line}" for line in words.rstrip().splitlines())


def say_plainly(words: str) -> None:
    """Write a line on stderr; nothing where it was closed."""
    if sys.stderr is not None:
        print(words, file=sys.stderr)  # noqa: T201


def own_rank() -> int:
    """Return the number of this process, as the launcher tells it where MPI has not begun."""
    mpi = _running_mpi()
    place = launched()
    return int(mpi.COMM_WORLD.Get_rank()) if mpi is not None else 0 if place is None else place.rank


def end_job(code: int, words: str, say: Callable[[str], None] = say_plainly) -> NoReturn:
    """End all processes with an exit code, after saying why on stderr; an end that all come to is told once.

    It may be called before MPI has begun, too.

    Args:
        code: at least 1.
        words: what happened here.
        say: writes them on stderr.
    """
    if own_rank() != 0:
        time.sleep(OTHERS_WAIT_SECONDS)
    with suppress(OSError, ValueError):  # stderr may be what is broken
        say(words)
        tell_supervisor(SAID)
    flush_streams()
    let_words_pass()
    if (mpi := _running_mpi()) is not None:
        mpi.COMM_WORLD.Abort(code)
    if not is_supervised():
        end_others(code)
    os._exit(code)


def _running_mpi() -> Any:
    """Return mpi4py's module where MPI has begun and not ended, else None."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized() else None

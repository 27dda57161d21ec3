"""A process that watches over each rank, and says which one was killed.

A rank that is killed can say nothing, and launchers name the wrong process or none. So a rank forks before MPI and
threads begin: the child goes on as the rank, the parent waits for its end, and passes on the signals that it gets.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple

# (rank, number of ranks) as launchers tell them: MPICH and its kin, Open MPI, Slurm's srun.
VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT")
HYDRA_VARIABLES = ("HYDI_CONTROL_FD", "MPI_LOCALNRANKS")  # that MPICH's launcher sets, of which Slurm's sets none
TOGETHER = "together"  # what a rank tells its supervisor where all ranks end alike, if not well
SAID = "said"  # ... and where it has said itself why it ends
MOST_BYTES = 4096  # that a pipe takes at once
MOST_WORDS_SECONDS, LOOK_SECONDS = 2.0, 0.005  # how long a launcher may take to read stderr, and between two looks


class Place(NamedTuple):
    """Which process of a job this is."""

    rank: int
    size: int


def launched(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Return this process's place as its launcher tells it; None where there was none.

    Args:
        environ: environment variables.
    """
    for rank, size in VARIABLES:
        if environ.get(rank, "").isdecimal() and environ.get(size, "").isdecimal():
            return Place(int(environ[rank]), int(environ[size]))
    return None


class _Line:
    """The way from a rank to its supervisor; there is none where nobody watches."""

    end: int | None = None
    is_ending_together = False


def supervise() -> None:
    """Go on in a child, while this process waits for its end; where there is a launcher, several ranks and `fork`.

    The child ends when its supervisor is killed. Where the system allows no more processes, nobody watches.
    """
    place = launched()
    if place is None or place.size == 1 or not hasattr(os, "fork") or _Line.end is not None:
        return
    flush_streams()
    alive, held = os.pipe()  # the supervisor holds one end: when it ends, the other one is told
    heard, told = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _passed_on())
    of_children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, the system would not keep the exit code
    try:
        with warnings.catch_warnings():  # of threads, which BLAS has ended before the fork
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError:
        for end in (alive, held, heard, told):
            os.close(end)
        _restore(before, of_children)
        return
    if child == 0:
        os.close(held)
        os.close(heard)
        _Line.end = told
        _restore(before, of_children)
        threading.Thread(target=_end_with_supervisor, args=(alive, place), name="xpnn-supervised", daemon=True).start()
        return
    os.close(alive)
    os.close(told)
    code = 1
    try:
        code = _watch(child, heard, place, before)
    except BaseException:
        traceback.print_exc()
        raise
    finally:  # nothing of what the rank does in the end is done here
        os._exit(code)


def _restore(mask: set[signal.Signals | int], of_children: Any) -> None:
    """Set the mask of signals, and what is done when a child ends, to what they were."""
    if of_children is not None:  # it was set by Python
        signal.signal(signal.SIGCHLD, of_children)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def flush_streams() -> None:
    """Write what stdout and stderr still hold; a stream may be broken, and is None where it was closed."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()


def is_supervised() -> bool:
    """Return whether another process watches over this one."""
    return _Line.end is not None


def tell_supervisor(words: str) -> None:
    """Tell the supervisor what to say if this rank is killed, such as how to go on; the last words count."""
    if _Line.end is not None:
        with suppress(OSError):
            line = " ".join(words.splitlines()).encode(errors="surrogateescape")  # a path may be no UTF-8
            os.write(_Line.end, line[: MOST_BYTES - 1] + b"\n")


def end_together() -> None:
    """Remember, and tell the supervisor, that all ranks end alike, so that none has to be ended by another."""
    _Line.is_ending_together = True
    tell_supervisor(TOGETHER)


def is_ending_together() -> bool:
    """Return whether `end_together` was called."""
    return _Line.is_ending_together


def end_others(code: int, environ: Mapping[str, str] = os.environ) -> None:
    """End the job by way of the launcher, before MPI has begun here or after it is gone.

    MPICH's launcher waits for the others if a process ends with an error before it has begun with MPI; other launchers
    end them. It hears of it by a message of its own, "abort" of PMI-1 (https://www.mpich.org, "PMI v1 wire protocol").
    Slurm's srun has a `PMI_FD`, too, but speaks PMI-2 there; `mpiexec` in a batch script inherits Slurm's variables.

    Args:
        code: exit code of the job.
        environ: environment variables.
    """
    if environ.get("PMI_FD", "").isdecimal() and any(name in environ for name in HYDRA_VARIABLES):
        with suppress(OSError):
            os.write(int(environ["PMI_FD"]), f"cmd=abort exitcode={code}\n".encode())


def let_words_pass() -> None:
    """Wait until the launcher has read what was written on stderr, if that is a pipe.

    MPICH's may throw away what it finds there when it has heard that the job ends.
    """
    deadline = time.monotonic() + MOST_WORDS_SECONDS
    with suppress(ImportError, OSError):  # stderr is closed or no pipe, or this system cannot say
        from fcntl import ioctl
        from termios import FIONREAD

        while any(ioctl(2, FIONREAD, bytes(4))) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)


def _passed_on() -> list[signal.Signals]:
    """Return the signals that a supervisor passes on; one that is ignored, as under nohup, stays so."""
    numbers = [getattr(signal, name) for name in PASSED_ON if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


def _end_with_supervisor(alive: int, place: Place) -> None:
    """Wait for the end of the supervisor, and end this process and the job: nobody else would end it.

    Launchers end both processes of a rank together: one that sees the end of the other was not ended by them.
    """
    while os.read(alive, 1):
        pass
    code = 128 + signal.SIGKILL
    words = (
        f"xpnn: rank {place.rank} (process {os.getpid()} on {socket.gethostname()}) ends, as its parent was killed\n"
    )
    with suppress(OSError):
        os.write(2, words.encode())
    let_words_pass()
    end_others(code)
    os._exit(code)


def _watch(child: int, heard: int, place: Place, mask: set[signal.Signals | int]) -> int:
    """Wait for the end of a rank; return the exit code, 128 and the number of the signal that ended it."""
    passed: set[int] = set()

    def pass_on(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        passed.add(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _passed_on():
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    told = _all_of(heard).splitlines()
    marks = {TOGETHER.encode(), SAID.encode()}
    is_unexplained = -code not in passed if code < 0 else code > 0 and not passed and marks.isdisjoint(told)
    if is_unexplained and sys.stderr is not None:  # else its number may be another file's by now
        end = f"was killed by {_name(-code)}" if code < 0 else f"exited with code {code}"
        words = f"xpnn: rank {place.rank} (process {child} on {socket.gethostname()}) {end}"
        hints = [line for line in told if line not in marks]
        with suppress(OSError):
            os.write(2, b"; ".join([words.encode(), *hints[-1:]]) + b"\n")
    code = 128 - code if code < 0 else code
    if code and TOGETHER.encode() not in told:
        let_words_pass()
        end_others(code)
    return code


def _all_of(pipe: int) -> bytes:
    """Return what was written into a pipe so far; a process that the rank has left behind may still hold it."""
    os.set_blocking(pipe, False)
    content = b""
    with suppress(BlockingIOError):
        while part := os.read(pipe, 1 << 16):
            content += part
    return content


def _name(number: int) -> str:
    """Return the name of a signal, and what it often means."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return name + {"SIGKILL": " (by someone, or by the system for lack of memory)"}.get(name, "")

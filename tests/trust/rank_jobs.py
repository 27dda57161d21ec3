"""Trainings on several ranks, whose processes are killed and waited for."""

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from .trainings import INSIDE, PAGE, PIDS, STEPS

PROGRAM = Path(__file__).with_name("rank_process.py")
LOOK_SECONDS = 0.002  # from one look at a job to the next
MOST_SECONDS = 300.0  # a safety net: a job that takes longer to do anything at all does not end


class Ended(NamedTuple):
    """The end of a job.

    Attributes:
        code: exit code of its launcher, or minus the number of the signal that ended it.
        said: what it printed; MPICH's launcher names a killed rank on stdout.
        left: processes that did not end within `MOST_SECONDS`.
    """

    code: int
    said: str
    left: list[int]


class Job:
    """A training under `mpiexec`.

    Args:
        folder: where it is started; its page and what it prints are kept there.
        ranks: how many.
        arguments: of `xpnn`.
        order: the rest of what `rank_process.py` is told.
    """

    def __init__(self, folder: Path, ranks: int, arguments: Sequence[str], **order: Any) -> None:
        page, self._said = folder / "job.page", folder / "job.txt"
        page.write_bytes(bytes(PAGE))
        with page.open("r+b") as file:
            self._page = memoryview(mmap.mmap(file.fileno(), PAGE)).cast("q")
        words = json.dumps({"arguments": arguments, "page": str(page), **order})
        with self._said.open("wb") as said:  # no pipe, whose end would wait for whoever is left
            self._process = subprocess.Popen(
                ["mpiexec", "-n", str(ranks), sys.executable, str(PROGRAM), words],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=folder,
            )  # fmt: skip
        self._ranks, self._ending = range(ranks), os.pidfd_open(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave nothing of it behind, whatever came in between."""
        if self._process.poll() is None:
            self._process.kill()  # its proxy notices, and ends the ranks
        self._process.wait()
        os.close(self._ending)

    def steps(self, rank: int) -> int:
        """Return how many steps a rank has said that it has taken; 0 too where the training has not begun."""
        return int(self._page[STEPS + rank])

    def pid(self, rank: int) -> int:
        """Return the number of a rank's process; 0 where it has not begun."""
        return int(self._page[PIDS + rank])

    @property
    def is_saving(self) -> bool:
        """Whether rank 0 is inside a save."""
        return bool(self._page[INSIDE])

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, so long at most; return whether it has."""
        return bool(select.select([self._ending], [], [], seconds)[0])

    def wait_until(self, condition: Callable[[], bool], *, look: float = LOOK_SECONDS) -> bool:
        """Wait until something is the case, with a look every so many seconds; return False if the job ends before."""
        deadline = time.monotonic() + MOST_SECONDS
        while not condition():
            if self.wait(look):
                return False
            assert time.monotonic() < deadline, self.said()
        return True

    def kill(self, rank: int) -> None:
        """Kill a rank, as `kill -9` does, unless it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid(rank), signal.SIGKILL)

    def said(self) -> str:
        """Return what it has printed."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def end(self) -> Ended:
        """Wait for its end, and for that of each of its processes."""
        code = self._process.wait(MOST_SECONDS)
        begun = filter(None, map(self.pid, self._ranks))
        return Ended(code, self.said(), [pid for pid in begun if not has_ended(pid, MOST_SECONDS)])


def has_ended(pid: int, seconds: float) -> bool:
    """Wait for the end of a process, so long at most, and return whether it came."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)

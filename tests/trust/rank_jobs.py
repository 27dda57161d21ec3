"""Trainings on several ranks, whose processes are found, killed and waited for."""

import json
import mmap
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from .trainings import INSIDE, PAGE, RANK_VARIABLE, STEPS

PROGRAM = Path(__file__).with_name("rank_process.py")
MARK_VARIABLE = "XPNN_TRUST_JOB"  # by which a job's processes are known, whoever their parents are
LOOK_SECONDS = 0.002  # from one look at a job to the next
MOST_SECONDS = 300.0  # that a job may take to do anything at all, on a busy machine too: then it hangs


class Ended(NamedTuple):
    """How a job ended.

    Attributes:
        code: exit code of its launcher, or minus the number of the signal that ended it.
        errors: what its processes printed on stderr.
        left: processes that did not end within `MOST_SECONDS`.
    """

    code: int
    errors: str
    left: list[int]


class Job:
    """A training on some ranks, under `mpiexec` or, of one rank, by itself.

    Args:
        folder: where it is started; its page and what it prints are kept there.
        ranks: how many.
        arguments: of `xpnn`.
        launched: whether `mpiexec` starts it.
        order: the rest of what `rank_process.py` is told.
    """

    def __init__(
        self, folder: Path, ranks: int, arguments: Sequence[str], *, launched: bool = True, **order: Any
    ) -> None:
        self._mark, self._launched = secrets.token_hex(8), launched
        page, self._errors = folder / f"{self._mark}.page", folder / f"{self._mark}.stderr"
        page.write_bytes(bytes(PAGE))
        with page.open("r+b") as file:
            self._page = memoryview(mmap.mmap(file.fileno(), PAGE)).cast("q")
        command = [sys.executable, str(PROGRAM), json.dumps({"arguments": arguments, "page": str(page), **order})]
        if launched:
            command = ["mpiexec", "-n", str(ranks), *command]
        with self._errors.open("wb") as errors:  # no pipe, whose end would wait for whoever is left
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, cwd=folder,
                env=os.environ | {MARK_VARIABLE: self._mark},
            )  # fmt: skip
        self._ending = os.pidfd_open(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave nothing of it behind, whatever came in between."""
        for pid in self.processes():
            kill(pid)
        self._process.wait()
        os.close(self._ending)

    def steps(self, rank: int) -> int:
        """Return how many steps a rank has said that it has taken; 0 too where the training has not begun."""
        return int(self._page[STEPS + rank])

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
            assert time.monotonic() < deadline, self.errors()
        return True

    def processes(self) -> dict[int, dict[str, str]]:
        """Return the number and the environment of each process of the job that lives."""
        return {pid: environment for pid, environment in living() if environment.get(MARK_VARIABLE) == self._mark}

    def processes_of(self, rank: int) -> list[int]:
        """Return the processes of a rank: the one that the launcher started, then its child, if there is one."""
        alone = None if self._launched else "0"
        processes = self.processes().items()
        found = [pid for pid, environment in processes if environment.get(RANK_VARIABLE, alone) == str(rank)]
        return sorted(found, key=lambda pid: parent_of(pid) in found)

    def errors(self) -> str:
        """Return what it has printed on stderr."""
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def end(self) -> Ended:
        """Wait for its end, and for that of each of its processes."""
        code = self._process.wait(MOST_SECONDS)
        left = [pid for pid in self.processes() if not has_ended(pid, MOST_SECONDS)]
        return Ended(code, self.errors(), left)


def kill(pid: int) -> None:
    """Kill a process, as `kill -9` does, unless it has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def living() -> list[tuple[int, dict[str, str]]]:
    """Return the number and the environment of each process that lives and may be looked at."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and (content := (folder / "environ").read_bytes()):  # a dead one's is empty
                words = (word.partition("=") for word in content.decode(errors="replace").split("\0"))
                found.append((int(folder.name), {name: value for name, _, value in words}))
    return found


def parent_of(pid: int) -> int:
    """Return the number of a process's parent; 0 if it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return 0


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

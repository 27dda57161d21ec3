"""Fixtures of data-parallel jobs: ranks that are threads of the test, ranks of mpiexec, and this process as a rank."""

import copy
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from xpnn.backends.communicator import Communicator

MEETING_SECONDS = 120.0  # a safety net: a rank that waits for longer fails, and with it the test


class RankGone(Exception):  # noqa: N818
    """A rank waits for another that has ended; why that one did is the error of the test."""


class Meeting:
    """Where the threads of a test exchange values: each gives one, and gets those of all, in the order of the ranks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._condition = threading.Condition()
        self._rounds: list[dict[int, tuple[Any, Any]]] = []  # of each round: rank -> (what it came for, its value)
        self._at, self._gone = [0] * size, set[int]()

    def exchange(self, rank: int, purpose: Any, value: Any) -> list[Any]:
        """Return the values of all ranks; all must have come for the same purpose."""
        with self._condition:
            number = self._at[rank]
            self._at[rank] += 1
            if number == len(self._rounds):
                self._rounds.append({})
            here = self._rounds[number]
            here[rank] = (purpose, value)
            self._condition.notify_all()
            while len(here) < self.size:
                if missing := self._gone - here.keys():
                    raise RankGone(f"rank {rank} waits for rank {min(missing)}, which has ended, to {purpose}")
                if not self._condition.wait(MEETING_SECONDS):
                    raise TimeoutError(f"rank {rank} waited {MEETING_SECONDS} s for the others to {purpose}")
        purposes = [here[each][0] for each in range(self.size)]
        assert purposes == [purpose] * self.size, f"the ranks came for different purposes: {purposes}"
        return [here[each][1] for each in range(self.size)]

    def leave(self, rank: int) -> None:
        """Tell the others that a rank comes no more."""
        with self._condition:
            self._gone.add(rank)
            self._condition.notify_all()


class ThreadCommunicator(Communicator):
    """The threads of a test as ranks; sums go in the order of the ranks.

    Attributes:
        calls: the methods that were called, in order.
    """

    def __init__(self, meeting: Meeting, rank: int, *, on_host: bool = True) -> None:
        self.rank, self.size, self.on_host = rank, meeting.size, on_host
        self.calls: list[str] = []
        self._meeting, self._begun = meeting, 0

    def sum(self, array: Any) -> None:
        assert not self._begun, "a sum that was begun has not ended"
        self.calls.append("sum")
        self._sum(array)

    def start_sum(self, array: Any) -> Callable[[], None]:
        """It is done when it is waited for: whoever reads or writes the array before that is found out."""
        self.calls.append("start_sum")
        self._begun += 1

        def wait() -> None:
            self._sum(array)
            self._begun -= 1

        return wait

    def _sum(self, array: Any) -> None:
        first, *others = self._exchange(("sum", tuple(array.shape), array.dtype), array)
        total = first
        for each in others:
            total = total + each
        array[...] = total

    def gather(self, array: Any) -> Any:
        assert not self._begun, "a sum that was begun has not ended"
        self.calls.append("gather")
        return np.stack(self._exchange(("gather", tuple(array.shape), array.dtype), array))

    def exchange(self, value: Any) -> list[Any]:
        assert not self._begun, "a sum that was begun has not ended"
        self.calls.append("exchange")
        return self._exchange("exchange", value)

    def barrier(self) -> None:
        self.calls.append("barrier")
        self._exchange("meet", None)

    def _exchange(self, purpose: Any, value: Any) -> list[Any]:
        """Exchange copies: what others got does not change any more."""
        return self._meeting.exchange(self.rank, purpose, copy.deepcopy(value))


class Ranks:
    """Runs a function on many ranks, the threads of the test: `ranks(3, work)` calls `work(communicator)` on each."""

    def __init__(self) -> None:
        self._thread = threading.local()

    def current(self) -> int:
        """Return the number of the rank that asks."""
        rank: int = self._thread.rank
        return rank

    def __call__(self, size: int, work: Callable[[ThreadCommunicator], Any], *, on_host: bool = True) -> list[Any]:
        """Return what the ranks returned; the first error of any is raised."""
        results, errors = self._run(size, work, on_host=on_host)
        for error in sorted(filter(None, errors), key=lambda error: isinstance(error, RankGone)):
            raise error
        return results

    def errors(self, size: int, work: Callable[[ThreadCommunicator], Any]) -> list[BaseException | None]:
        """Return what each rank raised."""
        return self._run(size, work, on_host=True)[1]

    def _run(self, size: int, work: Any, *, on_host: bool) -> tuple[list[Any], list[BaseException | None]]:
        meeting = Meeting(size)
        results: list[Any] = [None] * size
        errors: list[BaseException | None] = [None] * size

        def run(rank: int) -> None:
            self._thread.rank = rank
            try:
                results[rank] = work(ThreadCommunicator(meeting, rank, on_host=on_host))
            except BaseException as error:  # raised again in the thread of the test
                errors[rank] = error
            finally:
                meeting.leave(rank)

        threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results, errors


@pytest.fixture(scope="session")
def ranks() -> Ranks:
    """Runs a function on many ranks in this process: `ranks(3, lambda communicator: ...)`; see `Ranks`."""
    return Ranks()


MPI_SECONDS = 300.0  # a safety net


class Mpiexec:
    """Starts `mpiexec -n SIZE python -W error ARGUMENTS`; nothing is raised where that fails."""

    def __init__(self, launcher: str) -> None:
        self._launcher = launcher

    def start(self, size: int, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
        """Return the launcher, whose output is piped; keywords are environment variables."""
        command = [self._launcher, "-n", str(size), sys.executable, "-W", "error", *map(str, arguments)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | variables,
        )  # fmt: skip

    def ended(self, process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
        """Wait for the end of a launcher, and return how it ended."""
        try:
            stdout, stderr = process.communicate(timeout=MPI_SECONDS)
        except BaseException:  # a time-out, or the tester's Ctrl-C
            process.kill()  # the launcher's own processes notice, and end the ranks
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def __call__(self, size: int, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run it, and return how it ended."""
        return self.ended(self.start(size, *arguments, **variables))


@pytest.fixture(scope="session")
def mpiexec() -> Mpiexec:
    """`mpiexec(2, "-m", "xpnn.nn.distributed", path)` runs Python on two processes; see `Mpiexec`."""
    launcher = shutil.which("mpiexec") or shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    if launcher is None:
        pytest.skip("mpiexec is not installed")
    return Mpiexec(launcher)


class Aborted(SystemExit):
    """The job was ended with an exit code."""


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`as_rank(1)` makes this process rank 1 of 2, where `MPI_Abort(code)` raises `Aborted(code)`."""
    module = importlib.import_module("xpnn.nn.distributed.world")

    def abort(code: int) -> None:
        raise Aborted(code)

    def be(rank: int) -> None:
        monkeypatch.setattr(module, "_world", SimpleNamespace(rank=rank, size=2))
        monkeypatch.setattr(module, "OTHERS_WAIT_SECONDS", 0.0)
        mpi = SimpleNamespace(COMM_WORLD=SimpleNamespace(Abort=abort), Is_finalized=lambda: False)
        monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi))

    return be

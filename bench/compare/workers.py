"""Worker processes of the contestants, from the parent's side."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...backends import ConfigError, RunError
from ...backends.machine import usable_core_numbers, usable_cores
from .worker import serve

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # JAX's
)
WAIT_SECONDS = 1200.0  # after which a worker that does not answer counts as hung


class WorkerFailed(RunError):  # noqa: N818 - it states what happened, as the errors beside it do
    """A command of a contestant failed; the message has the reason."""


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Context manager: processes started inside have `threads` processors and as many threads.

    Raises:
        ConfigError: this process has fewer processors.
    """
    if not 1 <= threads <= usable_cores():
        raise ConfigError(f"threads must be in [1, {usable_cores()}], the processors that there are, got {threads}")
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    processors = usable_core_numbers()
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(processors)[:threads])
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, processors)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


class Worker:
    """Process of a contestant on so many processors and threads, restarted by the next call after its death."""

    def __init__(self, name: str, *, threads: int, device: str = "cuda") -> None:
        self.name, self.threads, self.device = name, threads, device
        self.load_seconds = 0.0
        self.pools: list[dict[str, Any]] = []  # the thread pools of its libraries
        self._process: Any = None
        self._loaded: object = None

    def start(self) -> None:
        """Start the process without waiting for it."""
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        self._loaded = None
        with limited_to(self.threads):
            self._process = context.Process(target=serve, args=(child,), name=self.name, daemon=True)
            self._process.start()
        child.close()  # so that the end of the process is the end of the pipe
        self._connection.send(("start", (self.name, self.device)))
        self._greeted = False

    def greet(self) -> None:
        """Wait until the contestant is loaded.

        Raises:
            WorkerFailed: it is not available; the message has the reason and the fix.
        """
        if self._process is None:
            self.start()
        if not self._greeted:
            self.load_seconds, self.pools = self._receive()
            self._greeted = True

    def load(self, data: object) -> None:
        """Send a data set, unless it already has it."""
        self.greet()
        if self._loaded is not data:
            self.ask("load", data)
            self._loaded = data

    def ask(self, method: str, *arguments: object) -> Any:
        """Call a method of `Stage` and return the result.

        Raises:
            WorkerFailed: the method raised an error, or the process died or hangs.
        """
        self.greet()
        try:
            self._connection.send((method, arguments))
        except OSError as error:
            raise self._dead() from error
        return self._receive()

    def stop(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._connection.close()
            self._process.terminate()
            self._process.join()
            self._process = None

    def _receive(self) -> Any:
        try:
            if not self._connection.poll(WAIT_SECONDS):
                self.stop()
                raise WorkerFailed(f"it has not answered for {WAIT_SECONDS:g} s and was ended")
            succeeded, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._dead() from error
        if not succeeded:
            if not self._greeted:
                self.stop()
            raise WorkerFailed(answer)
        return answer

    def _dead(self) -> WorkerFailed:
        """Clean up after a dead process, and return an error with its exit status."""
        self._process.join(10)
        code = self._process.exitcode
        self.stop()
        return WorkerFailed(f"its process ended with exit code {code}" + (", out of memory?" if code == -9 else ""))


@contextmanager
def started(
    names: tuple[str, ...], *, threads: int, device: str = "cuda"
) -> Iterator[tuple[list[Worker], dict[str, str]]]:
    """Context manager: start the processes of the contestants, and stop them at the end.

    Yields the available ones, and the reason for each of the others. The device is that of GPU peers; "cpu" tests them.
    """
    workers = [Worker(name, threads=threads, device=device) for name in names]
    missing: dict[str, str] = {}
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            try:
                worker.greet()
            except WorkerFailed as failure:
                missing[worker.name] = str(failure)
        yield [worker for worker in workers if worker.name not in missing], missing
    finally:
        for worker in workers:
            worker.stop()

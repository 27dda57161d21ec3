"""Process of a contestant, which runs and times commands received over a pipe."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ...backends import XpnnError
from ...nn import Dataset
from .contestant import Contestant, Orders, Task
from .contestants import load_contestant

QUIET_SECONDS, QUIET_SHARE = 0.01, 0.2  # a process is quiet if it uses less than this share of a core for so long
LONGEST_WAIT = 1.0  # seconds
PRODUCT_SIZE, PRODUCTS = 2048, 5


class Stage:
    """A contestant and its data; each public method is a command of the parent."""

    def __init__(self) -> None:
        self._data: Any = None
        self._contestant: Any = None

    def start(self, name: str, device: str = "cuda") -> tuple[float, list[dict[str, Any]]]:
        """Load a contestant; return seconds (imports, and on a GPU context and a first kernel) and thread pools."""
        started = time.perf_counter()
        self._make = load_contestant(name, device)
        return time.perf_counter() - started, thread_pools()

    def load(self, data: Dataset) -> None:
        """Store the rows for the next tasks, outside the timing."""
        self._contestant = None
        self._data = data

    def prepare(self, task: Task) -> dict[str, Any]:
        """Create the contestant; return the seconds to place the data and to compile ahead of time.

        Also `compiles`, whether the first turn may compile, and `plan`, the contestant's description.
        """
        self._contestant = None  # let go of the last one's memory first
        contestant = self._make(task)
        started = time.perf_counter()
        contestant.place(self._data)
        contestant.synchronize()
        placed = time.perf_counter()
        contestant.compile()
        contestant.synchronize()
        self._contestant = contestant
        seconds = {"transfer_seconds": placed - started, "compile_seconds": time.perf_counter() - placed}
        return {**seconds, "compiles": contestant.compiles, "plan": contestant.description}

    def product_rate(self) -> float:
        """Return the floating-point operations a second of NumPy's float32 product of large matrices, the fastest."""
        matrix = np.ones((PRODUCT_SIZE, PRODUCT_SIZE), dtype=np.float32)
        seconds = []
        for _ in range(PRODUCTS):
            started = time.perf_counter()
            _ = matrix @ matrix
            seconds.append(time.perf_counter() - started)
        wait_until_quiet()
        return 2 * PRODUCT_SIZE**3 / min(seconds)

    def run_epochs(self, orders: Orders) -> dict[str, float]:
        """Train for a turn; return its seconds and the mean loss of its first epoch."""
        self._contestant.take_orders(orders)
        loss, seconds = _timed(self._contestant, self._contestant.run_epochs)
        return {"seconds": seconds, "loss": float(loss)}

    def predict(self) -> dict[str, float]:
        """Classify all test rows; return the seconds and the accuracy."""
        classes, seconds = _timed(self._contestant, self._contestant.predict)
        return {"seconds": seconds, "accuracy": float(np.mean(classes == self._data.test.labels))}


def serve(connection: Connection) -> None:
    """Run commands `(method, arguments)` of `Stage` until the pipe is closed; the first is `start`.

    Every answer is `(True, result)`, or `(False, message)` after a failure, with the last line of the error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    stage = Stage()
    with connection, suppress(EOFError):
        while True:
            method, arguments = connection.recv()
            try:
                answer = (True, getattr(stage, method)(*arguments))
            except XpnnError as error:
                answer = (False, str(error))
            except Exception as error:
                answer = (False, " ".join("".join(traceback.format_exception_only(error)).split())[:500])
            connection.send(answer)


def _timed(contestant: Contestant, work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a contestant's method, and its seconds including device work."""
    contestant.synchronize()
    started = time.perf_counter()
    result = work()
    contestant.synchronize()
    seconds = time.perf_counter() - started
    wait_until_quiet()
    return result, seconds


def wait_until_quiet() -> None:
    """Wait until idle threads of this process sleep, so that they do not slow down the next process.

    OpenBLAS's threads spin for about 0.1 s after their work, which halves the speed of another process on two
    processors.
    """
    deadline = time.perf_counter() + LONGEST_WAIT
    while time.perf_counter() < deadline:
        used = time.process_time()  # of all threads
        time.sleep(QUIET_SECONDS)
        if time.process_time() - used < QUIET_SHARE * QUIET_SECONDS:
            return


def thread_pools() -> list[dict[str, Any]]:
    """Return the loaded BLAS and OpenMP libraries, with versions and threads."""
    from threadpoolctl import threadpool_info

    wanted = ("user_api", "internal_api", "version", "num_threads", "architecture")
    return [{key: pool[key] for key in wanted if key in pool} for pool in threadpool_info()]

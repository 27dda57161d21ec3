"""A team of threads that goes through one kernel side by side and waits for each other inside it.

The threads are the operating system's own, started once and kept; kernels let go of the interpreter's lock. No
threading layer of Numba takes part: what it gives differs from machine to machine, and its start and end cost more
than a step of a small network.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types

from ...machine import usable_cores
from .compile import inner_kernel
from .lane_types import compiled_as, element_address

# How often a waiting thread looks before it offers its core to others: some 20 us, longer than a step's imbalance.
SPINS = 2000

# Where the counters lie in `Side.sync`: on cache lines of their own, 128 bytes apart.
ARRIVED, ROUND, SYNC_SIZE = 0, 16, 32


class Side(NamedTuple):
    """One thread's place in its team.

    Attributes:
        me: its number, from 0.
        threads: how many there are.
        sync: what the team waits by, (SYNC_SIZE,) int64.
    """

    me: int
    threads: int
    sync: Any


ALONE = Side(0, 1, np.zeros(SYNC_SIZE, dtype=np.int64))  # nobody to wait for


def usable_threads() -> int:
    """Return how many threads can run at once: the cores of this process, its container's share, Numba's own limit."""
    if config.DISABLE_JIT:  # plain Python has no operation that no other thread can see half of
        return 1
    return max(1, min(usable_cores(), _container_cores(Path("/sys/fs/cgroup/cpu.max")), config.NUMBA_NUM_THREADS))


def _container_cores(path: Path) -> int:
    """Return how many cores' time a Linux control group may use; many where there is no such limit."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 16


class Assignment(NamedTuple):
    """What a thread is to do, and where it says how that ended: with an error, or None."""

    action: Callable[[], Any]
    outcomes: SimpleQueue[BaseException | None]


def new_worker() -> SimpleQueue[Assignment | None]:
    """Start a thread, and return the queue out of which it takes its tasks, until there is a None."""
    tasks: SimpleQueue[Assignment | None] = SimpleQueue()
    threading.Thread(target=_work, args=(tasks,), name="xpnn", daemon=True).start()
    return tasks


def _work(tasks: SimpleQueue[Assignment | None]) -> None:
    """Do the tasks, and say of each how it ended."""
    while (task := tasks.get()) is not None:
        try:
            task.action()
        except BaseException as error:
            task.outcomes.put(error)
        else:
            task.outcomes.put(None)
        del task  # the arrays that it works on


def _dismiss(workers: list[SimpleQueue[Assignment | None]]) -> None:
    """Let the threads end."""
    for worker in workers:
        worker.put(None)


def _cores_but_this() -> set[int]:
    """Return the cores that the caller may use but does not run on; none where the system does not say."""
    try:
        return os.sched_getaffinity(0) - {_c_library().sched_getcpu()}
    except (AttributeError, OSError, TypeError):  # not Linux
        return set()


@cache
def _c_library() -> ctypes.CDLL:
    """Return what the process has loaded of the C library."""
    return ctypes.CDLL(None)


def _move(cores: set[int]) -> None:
    """Have this thread go on on one of `cores`, and leave it free again.

    A thread is woken on the core of the one that woke it. Both wait in turns there, and it can take the system tenths
    of a second to see that another core is idle.
    """
    if not cores:
        return
    with suppress(OSError):  # where the system lets no thread choose, the run is slower at first
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(0, allowed)


class Team:
    """Threads that run a kernel together.

    Attributes:
        threads: how many, the caller among them; fewer than asked for if the system gives no more.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pid = 0
        self._workers: list[SimpleQueue[Assignment | None]] = []
        self._lock = threading.Lock()

    def run(self, kernel: Callable[..., Any], *args: Any) -> None:
        """Call `kernel(side, *args)` on every thread, and return when all have ended; callers wait for their turn."""
        if self._pid not in (0, os.getpid()):  # a forked child, which has none of the threads, nor the lock's holder
            self._lock = threading.Lock()
        with self._lock:
            if self._pid != os.getpid():
                self._start()
            try:
                self._run(kernel, *args)
            except KeyboardInterrupt:  # the threads may be at work yet
                _dismiss(self._workers)
                self._pid = 0
                raise

    def _run(self, kernel: Callable[..., Any], *args: Any) -> None:
        """See `run`; the threads are there, and nobody else uses them."""
        sync = np.zeros(SYNC_SIZE, dtype=np.int64)
        if not self._workers:
            kernel(Side(0, 1, sync), *args)
            return
        outcomes, elsewhere = SimpleQueue[BaseException | None](), _cores_but_this()
        for me, worker in enumerate(self._workers, start=1):
            worker.put(Assignment(partial(_move, elsewhere), outcomes))
            worker.put(Assignment(partial(kernel, Side(me, self.threads, sync), *args), outcomes))
        try:
            kernel(Side(0, self.threads, sync), *args)
        finally:
            errors = [outcomes.get() for _ in range(2 * len(self._workers))]
        for error in errors:
            if error is not None:
                raise error

    def _start(self) -> None:
        """Start the threads, all before any work: half a team would wait in a kernel for ever."""
        self._pid, self._workers = os.getpid(), []
        try:
            for _ in range(1, self.threads):
                self._workers.append(new_worker())
        except RuntimeError:  # the system gives no more threads
            self.threads = len(self._workers) + 1
        weakref.finalize(self, _dismiss, self._workers)


def fetch_add(array: Any, at: int, number: int) -> int:
    """Add to an element of an int64 array in one step that no thread can see half of; return what was there."""
    before = int(array[at])
    array[at] += number
    return before


@compiled_as(fetch_add, lambda array, at, number: types.int64)
def _fetch_add(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number = context.cast(builder, args[2], sig.args[2], types.int64)
    return builder.atomic_rmw("add", element_address(context, builder, sig.args, args), number, "acq_rel")


def fetch(array: Any, at: int) -> int:
    """Read an element of an int64 array; what its writer wrote before it can then be seen."""
    return int(array[at])


@compiled_as(fetch, lambda array, at: types.int64)
def _fetch(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load_atomic(element_address(context, builder, sig.args, args), "acquire", 8)


def publish(array: Any, at: int, number: int) -> None:
    """Write an element of an int64 array, after all that this thread wrote before."""
    array[at] = number


@compiled_as(publish, lambda array, at, number: types.none)
def _publish(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number = context.cast(builder, args[2], sig.args[2], types.int64)
    builder.store_atomic(number, element_address(context, builder, sig.args, args), "release", 8)
    return context.get_dummy_value()


def give_way() -> None:
    """Let the system run another thread on this core."""


@compiled_as(give_way, lambda: types.none)
def _give_way(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    name = "SwitchToThread" if os.name == "nt" else "sched_yield"
    function_type = ir.FunctionType(ir.IntType(32), [])
    builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), [])
    return context.get_dummy_value()


@inner_kernel
def wait_for_all(side: Side) -> None:
    """Return when every thread of the team has come here; what each wrote before, all can read after."""
    if side.threads == 1:
        return
    now = fetch(side.sync, ROUND)
    if fetch_add(side.sync, ARRIVED, 1) == side.threads - 1:
        publish(side.sync, ARRIVED, 0)
        publish(side.sync, ROUND, now + 1)
        return
    looks = 0
    while fetch(side.sync, ROUND) == now:
        looks += 1
        if looks > SPINS:
            give_way()


@inner_kernel
def share(side: Side, count: int, unit: int) -> tuple[int, int]:
    """Return this thread's part, from and to, of `count` things that are dealt out in whole `unit`s."""
    units = -(-count // unit)
    return min(units * side.me // side.threads * unit, count), min(units * (side.me + 1) // side.threads * unit, count)

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
from enum import Enum
from functools import cache, partial
from operator import call
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types

from ...machine import even_cores, usable_core_numbers
from ...threads import thread_limit
from .compile import entry_of, inner_kernel
from .lane_types import compiled_as, element_address
from .start import start_threads

# How often a waiting thread looks before it offers its core to others: some 20 us, longer than a step's imbalance.
SPINS = 2000

# Where the counters lie in `Side.sync`, on cache lines of their own, 128 bytes apart: threads that have arrived at the
# present wait, and waits that are over.
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
    """Return how many threads can run at once: the least of cores, container's share and limits of Numba and xpnn."""
    if config.DISABLE_JIT:  # plain Python has no operation that no other thread can see half of
        return 1
    cores = min(even_cores(), _container_cores(Path("/sys/fs/cgroup/cpu.max")), config.NUMBA_NUM_THREADS)
    return max(1, thread_limit(cores))


def _container_cores(path: Path) -> int:
    """Return how many cores' time a Linux control group may use; many where there is no such limit."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 16


class Task(NamedTuple):
    """One thread's part of a run.

    Attributes:
        action: what it calls.
        cores: on which of them it is to begin; see `_move`.
        outcomes: where it puts the error that `action` raised, or None.
    """

    action: Callable[[], Any]
    cores: set[int]
    outcomes: SimpleQueue[BaseException | None]


class Worker(NamedTuple):
    """A thread that is kept, and the queue out of which it takes its tasks, until there is a None."""

    thread: threading.Thread
    tasks: SimpleQueue[Task | None]


def new_worker() -> Worker:
    """Return a worker whose thread is not started."""
    tasks: SimpleQueue[Task | None] = SimpleQueue()
    return Worker(threading.Thread(target=_work, args=(tasks,), name="xpnn", daemon=True), tasks)


def _work(tasks: SimpleQueue[Task | None]) -> None:
    """Do the tasks, and say of each how it ended."""
    while (task := tasks.get()) is not None:
        try:
            _move(task.cores)
            task.action()
        except BaseException as error:
            task.outcomes.put(error)
        else:
            task.outcomes.put(None)
        del task  # the arrays that it works on


def _dismiss(workers: list[Worker]) -> None:
    """Let the threads end, each after the tasks that it has."""
    for worker in workers:
        worker.tasks.put(None)


def _cores_but_this() -> set[int]:
    """Return the cores that the caller may use but does not run on; none where the system does not say."""
    try:
        return usable_core_numbers() - {_c_library().sched_getcpu()}
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
    if not cores or not hasattr(os, "sched_setaffinity"):
        return
    with suppress(Exception):  # where the system lets no thread choose, the run is slower at first
        allowed = usable_core_numbers()
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(0, allowed)


class State(Enum):
    """State of a team's workers, between any two bytecodes of the caller."""

    ABSENT = "not started, or to be dismissed"
    READY = "complete, and idle"
    AT_WORK = "with tasks, or about to get some"


class Team:
    """Threads that run a kernel together.

    The caller is interrupted between any two of its bytecodes: by Ctrl-C, or an error of a signal handler. So the team
    is a machine of three states, and each arrow is one bytecode, an assignment to `_state`::

                 all are started          a caller has its turn
        ABSENT ------------------> READY ------------------------> AT_WORK
          ^                          ^                                | |
          |                          |   every worker's outcome came  | |
          |                          +--------------------------------+ |
          |                                     an exception            |
          +-------------------------------------------------------------+

    Nothing is counted, so nothing can be miscounted: workers are used only when READY, which a start that was
    interrupted never says. In AT_WORK all tasks are handed out and the caller's own part is done in one call of C,
    which no exception divides: either no worker has a task, or all have one and the caller takes its part, so that
    nobody waits inside the kernel for one that does not come. Whatever ends a run before its last outcome dismisses the
    workers and waits for their end; the next run starts others.

    Attributes:
        threads: how many, the caller among them; fewer than asked for if the system gives no more.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._state = State.ABSENT
        self._workers: list[Worker] = []
        self._turn = threading.RLock()  # of one caller at a time; it knows its holder
        self._pid = os.getpid()
        weakref.finalize(self, _dismiss, self._workers)

    def run(self, kernel: Callable[..., Any], *args: Any, threads: int | None = None) -> None:
        """Call `kernel(side, *args)` on every thread, and return when all have ended; callers wait for their turn.

        Of a plain Python function the parts must not wait for each other. After an exception the arrays that were
        written to are in no known state.

        Args:
            kernel: the function.
            args: its arguments.
            threads: maximum number of threads that take part; None for all.

        Returns:
            Share of waits that took more than `SPINS` looks.
        """
        if self._pid != os.getpid():
            self._forget()
        turn, most = self._turn, threads or self.threads
        is_alone = min(most, self.threads) == 1 or _holds(turn)  # in a run of its own already, as in a signal's handler
        side = Side(0, 1, np.zeros(SYNC_SIZE, dtype=np.int64))
        kernel = entry_of(kernel, side, *args)  # before others wait for this thread
        if is_alone:
            kernel(side, *args)
            return
        try:
            try:
                turn.acquire()
                if self._state is not State.READY:
                    self._start()
                self._state = State.AT_WORK
                errors = self._call(kernel, args, side.sync, min(most, self.threads))  # a start may have lowered it
                self._state = State.READY
            finally:
                self._end_turn(turn)
        finally:  # if the first was interrupted
            self._end_turn(turn)
        for error in errors:
            if error is not None:
                raise error

    def _end_turn(self, turn: Any) -> None:
        """Give up the turn, if this thread has it, and workers that are not known to be idle."""
        if _holds(turn):
            if self._state is not State.READY:
                self._let_go()
            turn.release()

    def _start(self) -> None:
        """Start the workers, all before any work: half a team would wait in a kernel for ever."""
        self._let_go()
        self._workers += [new_worker() for _ in range(1, self.threads)]  # before their start: sure to be dismissed
        started = start_threads([worker.thread for worker in self._workers])
        del self._workers[started:]
        self.threads = started + 1
        self._state = State.READY

    def _let_go(self) -> None:
        """Dismiss the workers, and wait until they have ended."""
        self._state = State.ABSENT
        _dismiss(self._workers)
        for thread, _ in self._workers:
            if thread.is_alive():
                thread.join()
        self._workers.clear()

    def _forget(self) -> None:
        """Begin anew in a forked child, which has none of the threads, nor the turn's holder."""
        self._state = State.ABSENT
        self._workers.clear()
        self._turn = threading.RLock()
        self._pid = os.getpid()

    def _call(self, kernel: Callable[..., Any], args: Any, sync: Any, threads: int) -> list[BaseException | None]:
        """Call the kernel on the first `threads` threads, and return the workers' outcomes."""
        outcomes, elsewhere = SimpleQueue[BaseException | None](), _cores_but_this()
        own, *others = (partial(kernel, Side(me, threads, sync), *args) for me in range(threads))
        tasks = [Task(action, elsewhere, outcomes) for action in others]
        calls = [*(partial(worker.tasks.put, task) for worker, task in zip(self._workers, tasks, strict=False)), own]
        list(map(call, calls))  # in one call of C: no exception comes between two of them
        return [outcomes.get() for _ in tasks]


def _holds(turn: Any) -> bool:
    """Whether this thread has the lock, an RLock."""
    return bool(turn._is_owned())  # as `threading.Condition` asks


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

"""Start of threads by a caller that may be interrupted meanwhile."""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread


def start_threads(threads: Sequence[Thread]) -> int:
    """Start threads, and return how many of them the system gave: the first ones.

    An interrupt inside `Thread.start` can leave a lock of the standard library locked for ever. So another thread calls
    it, since KeyboardInterrupt is raised on the main one; its own start is one call of C. All threads are started also
    if the caller is interrupted.
    """
    started: SimpleQueue[int] = SimpleQueue()
    try:
        start_new_thread(_start, (threads, started))
    except RuntimeError:  # the system gives none
        return 0
    return started.get()


def _start(threads: Sequence[Thread], started: SimpleQueue[int]) -> None:
    """Start the threads, and put how many the system gave."""
    number = 0
    try:
        with suppress(RuntimeError):  # the system gives no more
            for thread in threads:
                thread.start()
                number += 1
    finally:
        started.put(number)

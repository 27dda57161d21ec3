"""Context managers that limit the threads of BLAS and Numba."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController, threadpool_limits

VARIABLE = "NUMBA_NUM_THREADS"  # Numba reads it when it is imported


class _OneThread:
    """Limit shared by all open `one_blas_thread` blocks: set by the first, removed by the last."""

    lock, blocks, limit = threading.Lock(), 0, ExitStack()


@cache
def _controller() -> ThreadpoolController:
    """Return the controller of the loaded BLAS libraries, cached because the search takes milliseconds."""
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Context manager: limit BLAS to one thread in this process; blocks may nest and overlap across threads.

    After a product, the other BLAS threads spin for tens of milliseconds and compete with the code that follows.
    """
    with _OneThread.lock:
        if not _OneThread.blocks:
            _OneThread.limit.enter_context(_controller().limit(limits=1, user_api="blas"))
        _OneThread.blocks += 1
    try:
        yield
    finally:
        with _OneThread.lock:
            _OneThread.blocks -= 1
            if not _OneThread.blocks:
                _OneThread.limit.close()


@contextmanager
def at_most_threads(count: int | None) -> Iterator[None]:
    """Context manager: limit BLAS, and Numba backends made inside, to `count` threads; None changes nothing."""
    if count is None:
        yield
        return
    variable = os.environ.get(VARIABLE)
    numba = sys.modules.get("numba")
    before = None if numba is None else numba.config.NUMBA_NUM_THREADS
    os.environ[VARIABLE] = str(count)
    if numba is not None:  # it has read the variable already
        numba.config.NUMBA_NUM_THREADS = count
    try:
        with threadpool_limits(limits=count):
            yield
    finally:
        os.environ.pop(VARIABLE, None)
        if variable is not None:
            os.environ[VARIABLE] = variable
        if (numba := sys.modules.get("numba")) is not None:
            numba.config.NUMBA_NUM_THREADS = before or int(variable or numba.config.NUMBA_DEFAULT_NUM_THREADS)

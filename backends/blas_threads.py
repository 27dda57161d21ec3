"""One thread of BLAS for a while, in the whole process.

After a product its other threads look for more work for tens of milliseconds, on the cores of whatever runs next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


class Blocks:
    """The blocks in which BLAS has one thread, of all threads of Python.

    Attributes:
        lock: held while they change.
        count: how many there are now.
        limit: undoes the limit, when the last of them ends.
    """

    def __init__(self) -> None:
        self.lock, self.count, self.limit = threading.Lock(), 0, ExitStack()


_BLOCKS = Blocks()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Leave BLAS one thread inside this block, and until the last of several such blocks has ended."""
    with _BLOCKS.lock:
        if not _BLOCKS.count:
            _BLOCKS.limit.enter_context(_controller().limit(limits=1, user_api="blas"))
        _BLOCKS.count += 1
    try:
        yield
    finally:
        with _BLOCKS.lock:
            _BLOCKS.count -= 1
            if not _BLOCKS.count:
                _BLOCKS.limit.close()


@cache
def _controller() -> ThreadpoolController:
    """Return what sets the threads of the libraries that are loaded, NumPy's among them."""
    return ThreadpoolController()

"""One thread of BLAS for a while, in the whole process.

After a product its other threads look for more work for tens of milliseconds, on the cores of whatever runs next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

# Held by the thread that limits: two that did so at once could restore each other's limit.
_LOCK = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Leave BLAS one thread inside this block; nothing changes if another thread is in such a block already."""
    if not _LOCK.acquire(blocking=False):
        yield
        return
    try:
        with _controller().limit(limits=1, user_api="blas"):
            yield
    finally:
        _LOCK.release()


@cache
def _controller() -> ThreadpoolController:
    """Return what sets the threads of the libraries that are loaded, NumPy's among them."""
    return ThreadpoolController()

"""Context managers that limit the threads of BLAS and of Numba's teams.

The limit belongs to the process. Blocks may nest, and overlap across Python threads: of the open `at_most_threads`
blocks the last one decides.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


class _Open:
    """Limits of the open `at_most_threads` blocks, by block, those of `one_blas_thread`, and what restores BLAS."""

    lock, limits, ones, held, restore = threading.Lock(), dict[object, int](), dict[object, int](), 0, ExitStack()

    @classmethod
    def last(cls) -> list[int]:
        """Return the limit of the last open `at_most_threads` block, or nothing."""
        return list(cls.limits.values())[-1:]


@cache
def _controller() -> ThreadpoolController:
    """Return the controller of the loaded BLAS libraries, cached because the search takes milliseconds."""
    return ThreadpoolController()


def thread_limit(count: int) -> int:
    """Return `count`, or the limit of the last open `at_most_threads` block if that is less."""
    return min([count, *_Open.last()])


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Context manager: limit BLAS to one thread in this process.

    After a product, the other BLAS threads spin for tens of milliseconds and compete with the code that follows.
    """
    with _opened(_Open.ones, 1):
        yield


@contextmanager
def at_most_threads(count: int | None) -> Iterator[None]:
    """Context manager: limit BLAS, and Numba backends and plans made inside, to `count` threads; None: no limit."""
    if count is None:
        yield
        return
    with _opened(_Open.limits, count):
        yield


@contextmanager
def _opened(limits: dict[object, int], count: int) -> Iterator[None]:
    """Context manager: add a limit to `limits`, and remove it at the end."""
    block = object()
    with _Open.lock:
        limits[block] = count
        _limit_blas()
    try:
        yield
    finally:
        with _Open.lock:
            del limits[block]
            _limit_blas()


def _limit_blas() -> None:
    """Limit BLAS as the open blocks require; without any, restore its number of threads."""
    [limit, *_] = [*_Open.ones.values(), *_Open.last(), 0]
    if limit != _Open.held:
        _Open.restore.close()
        if limit:
            _Open.restore.enter_context(_controller().limit(limits=limit, user_api="blas"))
        _Open.held = limit

"""At most so many threads of Numba and BLAS for the computations of a block."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "NUMBA_NUM_THREADS"  # which Numba reads when it is imported


@contextmanager
def at_most_threads(count: int | None) -> Iterator[None]:
    """Give the backends that are made inside this block, and BLAS, at most `count` threads; None changes nothing."""
    if count is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(count)
    limit = None
    if (numba := sys.modules.get("numba")) is not None:  # it has read the variable already
        limit, numba.config.NUMBA_NUM_THREADS = numba.config.NUMBA_NUM_THREADS, count
    try:
        with threadpool_limits(limits=count):
            yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        if (numba := sys.modules.get("numba")) is not None:
            numba.config.NUMBA_NUM_THREADS = limit or numba.config.NUMBA_DEFAULT_NUM_THREADS

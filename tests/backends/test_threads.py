"""The limit of BLAS's threads."""

from types import SimpleNamespace

import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from xpnn.backends.threads import at_most_threads, one_blas_thread, thread_limit


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_has_one_thread_until_the_last_of_overlapping_blocks_ends():
    with threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)  # as it may end in another thread before the second one does
        assert blas_threads() == {1} != before
        second.__exit__(None, None, None)
        assert blas_threads() == before


def test_the_last_open_limit_holds_and_one_thread_of_blas_goes_before():
    with threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        outer, inner = at_most_threads(2), at_most_threads(1)
        outer.__enter__()
        assert (blas_threads(), thread_limit(8), thread_limit(1)) == ({min(2, *before)}, 2, 1)
        inner.__enter__()
        outer.__exit__(None, None, None)  # as it may end in another thread first
        assert (blas_threads(), thread_limit(8)) == ({1}, 1)
        inner.__exit__(None, None, None)
        blocks = [at_most_threads(count) for count in (2, 1, 2)]
        for block in blocks:
            block.__enter__()
        blocks.pop().__exit__(None, None, None)
        assert thread_limit(8) == 1  # of two equal limits, that of the block ends
        for block in reversed(blocks):
            block.__exit__(None, None, None)
        with at_most_threads(None):
            assert (blas_threads(), thread_limit(8)) == (before, 8)
        with one_blas_thread(), at_most_threads(2):
            assert (blas_threads(), thread_limit(8)) == ({1}, 2)
        assert (blas_threads(), thread_limit(8)) == (before, 8)


def test_a_team_of_numba_is_limited(monkeypatch):
    team = pytest.importorskip("xpnn.backends.numba.compiler.team")
    monkeypatch.setattr(team, "config", SimpleNamespace(DISABLE_JIT=False, NUMBA_NUM_THREADS=8))
    monkeypatch.setattr(team, "even_cores", lambda: 8)
    monkeypatch.setattr(team, "_container_cores", lambda path: 8)  # noqa: ARG005
    assert team.usable_threads() == 8
    with at_most_threads(3):
        assert team.usable_threads() == 3

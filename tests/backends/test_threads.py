"""The limit of BLAS's threads."""

from threadpoolctl import threadpool_info, threadpool_limits
from xpnn.backends.threads import one_blas_thread


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

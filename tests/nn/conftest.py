"""Fixtures of nn's tests: NumPy stands for all backends, but for what is promised of each: `every_backend`."""

import pytest
from xpnn.backends import Backend, get_backend


@pytest.fixture
def backend() -> Backend:
    """NumPy's backend: that the others compute the same is what the tests of `backends` prove."""
    return get_backend("numpy")

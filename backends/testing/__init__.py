"""Contract of backends, as named checks and as a pytest plugin.

>>> from xpnn.backends import get_backend
>>> from xpnn.backends.testing import check_backend
>>> for name, check in check_backend(get_backend("numpy")):
...     check()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..base import Backend
    from .problem import Check

__all__ = ["check_backend", "contract"]


def contract() -> tuple[Check, ...]:
    """Return the checks, the most fundamental first."""
    from . import arrays, operations, plans, problem  # noqa: F401  # here, since every pytest loads the plugin beside it

    return tuple(problem.CHECKS)


def check_backend(backend: Backend) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield each check with its name, which begins with the operations under test.

    A check takes no arguments and raises an AssertionError if the backend differs from the generic arithmetic over
    NumPy. It leaves the backend unchanged, and does not need pytest.
    """
    for check in contract():
        yield check.name, partial(check, backend)

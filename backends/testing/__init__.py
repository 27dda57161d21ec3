"""The contract that every backend keeps, as named checks and as a pytest plugin.

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
    """Return the checks, those first that are about what others build on."""
    from . import arrays, operations, plans, problem  # noqa: F401  # here, since every pytest loads the plugin beside it

    return tuple(problem.CHECKS)


def check_backend(backend: Backend) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the name of each check, which begins with the operations that it is about, and the check.

    A check takes no arguments, and raises an AssertionError where the backend does something other than the generic
    arithmetic over NumPy. It needs no pytest.

    Args:
        backend: what is checked; each check leaves it as it was.
    """
    for check in contract():
        yield check.name, partial(check, backend)

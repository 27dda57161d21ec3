"""The contract as tests: `pytest --pyargs xpnn.backends.testing --backend NAME`."""

from __future__ import annotations

import pytest

from ..base import Backend
from . import contract
from .plugin import backend_reasons
from .problem import Check


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize each test with its backends or checks."""
    if "reason" in metafunc.fixturenames:
        reasons = backend_reasons(metafunc.config)
        metafunc.parametrize("reason", reasons.values(), ids=reasons.keys())
    if "check" in metafunc.fixturenames:
        metafunc.parametrize("check", contract(), ids=lambda check: check.name)


def test_available(reason: str) -> None:
    """Skip each unavailable backend once, with its reason."""
    if reason:
        pytest.skip(reason)


def test_contract(backend: Backend, check: Check) -> None:
    """Run each check on each backend."""
    check(backend)

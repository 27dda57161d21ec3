"""Pytest plugin: the fixture `backend` over available backends, and the option `--backend NAME`.

Pytest loads it wherever xpnn is installed, so no backend is started before a test that uses one is collected.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..base import Backend

HERE = Path(__file__).parent
PARAMETER = "xpnn_backend"  # a name of its own: a fixture `backend` of somebody else's is left alone
MORE_BACKENDS = pytest.StashKey[dict[str, str]]()  # what a conftest.py has besides the registered ones, with reasons
_REASONS = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--backend`."""
    text = "test this backend of xpnn; may be repeated (default: every registered one that works here)"
    parser.addoption("--backend", metavar="NAME", action="append", default=[], help=text)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Fail if a backend named by `--backend` is unavailable: skipping would look like a pass."""
    for name in config.getoption("backend"):
        if reason := backend_reasons(config)[name]:
            raise pytest.UsageError(f"--backend {name}: {reason}")


def backend_reasons(config: pytest.Config) -> dict[str, str]:
    """Return the requested backends with the reason why each is unavailable; empty if it is available.

    Raises:
        pytest.UsageError: `--backend` names an unregistered backend.
    """
    if _REASONS not in config.stash:  # to start them takes seconds
        from ..registry import registered_backends, why_unavailable

        more = config.stash.get(MORE_BACKENDS, {})
        known = [*registered_backends(), *more]
        named = config.getoption("backend") or known
        if unknown := [name for name in named if name not in known]:
            raise pytest.UsageError(f"--backend must be one of {', '.join(known)}, got {unknown[0]!r}")
        reasons = {name: more[name] if name in more else why_unavailable(name) for name in named}
        config.stash[_REASONS] = reasons
    return config.stash[_REASONS]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize `backend` with the available backends."""
    if PARAMETER in metafunc.fixturenames:
        metafunc.parametrize(PARAMETER, [name for name, why in backend_reasons(metafunc.config).items() if not why])


@pytest.fixture
def backend(xpnn_backend: str) -> Backend:
    """Each available backend, or those named by `--backend`; a new instance for every test.

    Arithmetic with its arrays belongs inside `backend.scope()`.
    """
    from ..registry import get_backend

    return get_backend(xpnn_backend)


# The modules of this package are imported by their full name, whatever pytest would make of the folders above.


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect folders as directories: as packages they would be imported again without `xpnn`."""
    return pytest.Dir.from_parent(parent, path=path) if path in (HERE, HERE.parent) else None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect this package's tests under their full name."""
    if module_path.parent != HERE:
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=module_path)
    module.obj = import_module(f"{__package__}.{module_path.stem}")
    return module

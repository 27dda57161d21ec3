"""Which backends there are, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from .base import Backend
from .errors import BackendUnavailable
from .lookup import look_up

ENTRY_POINT_GROUP = "xpnn.backends"

# name -> the module of this package and the class in it; nothing is imported before it is asked for
BUILTIN: dict[str, tuple[str, str]] = {
    "numpy": ("numpy_backend", "NumPyBackend"),
    "numba": ("numba_backend", "NumbaBackend"),
    "cupy": ("cupy_backend", "CuPyBackend"),
    "array-api-strict": ("array_api", "ArrayAPIStrictBackend"),
}

# What `auto` tries, the best first. The last one always works.
AUTO_ORDER = ("cupy", "numba", "numpy")

# A job of fewer multiply-adds than this is done on NumPy: at the 10^10 a second or more that BLAS gives on one core, it
# is over before another backend has compiled.
SMALL_JOB = 2e10


def registered_backends() -> dict[str, Callable[[], Backend]]:
    """Return every backend that this installation knows, by name: its own, and those of the entry points.

    A package registers a backend by an entry point in the group `xpnn.backends` that names a `Backend` subclass, or a
    function, that takes no arguments. A built-in name cannot be taken over.
    """
    external = {point.name: partial(_load_external, point) for point in entry_points(group=ENTRY_POINT_GROUP)}
    builtin = {name: partial(_load_builtin, *place) for name, place in BUILTIN.items()}
    return {**external, **builtin}


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that work on this machine, in the order of registration."""
    return tuple(name for name in registered_backends() if not why_unavailable(name))


def why_unavailable(name: str) -> str:
    """Return why a registered backend cannot be had here, with the line that mends it; empty if it can."""
    try:
        get_backend(name)
    except BackendUnavailable as error:
        return str(error)
    return ""


def get_backend(name: str | Backend = "auto", *, multiply_adds: float | None = None) -> Backend:
    """Return a backend by name.

    `auto` takes cupy where a CUDA device really runs a kernel, else numba, else numpy; the choice's `reason` says why.

    Args:
        name: "auto", a registered name, or a backend, which is returned as it is.
        multiply_adds: size of the job that is to be done, if known; "auto" does a small one on numpy, since it would
            be over before another backend has compiled.

    Raises:
        BackendUnavailable: it is registered but cannot be had here; the message has the reason and the install line.
        ConfigError: there is no such backend.
    """
    if isinstance(name, Backend):
        return name
    if name == "auto":
        return _choose(multiply_adds)
    load = look_up("backend", name, registered_backends())
    try:
        return load()
    except BackendUnavailable:
        raise
    except Exception as error:
        raise BackendUnavailable(f"backend {name} failed to start: {type(error).__name__}: {error}") from error


def _choose(multiply_adds: float | None) -> Backend:
    """Return the first of `AUTO_ORDER` that works, with its reason."""
    if multiply_adds is not None and multiply_adds < SMALL_JOB:
        backend = get_backend("numpy")
        backend.reason = (
            f"a job of {multiply_adds:.1e} multiply-adds is small, below {SMALL_JOB:.0e}: no other backend need compile"
        )
        return backend
    passed_over = []
    for name in AUTO_ORDER:
        try:
            backend = get_backend(name)
        except BackendUnavailable as error:
            passed_over.append(str(error))
        else:
            backend.reason = "; ".join([f"the first of {', '.join(AUTO_ORDER)} that runs here", *passed_over])
            return backend
    raise BackendUnavailable("; ".join(passed_over))


def _load_external(point: EntryPoint) -> Backend:
    """Import another package's backend and make it."""
    backend: Backend = point.load()()
    return backend


def _load_builtin(module: str, kind: str) -> Backend:
    """Import one module of this package and make its backend."""
    backend: Backend = getattr(import_module(f".{module}", __package__), kind)()
    return backend

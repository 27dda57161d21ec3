"""Which backends there are, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import Backend
from .errors import BackendUnavailable
from .job_outline import Estimate, JobOutline
from .lookup import look_up

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "xpnn.backends"

# name -> the module of this package and the class in it; nothing is imported before it is asked for
BUILTIN: dict[str, tuple[str, str]] = {
    "numpy": ("numpy.backend", "NumPyBackend"),
    "numba": ("numba.backend", "NumbaBackend"),
    "cupy": ("cupy.backend", "CuPyBackend"),
    "torch": ("torch.backend", "TorchBackend"),
    "jax": ("jax.backend", "JaxBackend"),
    "array-api-strict": ("array_api", "ArrayAPIStrictBackend"),
}

# What `auto` tries, the best first where it knows nothing of the job. The last one always works.
AUTO_ORDER = ("cupy", "numba", "numpy")


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


def get_backend(name: str | Backend = "auto", *, job: JobOutline | None = None) -> Backend:
    """Return a backend by name.

    `auto` takes the backend that is expected to finish `job` first, its start and compilation counted. Without a job it
    takes cupy where a CUDA device really runs a kernel, else numba, else numpy. The choice's `reason` says why.

    Args:
        name: "auto", a registered name, or a backend, which is returned as it is.
        job: what is to be trained, if known; only "auto" asks.

    Raises:
        BackendUnavailable: it is registered but cannot be had here; the message has the reason and the install line.
        ConfigError: there is no such backend.
    """
    if isinstance(name, Backend):
        return name
    if name == "auto":
        return _choose(job)
    builtin = name in tuple(BUILTIN)  # a tuple takes what cannot be hashed
    load = partial(_load_builtin, *BUILTIN[name]) if builtin else look_up("backend", name, registered_backends())
    try:
        return load()
    except BackendUnavailable:
        raise
    except Exception as error:
        raise BackendUnavailable(f"backend {name} failed to start: {type(error).__name__}: {error}") from error


def entry_points(*, group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points in a group; the import takes 20 ms, so it waits for a name that is not ours."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=group))


def _choose(job: JobOutline | None) -> Backend:
    """Return the first backend that works, in the order of the time that it needs for the job, with its reason."""
    estimates: dict[str, Estimate] = {}
    if job is not None:
        from .choice import expected

        estimates = expected(job, {name: _class_of(*BUILTIN[name]) for name in AUTO_ORDER})
    passed_over: dict[str, str] = {}  # name -> why it cannot be had
    for name in estimates or AUTO_ORDER:
        try:
            backend = get_backend(name)
        except BackendUnavailable as error:
            passed_over[name] = str(error)
        else:
            others = [f"{other} {estimates[other]}" for other in estimates if other not in {name, *passed_over}]
            first = f"the first of {', '.join(AUTO_ORDER)} that runs here"
            why = ", ".join([str(estimates[name]), *others]) if estimates else first
            backend.reason = "; ".join([why, *passed_over.values()])
            return backend
    raise BackendUnavailable("; ".join(passed_over.values()))


def _load_external(point: EntryPoint) -> Backend:
    """Import another package's backend and make it."""
    backend: Backend = point.load()()
    return backend


def _load_builtin(module: str, kind: str) -> Backend:
    """Import one module of this package and make its backend."""
    backend: Backend = _class_of(module, kind)()
    return backend


def _class_of(module: str, kind: str) -> Any:
    """Import one module of this package, which loads no library yet, and return its backend's class."""
    return getattr(import_module(f".{module}", __package__), kind)

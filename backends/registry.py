"""Registry of backends, and selection by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from .base import Backend
from .choice import LEAST_MULTIPLY_ADDS, JobOutline, reason_for
from .errors import BackendUnavailable
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


def registered_backends() -> dict[str, Callable[[], Backend]]:
    """Return all registered backends by name: built-in ones and entry points.

    A package registers a backend by an entry point in the group `xpnn.backends` that names a `Backend` subclass, or a
    function, without arguments. Built-in names cannot be overridden.
    """
    external = {point.name: partial(_load_external, point) for point in entry_points(group=ENTRY_POINT_GROUP)}
    builtin = {name: partial(_load_builtin, *place) for name, place in BUILTIN.items()}
    return {**external, **builtin}


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that work on this machine, in the order of registration."""
    return tuple(name for name in registered_backends() if not why_unavailable(name))


def why_unavailable(name: str) -> str:
    """Return why a backend is not available here, with the install command; empty if it is."""
    try:
        get_backend(name)
    except BackendUnavailable as error:
        return str(error)
    return ""


def get_backend(name: str | Backend = "auto", *, job: JobOutline | None = None) -> Backend:
    """Return a backend by name.

    `auto` selects cupy from 3e13 multiply-adds if a CUDA device runs a kernel, numba from 5e11 if it compiles the job,
    else numpy; without a job, the first of cupy, numba and numpy that runs here. The choice depends only on the job and
    the installation, never on load, caches or timings, and is never another package's backend. Its `reason` has the
    figures.

    Args:
        name: "auto", a registered name, or a backend, which is returned unchanged.
        job: outline of the training, used by "auto".

    Raises:
        BackendUnavailable: it is not available here; the message has the reason and the install command.
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
    """Return the entry points of a group; imported lazily, since the import takes 20 ms."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=group))


def _choose(job: JobOutline | None) -> Backend:
    """Return the backend that `auto` selects for a job, with its reason."""
    passed_over: list[str] = []
    for name, least in LEAST_MULTIPLY_ADDS.items():
        if job is not None and job.multiply_adds < least:
            continue
        try:
            backend = get_backend(name)
        except BackendUnavailable as error:
            passed_over.append(str(error))
            continue
        if job is None or backend.suits(job):
            backend.reason = "; ".join([reason_for(name, job), *passed_over])
            return backend
        passed_over.append(f"{name} has no compiled plan for it")
    raise BackendUnavailable("; ".join(passed_over))


def _load_external(point: EntryPoint) -> Backend:
    """Import and create another package's backend, whose name is that of its entry point."""
    backend: Backend = point.load()()
    if (name := getattr(backend, "name", None)) != point.name:
        raise BackendUnavailable(f"backend {point.name} has the name {name!r}: set it to that of its entry point")
    return backend


def _load_builtin(module: str, kind: str) -> Backend:
    """Import and create a built-in backend."""
    backend: Backend = getattr(import_module(f".{module}", __package__), kind)()
    return backend

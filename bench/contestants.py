"""Who takes part: the peers, and each registered backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NamedTuple

from ..backends import MissingDependency, get_backend, look_up, registered_backends
from .contestant import Contestant, Task


class Peer(NamedTuple):
    """A program that is not xpnn: where its class stands, and what the tables call it."""

    module: str
    kind: str
    title: str


PEERS = {
    "script": Peer("script", "Script", "NumPy script"),
    "sklearn": Peer("sklearn_peer", "ScikitLearn", "scikit-learn"),
    "torch": Peer("torch_peer", "TorchEager", "PyTorch eager"),
    "torch-compile": Peer("torch_peer", "TorchCompiled", "torch.compile"),
    "jax": Peer("jax_peer", "Jax", "JAX"),
}
NOT_TIMED = {"array-api-strict"}  # it exists to be strict


def contestant_names() -> tuple[str, ...]:
    """Return the names of all contestants, whether they can be had here or not: the peers, then the backends."""
    return (*PEERS, *(name for name in registered_backends() if name not in NOT_TIMED and name not in PEERS))


def title_of(name: str) -> str:
    """Return what the tables call a contestant."""
    return PEERS[name].title if name in PEERS else f"xpnn {name}"


def load_contestant(name: str) -> Callable[[Task], Contestant]:
    """Import a contestant and return what makes it for a task.

    Raises:
        MissingDependency: a peer's package is not installed; the message gives the line that installs it.
        BackendUnavailable: a backend cannot be had here; likewise.
        ConfigError: there is no such contestant.
    """
    look_up("contestant", name, dict.fromkeys(contestant_names()))
    if name not in PEERS:
        from .backend_contestant import BackendContestant

        get_backend(name)
        return partial(BackendContestant, backend=name)
    try:
        module = import_module(f".peers.{PEERS[name].module}", __package__)
    except ImportError as error:
        raise MissingDependency(f'{name} needs {error.name}: pip install "xpnn[cli,bench]"') from error
    kind: Callable[[Task], Contestant] = getattr(module, PEERS[name].kind)
    return kind

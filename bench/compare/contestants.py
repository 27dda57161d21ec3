"""Those who take part: the peers, and each registered backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

from ...backends import MissingDependency, Plan, StepOptions, TrainingJob, get_backend, look_up, registered_backends
from ...backends.override import override
from ...nn import MLP, Dataset
from .contestant import Array, Contestant, Task


class Peer(NamedTuple):
    """A program that is not xpnn.

    Attributes:
        module: where its class stands.
        kind: the class.
        title: what the tables call it.
        options: what the class is given besides the task.
        rounds: whether products of float32 numbers are rounded further than float32; such a one is reported apart.
    """

    module: str
    kind: str
    title: str
    options: Mapping[str, Any] = MappingProxyType({})
    rounds: bool = False


PEERS = {
    "script": Peer("script", "Script", "NumPy script"),
    "sklearn": Peer("sklearn_peer", "ScikitLearn", "scikit-learn"),
    "torch": Peer("torch_peer", "TorchEager", "PyTorch eager"),
    "torch-compile": Peer("torch_peer", "TorchCompiled", "torch.compile"),
    "jax": Peer("jax_peer", "Jax", "JAX"),
}
GPU_PEERS = {
    "cupy-script": Peer("script", "CuPyScript", "CuPy script"),
    "torch-graph-1": Peer("torch_gpu", "TorchGraph", "PyTorch graph of 1 step", {"steps": 1}),
    "torch-graph-16": Peer("torch_gpu", "TorchGraph", "PyTorch graph of 16", {"steps": 16}),
    "torch-graph-epoch": Peer("torch_gpu", "TorchGraph", "PyTorch graph of epoch", {"steps": None}),
    "torch-graph-epoch-tf32": Peer(
        "torch_gpu", "TorchGraph", "PyTorch graph, TF32", {"steps": None, "tf32": True}, rounds=True
    ),
    "torch-max-autotune": Peer("torch_gpu", "TorchMaxAutotune", "torch max-autotune"),
    "jax-gpu": Peer("jax_peer", "Jax", "JAX on the GPU"),
    "jax-gpu-tf32": Peer("jax_peer", "Jax", "JAX on the GPU, TF32", {"tf32": True}, rounds=True),
}
ALL_PEERS = PEERS | GPU_PEERS
GPU_BACKENDS = ("cupy",)
NOT_TIMED = {"array-api-strict"}  # it exists to be strict


def contestant_names() -> tuple[str, ...]:
    """Return the names of those that take part by default, whether they can be had or not: peers, then backends."""
    return (*PEERS, *(name for name in registered_backends() if name not in NOT_TIMED and name not in ALL_PEERS))


def gpu_contestant_names() -> tuple[str, ...]:
    """Return the names of those that take part on a GPU: its peers, then the backends that compute there."""
    return (*GPU_PEERS, *GPU_BACKENDS)


def all_contestants() -> dict[str, None]:
    """Return every name, as a table to look them up in."""
    return dict.fromkeys((*contestant_names(), *gpu_contestant_names()))


def title_of(name: str) -> str:
    """Return what the tables call a contestant."""
    return ALL_PEERS[name].title if name in ALL_PEERS else f"xpnn {name}"


def load_contestant(name: str, device: str = "cuda") -> Callable[[Task], Contestant]:
    """Import a contestant, let it run something small where it computes, and return what makes it for a task.

    Args:
        name: the contestant's.
        device: of the peers on a GPU; "cpu" to test them, without a graph.

    Raises:
        MissingDependency: a peer's package or device is not there; the message says what to do.
        BackendUnavailable: a backend cannot be had here; likewise.
        ConfigError: there is no such contestant.
    """
    look_up("contestant", name, all_contestants())
    if name not in ALL_PEERS:
        get_backend(name)
        return partial(BackendContestant, backend=name)
    peer = ALL_PEERS[name]
    try:
        module = import_module(f".peers.{peer.module}", __package__)
    except ImportError as error:
        raise MissingDependency(f'it needs {error.name}: pip install "xpnn[cli,bench]"') from error
    kind: type[Contestant] = getattr(module, peer.kind)
    options = dict(peer.options)
    if name in GPU_PEERS:
        kind.check_device(device)
        options["device"] = device
    return partial(kind, **options)


class BackendContestant(Contestant):
    """The plan of a backend, as `nn.train` runs it, and `net.predict`; images stay as they came.

    Args:
        task: what is to be done.
        backend: its name.
    """

    compiles = True

    def __init__(self, task: Task, *, backend: str) -> None:
        super().__init__(task)
        self.net = MLP(task.sizes, activation=task.activation, backend=backend)
        self.net.load_parameters(dict(zip(self.net.parameters(), task.start, strict=True)))

    @override
    def place(self, data: Dataset) -> None:
        self.net.adopt(data)
        self.rows = self.net.backend.place(data.train.images, data.train.labels, data.scale)
        self.test = data.test.images

    @override
    def compile(self) -> None:
        options = StepOptions(optimizer=self.task.optimizer, batch_size=self.task.batch_size)
        job = TrainingJob(self.net.layers, self.rows, options)
        self.plan: Plan = self.net.backend.compile(job)
        self.description = self.plan.description

    @override
    def run_epochs(self) -> float:
        """Run the epochs; each run of a plan ends with a read from the device."""
        if all(order is None for order in self.orders):
            return self.plan.run_epochs(len(self.orders))[0].loss
        totals = [self.plan.run(order) for order in self.orders]
        return totals[0].loss

    @override
    def predict(self) -> Array:
        classes: Array = self.net.predict(self.test)
        return classes

    @override
    def synchronize(self) -> None:
        """Read a value, which waits for all queued work."""
        self.net.backend.to_numpy(self.net.layers[-1].bias)  # (classes,)

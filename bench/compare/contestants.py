"""Registry of contestants: peers and registered backends."""

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
    """A contestant other than xpnn.

    Attributes:
        module: module of its class.
        kind: name of the class.
        title: title in tables.
        options: keyword arguments of the class besides the task.
        rounds: whether float32 products are rounded below float32 precision; such peers are reported separately.
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
    """Return the default contestants, available or not: peers, then backends."""
    return (*PEERS, *(name for name in registered_backends() if name not in NOT_TIMED and name not in ALL_PEERS))


def gpu_contestant_names() -> tuple[str, ...]:
    """Return the contestants on a GPU: its peers, then GPU backends."""
    return (*GPU_PEERS, *GPU_BACKENDS)


def all_contestants() -> dict[str, None]:
    """Return all contestants by name."""
    return dict.fromkeys((*contestant_names(), *gpu_contestant_names()))


def title_of(name: str) -> str:
    """Return the title of a contestant in tables."""
    return ALL_PEERS[name].title if name in ALL_PEERS else f"xpnn {name}"


def load_contestant(name: str, device: str = "cuda") -> Callable[[Task], Contestant]:
    """Import a contestant, check its device, and return its constructor.

    The device is that of GPU peers; "cpu" tests them, without a graph.

    Raises:
        MissingDependency: a peer's package or device is missing; the message says what to do.
        BackendUnavailable: a backend is not available here; likewise.
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
    """A backend's plan, as in `nn.train`, and `net.predict`, on images in their original dtype."""

    compiles = True

    def __init__(self, task: Task, *, backend: str) -> None:
        super().__init__(task)
        self.net = MLP(task.sizes, activation=task.activation, backend=backend)
        self.net.load_parameters(dict(zip(self.net.parameters(), task.start, strict=True)))

    @override
    def place(self, data: Dataset) -> None:
        self.net.adopt(data)
        self.rows = self.net.place(data.train)
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

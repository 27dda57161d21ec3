"""Contestants of the benchmark, programs that train one network on given rows; their tasks and orders of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...backends import MissingDependency, Optimizer
from ...nn import MLP, Dataset
from .workloads import Workload

Array = npt.NDArray[Any]
Order = npt.NDArray[np.int64]
Orders = Sequence[Order | None]  # of a turn's epochs, (rows,) each; None for all rows as they stand


@dataclass(frozen=True)
class Task:
    """What all contestants do alike.

    Attributes:
        sizes: features, hidden units of each layer, classes.
        activation: of the hidden layers, "relu" or "tanh".
        optimizer: SGD without momentum, or Adam.
        batch_size: rows of one step; the last step of an epoch has what is left.
        start: float32 weight (in_features, out_features) and bias (out_features,) of each layer in turn.
        threads: how many it may use.
        epochs: of one turn.
    """

    sizes: tuple[int, ...]
    activation: str
    optimizer: Optimizer
    batch_size: int
    start: tuple[Array, ...]
    threads: int
    epochs: int = 1


class Contestant(ABC):
    """One program at one task. Its process calls the methods in the order in which they stand here.

    Attributes:
        compiles: whether its first turn may compile; what that takes beyond a turn is then told apart.
        description: in a few words how it goes about the task, once it is compiled; empty where there is no choice.
    """

    compiles: ClassVar[bool] = False
    description: str = ""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.orders: Orders = ()

    @classmethod  # noqa: B027 - most need nothing
    def check_device(cls, device: str) -> None:
        """Run something small where the contestant is to compute.

        Raises:
            MissingDependency, BackendUnavailable: that cannot be had; the message says why, and what to do.
        """

    @abstractmethod
    def place(self, data: Dataset) -> None:
        """Bring training and test rows to where and into the form in which they are wanted."""

    @abstractmethod
    def compile(self) -> None:
        """Do what is to be done once before the first turn, if anything."""

    def take_orders(self, orders: Orders) -> None:
        """Get to know the order of rows in each epoch of the next turn, outside the clock."""
        self.orders = orders

    @abstractmethod
    def run_epochs(self) -> float:
        """Train for an epoch in each of the orders, and return the mean loss of a row in the first of them, nats.

        Where a device is fed by the host, the host reads once, at the end.
        """

    @abstractmethod
    def predict(self) -> Array:
        """Return the most probable class of each test row, (test rows,), on the host."""

    def synchronize(self) -> None:  # noqa: B027 - most run in step with the host
        """Wait until all that was asked for is done; called before each reading of the clock."""


def as_float32(images: Array, scale: float) -> npt.NDArray[np.float32]:
    """Return images (samples, features) as float32, integers times `scale`."""
    scaled = images.astype(np.float32)
    if images.dtype.kind in "iu":
        scaled *= np.float32(scale)
    return scaled


def task_of(workload: Workload, data: Dataset, *, threads: int) -> Task:
    """Return the task that a workload is with these data, from the starting weights that all contestants have."""
    count = len(data.train)
    net = MLP(workload.sizes, activation=workload.activation, backend="numpy", seed=0)
    return Task(
        workload.sizes,
        workload.activation,
        workload.optimizer,
        min(workload.batch_size or count, count),
        tuple(net.parameters().values()),
        threads,
        workload.epochs,
    )


def draw_orders(workload: Workload, data: Dataset, generator: np.random.Generator) -> Orders:
    """Return an order of rows for each epoch of a turn, (rows,) each; None where the batch is full."""
    count = len(data.train)
    full = workload.batch_size is None or workload.batch_size >= count
    return [None if full else generator.permutation(count) for _ in range(workload.epochs)]


def no_device(library: str, error: Exception, fix: str) -> MissingDependency:
    """Return the error of a peer whose library, named with its version, finds no device."""
    said = " ".join([type(error).__name__, *str(error).split()])[:200]
    return MissingDependency(f"it needs a CUDA device, and {library} has none ({said}): check nvidia-smi, and {fix}")

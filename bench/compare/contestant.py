"""Interface of contestants, their tasks, and orders of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...backends import MissingDependency
from ...nn import MLP, Dataset
from .workloads import Workload

Array = npt.NDArray[Any]
Order = npt.NDArray[np.int64]
Orders = Sequence[Order | None]  # of a turn's epochs, (rows,) each; None for all rows as they stand


@dataclass(frozen=True, kw_only=True)
class Task(Workload):
    """Training task, the same for all contestants: a workload on its rows.

    Attributes:
        batch_size: rows per step; the last step of an epoch may have fewer.
        start: initial float32 weight (in_features, out_features) and bias (out_features,) of each layer, interleaved.
        threads: number of threads.
    """

    batch_size: int
    start: tuple[Array, ...]
    threads: int


class Contestant(ABC):
    """A program at a task. Its process calls the methods in the order of their definition.

    Attributes:
        compiles: whether its first turn may compile; that time is reported separately.
        description: how it runs the task, once compiled; empty without a choice.
    """

    compiles: ClassVar[bool] = False
    description: str = ""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.orders: Orders = ()

    @classmethod  # noqa: B027 - most need nothing
    def check_device(cls, device: str) -> None:
        """Check the device by a small computation.

        Raises:
            MissingDependency, BackendUnavailable: it is not available; the message says why, and what to do.
        """

    @abstractmethod
    def place(self, data: Dataset) -> None:
        """Convert and copy training and test rows."""

    def compile(self) -> None:  # noqa: B027 - some need nothing
        """Prepare for the first turn, if needed."""

    def take_orders(self, orders: Orders) -> None:
        """Receive the orders of the next turn, outside the timing."""
        self.orders = orders

    @abstractmethod
    def run_epochs(self) -> float:
        """Train for one epoch per order, and return the mean loss of the first one in nats.

        On a device, the host reads once, at the end.
        """

    @abstractmethod
    def predict(self) -> Array:
        """Predict the class of each test row, (test rows,), on the host."""

    def synchronize(self) -> None:  # noqa: B027 - most run in step with the host
        """Wait for all queued work; called before the clock is read."""


def as_float32(images: Array, scale: float) -> npt.NDArray[np.float32]:
    """Convert images (samples, features) to float32, with integers multiplied by `scale`."""
    scaled = images.astype(np.float32)
    if images.dtype.kind in "iu":
        scaled *= np.float32(scale)
    return scaled


def task_of(workload: Workload, data: Dataset, *, threads: int) -> Task:
    """Return the task of a workload on some data, with the initial weights of all contestants."""
    count = len(data.train)
    net = MLP(workload.sizes, activation=workload.activation, backend="numpy", seed=0)
    given = {**vars(workload), "batch_size": min(workload.batch_size or count, count)}
    return Task(**given, start=tuple(net.parameters().values()), threads=threads)


def draw_orders(workload: Workload, data: Dataset, generator: np.random.Generator) -> Orders:
    """Draw an order of rows for each epoch of a turn, (rows,) each; None for full batches."""
    count = len(data.train)
    full = workload.batch_size is None or workload.batch_size >= count
    return [None if full else generator.permutation(count) for _ in range(workload.epochs)]


def no_device(library: str, error: Exception, fix: str) -> MissingDependency:
    """Return the error of a peer whose library finds no device."""
    said = " ".join([type(error).__name__, *str(error).split()])[:200]
    return MissingDependency(f"it needs a CUDA device, and {library} has none ({said}): check nvidia-smi, and {fix}")

"""What a contestant of the benchmark is: one program that trains one network on given rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..backends import Optimizer
from ..nn import Dataset

Array = npt.NDArray[Any]
Order = npt.NDArray[np.int64]


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
    """

    sizes: tuple[int, ...]
    activation: str
    optimizer: Optimizer
    batch_size: int
    start: tuple[Array, ...]
    threads: int


class Contestant(ABC):
    """One program at one task. Its process calls the methods in the order in which they stand here.

    Attributes:
        compiles: whether its first epoch may compile; what that takes beyond an epoch is then told apart.
    """

    compiles: ClassVar[bool] = False

    def __init__(self, task: Task) -> None:
        self.task = task
        self.order: Order | None = None

    @abstractmethod
    def place(self, data: Dataset) -> None:
        """Bring training and test rows to where and into the form in which they are wanted."""

    @abstractmethod
    def compile(self) -> None:
        """Do what is to be done once before the first epoch, if anything."""

    def take_order(self, order: Order | None) -> None:
        """Get to know the order of the next epoch's rows, (rows,), outside the clock; None for all as they stand."""
        self.order = order

    @abstractmethod
    def run_epoch(self) -> float:
        """Train on the rows in order, and return the mean loss of a row, nats."""

    @abstractmethod
    def predict(self) -> Array:
        """Return the most probable class of each test row, (test rows,), on the host."""


def as_float32(images: Array, scale: float) -> npt.NDArray[np.float32]:
    """Return images (samples, features) as float32, integers times `scale`."""
    scaled = images.astype(np.float32)
    if images.dtype.kind in "iu":
        scaled *= np.float32(scale)
    return scaled

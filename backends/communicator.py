"""Interface of collective communication between the processes (ranks) of a training run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .activations import Array
from .override import override


class Communicator(ABC):
    """Collective operations of the ranks of a training run, which all call them in the same order.

    Attributes:
        rank: index of this process, in [0, size).
        size: number of processes.
        on_host: whether it sums NumPy arrays only; device arrays are then copied through the host.
        overlaps: whether a started all-reduce proceeds while this process computes, without slowing it down.
    """

    rank: int
    size: int
    on_host: bool = True
    overlaps: bool = True

    @abstractmethod
    def sum(self, array: Array) -> None:
        """All-reduce an array of any shape in place: the sum over the ranks, with the same bits on each."""

    def start_sum(self, array: Array) -> Callable[[], None]:
        """Start `sum` asynchronously; return a function that waits for it.

        Sums complete in the order in which they were started, and before any other method may be called.
        """
        self.sum(array)
        return lambda: None

    @abstractmethod
    def gather(self, array: Array) -> Array:
        """All-gather arrays of one shape, in the order of the ranks: (size, ...)."""

    @abstractmethod
    def exchange(self, value: Any) -> list[Any]:
        """All-gather picklable objects, in the order of the ranks."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank has reached this call."""


class Alone(Communicator):
    """Communicator of a single process."""

    rank, size = 0, 1

    @override
    def sum(self, array: Array) -> None:
        """Do nothing: there is one process."""

    @override
    def gather(self, array: Array) -> Array:
        return array[None, ...]

    @override
    def exchange(self, value: Any) -> list[Any]:
        return [value]

    @override
    def barrier(self) -> None:
        """Return at once: there is one process."""


ALONE = Alone()

"""What processes that train one network together need of each other; what carries it is an engine of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .activations import Array
from .override import override


class Communicator(ABC):
    """The processes of one training, its ranks. Each of them calls the same methods in the same order.

    Attributes:
        rank: number of this process, in [0, size).
        size: how many there are.
        on_host: whether it sums NumPy arrays alone; arrays on a device go through the host then.
        overlaps: whether a sum that was begun goes on while this process computes, and neither slows the other down.
    """

    rank: int
    size: int
    on_host: bool = True
    overlaps: bool = True

    @abstractmethod
    def sum(self, array: Array) -> None:
        """Replace an array, any shape, by the sum of it over the ranks, the same bits on each."""

    def start_sum(self, array: Array) -> Callable[[], None]:
        """Begin with `sum` while this process goes on; return what waits for its end.

        Sums are done in the order in which they were begun. Before any other method is called, each must have ended.
        """
        self.sum(array)
        return _nothing_to_wait_for

    @abstractmethod
    def gather(self, array: Array) -> Array:
        """Return the arrays of all ranks, of one shape, one after the other, rank 0 first: (size, ...)."""

    @abstractmethod
    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all ranks, rank 0 first: anything that can be pickled, of another type on each."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank is here."""


class Alone(Communicator):
    """One process that trains by itself."""

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


def _nothing_to_wait_for() -> None:
    pass

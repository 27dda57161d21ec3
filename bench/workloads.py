"""The work that is timed: networks on the 60,000 MNIST training images, float32, evaluation outside the clock."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends import SGD, Adam, Optimizer


@dataclass(frozen=True)
class Workload:
    """One network and how it is trained.

    Attributes:
        name: short name.
        sizes: features, hidden units, classes.
        batch_size: rows of one step; None for all rows at once.
        optimizer: how gradients become steps.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int | None
    optimizer: Optimizer


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", (784, 10, 10), None, SGD(0.1)),
        Workload("W2", (784, 32, 32, 10), None, SGD(0.1)),
        Workload("W3", (784, 256, 10), 128, SGD(0.1)),
        Workload("W3a", (784, 256, 10), 128, Adam(1e-3)),
        Workload("W4", (784, 256, 10), 4096, SGD(0.1)),
        Workload("W5", (784, 10, 10), 64, SGD(0.1)),
        Workload("W6", (784, 256, 10), None, SGD(0.1)),
    )
}

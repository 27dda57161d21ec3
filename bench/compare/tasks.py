"""What a workload is for a contestant: the task, and the order of rows of each turn."""

from __future__ import annotations

import numpy as np

from ...nn import MLP, Dataset
from .contestant import Orders, Task
from .workloads import Workload


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

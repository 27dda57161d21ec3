"""Workloads beyond the fixed ones: random shapes that nobody tuned for, and the grid of the picture."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from ...backends import SGD, Adam, Optimizer
from .data import CLASSES, FEATURES, TRAIN_ROWS
from .workloads import Workload

WIDTHS, BATCH_SIZES = (10, 32, 128, 512, 2048), (16, 64, 256, 1024, 4096, 16384, 60_000)
BATCH_SIZES_OF_WIDTHS = (16, 256, 60_000)  # at which the time is drawn against the width
WIDTHS_OF_BATCH_SIZES = (10, 128, 2048)  # at which it is drawn against the batch size
EPOCH_SECONDS = 0.6  # what an epoch may take, as estimated; those that would take longer are of fewer rows
LEAST_STEPS = 16  # of an epoch that is cut short


def sweep_workloads() -> list[Workload]:
    """Return 784-width-10 on MNIST, ReLU and SGD, for the widths and batch sizes of the picture."""
    points = {(width, batch) for width in WIDTHS for batch in BATCH_SIZES_OF_WIDTHS}
    points |= {(width, batch) for width in WIDTHS_OF_BATCH_SIZES for batch in BATCH_SIZES}
    workloads = (
        Workload(f"{width}x{batch}", (FEATURES, width, CLASSES), batch, SGD(0.1)) for width, batch in sorted(points)
    )
    return [cut_short(workload) for workload in workloads]


def random_workloads(count: int, *, seed: int) -> list[Workload]:
    """Draw workloads; more of them from the same seed begin with the same ones.

    One to four hidden layers of 10 to 1024 units and batches of 16 to 60,000 rows, both log-uniform, every sixth a full
    batch; ReLU or tanh, SGD or Adam; pixels of density 0.05 to 1, every fourth standard-normal input instead.
    """
    generator = np.random.default_rng(seed)
    workloads = []
    for number in range(count):
        hidden = [_log_uniform(generator, 10, 1024) for _ in range(generator.integers(1, 5))]
        batch_size = _log_uniform(generator, 16, TRAIN_ROWS)
        full, normal = generator.random() < 1 / 6, generator.random() < 1 / 4
        optimizer: Optimizer = SGD(0.01) if generator.random() < 1 / 2 else Adam(1e-3)
        workload = Workload(
            f"S{seed}-{number}",
            (FEATURES, *hidden, CLASSES),
            None if full else batch_size,
            optimizer,
            data="normal" if normal else "pixels",
            activation="tanh" if generator.random() < 1 / 2 else "relu",
            density=1.0 if normal else round(float(generator.uniform(0.05, 1)), 2),
        )
        workloads.append(cut_short(workload))
    return workloads


def cut_short(workload: Workload) -> Workload:
    """Return the workload with so many rows that an epoch takes about `EPOCH_SECONDS` at most on two cores."""
    if workload.batch_size is None:
        return workload
    weights = sum(inputs * outputs for inputs, outputs in pairwise(workload.sizes))
    step_seconds = 1e-4 + 4e-9 * weights  # calls, and the update's way through the memory
    row_seconds = 6 * weights / 1e11 + step_seconds / workload.batch_size  # three products, two operations a weight
    rows = max(int(EPOCH_SECONDS / row_seconds), LEAST_STEPS * workload.batch_size)
    return workload if rows >= TRAIN_ROWS else replace(workload, rows=rows)


def _log_uniform(generator: np.random.Generator, low: int, high: int) -> int:
    """Draw a whole number in [low, high], its logarithm uniformly."""
    return round(float(np.exp(generator.uniform(np.log(low), np.log(high)))))

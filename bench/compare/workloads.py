"""Workloads of the benchmark: fixed ones, the grid of the sweep, and random shapes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from ...backends import SGD, Adam, Optimizer

TRAIN_ROWS, TEST_ROWS, FEATURES, CLASSES = 60_000, 10_000, 784, 10  # MNIST's
WIDTHS, BATCH_SIZES = (10, 32, 128, 512, 2048), (16, 64, 256, 1024, 4096, 16384, 60_000)
BATCH_SIZES_OF_WIDTHS = (16, 256, 60_000)  # at which the time is drawn against the width
WIDTHS_OF_BATCH_SIZES = (10, 128, 2048)  # at which it is drawn against the batch size
EPOCH_SECONDS = 0.6  # what an epoch may take, as estimated; those that would take longer are of fewer rows
LEAST_STEPS = 16  # of an epoch that is cut short

Measure = Literal["epoch", "predict"]


@dataclass(frozen=True)
class Workload:
    """A network with data and training.

    Attributes:
        name: short name.
        sizes: features, hidden units of each layer, classes.
        batch_size: rows per step; None for full batches.
        optimizer: the optimizer.
        data: "mnist"; "normal", standard-normal float32; or "pixels", uint8 drawn with `density`.
        activation: activation of the hidden layers, "relu" or "tanh".
        density: fraction of non-zero pixels, in (0, 1]; for "pixels" only.
        rows: number of training rows; None for all.
        measure: what is timed: a turn of training, or the predictions of all test rows after one such turn.
        epochs: epochs per turn; several if an epoch is too short to time, as on a GPU.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int | None
    optimizer: Optimizer
    data: str = "mnist"
    activation: str = "relu"
    density: float = 1.0
    rows: int | None = None
    measure: Measure = "epoch"
    epochs: int = 1

    @property
    def summary(self) -> str:
        """Summary on one line."""
        network = "-".join(map(str, self.sizes)) + ("" if self.activation == "relu" else f" {self.activation}")
        data = f"pixels of density {self.density:g}" if self.data == "pixels" else self.data
        if self.measure == "predict":
            return f"{network}, predictions of the test rows, {data}"
        batch = "full batch" if self.batch_size is None else f"batch {self.batch_size}"
        rows = "" if self.rows is None else f", {self.rows} rows"
        rule = f"{type(self.optimizer).__name__} {self.optimizer.learning_rate:g}"
        epochs = "" if self.epochs == 1 else f", {self.epochs} epochs"
        return f"{network}, {batch}, {rule}, {data}{rows}{epochs}"

    @property
    def operations(self) -> int:
        """Floating-point operations of a row: two for each weight, in an epoch forward and twice backward.

        The gradient of the inputs is not needed. Pixels that are zero count as others.
        """
        weights = [inputs * outputs for inputs, outputs in pairwise(self.sizes)]
        return 2 * sum(weights) if self.measure == "predict" else self.epochs * 2 * (3 * sum(weights) - weights[0])

    def to_json(self) -> dict[str, Any]:
        """Return all fields, with the optimizer as name and settings."""
        optimizer = {"name": self.optimizer.name, **self.optimizer.settings()}
        given = {**asdict(self), "sizes": list(self.sizes), "optimizer": optimizer}
        return {**given, "operations": self.operations, "summary": self.summary}


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
        Workload("D1", (28, 256, 256, 2), 256, Adam(1e-3), data="normal"),
        Workload("D2", (200, 512, 512, 2), 256, Adam(1e-3), data="normal"),
        Workload("D3", (784, 256, 10), 128, SGD(0.1), data="normal"),
        Workload("D4", (50, 64, 2), 256, Adam(1e-3), data="normal"),
        Workload("predict", (784, 256, 10), 128, SGD(0.1), measure="predict"),
    )
}

GPU_EPOCHS = {"W1": 2500, "W2": 3500, "W3": 10, "W3a": 10, "W4": 10}  # of a turn on a GPU; these are timed there


def sweep_workloads() -> list[Workload]:
    """Return 784-width-10 on MNIST, ReLU and SGD, for the widths and batch sizes of the sweep."""
    points = {(width, batch) for width in WIDTHS for batch in BATCH_SIZES_OF_WIDTHS}
    points |= {(width, batch) for width in WIDTHS_OF_BATCH_SIZES for batch in BATCH_SIZES}
    workloads = (
        Workload(f"{width}x{batch}", (FEATURES, width, CLASSES), batch, SGD(0.1)) for width, batch in sorted(points)
    )
    return [cut_short(workload) for workload in workloads]


def random_workloads(count: int, *, seed: int) -> list[Workload]:
    """Draw random workloads; larger counts from the same seed extend smaller ones.

    One to four hidden layers of 10 to 1024 units and batches of 16 to 60,000 rows, both log-uniform, every sixth a full
    batch; ReLU or tanh, SGD or Adam. Half are pictures of 784 pixels with density 0.05 to 1 and 10 classes, half tables
    of 4 to 1024 standard-normal columns and 2 to 32 classes, both log-uniform.
    """
    generator = np.random.default_rng(seed)
    workloads = []
    for number in range(count):
        hidden = [_log_uniform(generator, 10, 1024) for _ in range(generator.integers(1, 5))]
        batch_size = _log_uniform(generator, 16, TRAIN_ROWS)
        full, normal = generator.random() < 1 / 6, generator.random() < 1 / 2
        columns, classes = _log_uniform(generator, 4, 1024), _log_uniform(generator, 2, 32)
        features, classes = (columns, classes) if normal else (FEATURES, CLASSES)
        optimizer: Optimizer = SGD(0.01) if generator.random() < 1 / 2 else Adam(1e-3)
        workload = Workload(
            f"S{seed}-{number}",
            (features, *hidden, classes),
            None if full else batch_size,
            optimizer,
            data="normal" if normal else "pixels",
            activation="tanh" if generator.random() < 1 / 2 else "relu",
            density=1.0 if normal else round(float(generator.uniform(0.05, 1)), 2),
        )
        workloads.append(cut_short(workload))
    return workloads


def cut_short(workload: Workload) -> Workload:
    """Limit the rows of a workload so that an epoch takes at most about `EPOCH_SECONDS` on two cores."""
    if workload.batch_size is None:
        return workload
    weights = sum(inputs * outputs for inputs, outputs in pairwise(workload.sizes))
    step_seconds = 1e-4 + 4e-9 * weights  # calls, and the update's way through the memory
    row_seconds = 6 * weights / 1e11 + step_seconds / workload.batch_size  # three products, two operations a weight
    rows = max(int(EPOCH_SECONDS / row_seconds), LEAST_STEPS * workload.batch_size)
    return workload if rows >= TRAIN_ROWS else replace(workload, rows=rows)


def _log_uniform(generator: np.random.Generator, low: int, high: int) -> int:
    """Draw an integer in [low, high], log-uniformly."""
    return round(float(np.exp(generator.uniform(np.log(low), np.log(high)))))

"""The work that is timed: networks on 60,000 rows, float32 arithmetic, evaluation outside the clock."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...backends import SGD, Adam, Optimizer

Measure = Literal["epoch", "predict"]


@dataclass(frozen=True)
class Workload:
    """One network, its data and how it is trained.

    Attributes:
        name: short name.
        sizes: features, hidden units of each layer, classes.
        batch_size: rows of one step; None for all rows at once.
        optimizer: how gradients become steps.
        data: "mnist"; "normal", standard-normal float32; or "pixels", uint8 drawn with `density`.
        activation: of the hidden layers, "relu" or "tanh".
        density: share of the pixels that are not zero, in (0, 1]; of "pixels" only.
        rows: the first so many training rows make an epoch; None for all.
        measure: what is timed: a turn of training, or the predictions of all test rows after one such turn.
        epochs: of a turn; more than one where an epoch is too short to be timed alone, as on a GPU.
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
        """What it is, on one line."""
        network = "-".join(map(str, self.sizes)) + ("" if self.activation == "relu" else f" {self.activation}")
        data = f"pixels of density {self.density:g}" if self.data == "pixels" else self.data
        if self.measure == "predict":
            return f"{network}, predictions of the test rows, {data}"
        batch = "full batch" if self.batch_size is None else f"batch {self.batch_size}"
        rows = "" if self.rows is None else f", {self.rows} rows"
        rule = f"{type(self.optimizer).__name__} {self.optimizer.learning_rate:g}"
        epochs = "" if self.epochs == 1 else f", {self.epochs} epochs"
        return f"{network}, {batch}, {rule}, {data}{rows}{epochs}"

    def to_json(self) -> dict[str, Any]:
        """Return every field, the optimizer by its name and settings."""
        optimizer = {"name": self.optimizer.name, **self.optimizer.settings()}
        return {**asdict(self), "sizes": list(self.sizes), "optimizer": optimizer, "summary": self.summary}


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
        Workload("D3", (784, 256, 10), 128, SGD(0.1), data="normal"),
        Workload("predict", (784, 256, 10), 128, SGD(0.1), measure="predict"),
    )
}

GPU_EPOCHS = {"W1": 2500, "W2": 3500, "W3": 10, "W3a": 10, "W4": 10}  # of a turn on a GPU; these are timed there

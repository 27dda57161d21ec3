"""What a backend is given to train, and the plan that it makes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .activations import Array
from .communicator import ALONE, Communicator
from .errors import ConfigError
from .step_options import StepOptions


@dataclass
class Layer:
    """One dense layer, `y = activation(x @ weight + bias)`.

    Attributes:
        weight: (in_features, out_features), on the backend's device.
        bias: (out_features,), on the backend's device.
        activation: a row of `ACTIVATIONS`.
    """

    weight: Array
    bias: Array
    activation: str


class Rows(NamedTuple):
    """Rows of a data set on a backend's device, as they came: integers stay integers.

    Attributes:
        images: (samples, features), an integer or floating type.
        labels: as the loss takes them: classes, (samples,), int64, or what the outputs should be, (samples, outputs),
            float64.
        scale: what integer images are multiplied by on their way into the first layer.
        weights: how much each row counts, (samples,), float64, on the host, where a batch's sum is taken; None for 1
            each.
        on_host: whether the images are a NumPy array that the device has not room for: batches of it are copied there
            as they are wanted, by `Backend.batch`.
        nonzeros: number of non-zeros in the images; None if unknown, and a plan that needs it counts.
    """

    images: Array
    labels: Array
    scale: float
    weights: npt.NDArray[np.float64] | None = None
    on_host: bool = False
    nonzeros: int | None = None


class Totals(NamedTuple):
    """Sums over the rows that were seen.

    Attributes:
        loss_sum: sum of the rows' losses, each times its row's weight, nats.
        correct: number of rows that were classified correctly.
        rows: number of rows.
    """

    loss_sum: float = 0.0
    correct: int = 0
    rows: int = 0

    @property
    def loss(self) -> float:
        """Mean loss of a row, nats."""
        return self.loss_sum / self.rows

    @property
    def accuracy(self) -> float:
        """Share of rows that were classified correctly, in [0, 1]."""
        return self.correct / self.rows


NO_ROWS = Totals()


@dataclass(frozen=True)
class TrainingJob:
    """All that a plan is made for.

    Attributes:
        layers: the network; the plan puts the new weights into them.
        rows: the training rows.
        options: of the steps.
        loss: a row of `LOSSES`.
        dropout_seed: what decides, with the number of the step, which units are left out.
        learning_rate: step number, from 1 -> learning rate of that step; None for the optimizer's own.
        communicator: the processes that share each batch; every one of them has such a job, of the same rows.
        shards: into how many parts each batch is cut whose gradients are added up in a fixed order; None where only the
            number of processes says.
    """

    layers: list[Layer]
    rows: Rows
    options: StepOptions
    loss: str = "softmax_cross_entropy"
    dropout_seed: int = 0
    learning_rate: Callable[[int], float] | None = None
    communicator: Communicator = ALONE
    shards: int | None = None

    @property
    def batch_size(self) -> int:
        """Rows of one step; the last step of an epoch may have fewer."""
        return self.options.rows_of_step(self.rows.images.shape[0])

    @property
    def tile_rows(self) -> int | None:
        """Rows whose gradients are taken at once, where less memory is wanted; None for what the backend likes."""
        return self.options.batch_size if self.options.accumulate > 1 else None

    @property
    def is_divided(self) -> bool:
        """Whether the gradient of a step is added up of parts that are taken apart."""
        return self.communicator.size > 1 or self.shards is not None

    @property
    def needs_generic_plan(self) -> bool:
        """Whether it asks for what only the generic plan does, such as rows that stay on the host."""
        return self.options.needs_generic_plan or self.rows.on_host

    def learning_rates(self, first_step: int, steps: int) -> npt.NDArray[np.float64]:
        """Return the learning rates of `steps` steps from number `first_step`, (steps,)."""
        if self.learning_rate is None:
            return np.full(steps, self.options.optimizer.learning_rate)
        return np.array([self.learning_rate(step) for step in range(first_step, first_step + steps)], dtype=np.float64)


class Plan(ABC):
    """The compiled steps of one training job: order in, plan run, loss out.

    Attributes:
        job: what it was made for.
        step: number of optimizer steps taken so far.
        description: "compiled" or "generic", and a few words on how it goes about the job; `xpnn train -v` shows it.
    """

    job: TrainingJob
    step: int
    description: str = "compiled"

    @abstractmethod
    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        """Take the steps for the rows in `order`, a batch after the other, and leave the weights in the job's layers.

        The layers' arrays may change in place: copy what is to outlive the next run.

        Args:
            order: (rows,), indices into the job's rows; None for every row as it stands.
            totals: sums so far; the run's rows are added to them one step after the other, so that an epoch's sums
                do not depend on how it was divided into runs.

        Returns:
            `totals` with the rows of this run, after one read from the device. Loss and correctness of a row are
            those of the forward pass that trained on it.

        Raises:
            ConfigError: an index of `order` is not a row of the job.
        """

    def run_epochs(self, epochs: int) -> list[Totals]:
        """Take `epochs` passes over every row as it stands, and return the sums of each.

        A device that is fed by the host may take them all in one go, and be read once.
        """
        return [self.run() for _ in range(epochs)]

    def feed(self, rows: Rows) -> None:
        """Take these rows, all of them one batch, in the next runs instead of those that the plan was made for.

        Raises:
            ConfigError: the plan is made for its own rows; the generic plan is not.
        """
        raise ConfigError(f"{type(self).__name__} cannot take {len(rows.labels)} other rows: use the generic plan")

    @abstractmethod
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the optimizer's arrays on the host, named `layers.<k>.<weight|bias>.<slot>`."""

    @abstractmethod
    def load_state(self, state: dict[str, npt.NDArray[Any]], step: int) -> None:
        """Go on from the arrays of `state` after `step` steps, with the weights that the layers hold now."""


def checked_order(order: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return a copy of `order`, (rows,), of which each index is a row of the job.

    Raises:
        ConfigError: an index is not in [0, count); array modules would take it from the end, or from outside.
    """
    rows = np.array(order, dtype=np.int64)  # (rows,)
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        at = int(np.argmax((rows < 0) | (rows >= count)))
        raise ConfigError(f"the order's rows must be in [0, {count}), got {rows[at]} at position {at}")
    return rows

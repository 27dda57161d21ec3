"""Training jobs, and the plans that backends compile from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .activations import Array
from .communicator import ALONE, Communicator
from .dropout import Dropout
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


def put_parameters(layers: Sequence[Layer], parameters: Sequence[tuple[Array, Array]]) -> None:
    """Replace weight and bias of all layers in one call of C, so that an interrupt leaves all of them or none."""
    places = [(layer, name) for layer in layers for name in ("weight", "bias")]
    arrays = [array for pair in parameters for array in pair]
    list(map(setattr, *zip(*places, strict=True), arrays))


class Rows(NamedTuple):
    """Rows of a data set on a backend's device, in their original dtype.

    Attributes:
        images: (samples, features), an integer or floating type; in csr format for backends that take it.
        labels: classes, (samples,), int64, or targets, (samples, outputs), float64, as the loss requires.
        scale: factor of integer images, applied in the first layer.
        weights: row weights, (samples,), float64, on the host; None for 1 each.
        on_host: whether the images stay in a NumPy array on the host; `Backend.batch` copies each batch.
        nonzeros: number of non-zeros in the images; None if unknown, then counted by plans that need it.
    """

    images: Array
    labels: Array
    scale: float
    weights: npt.NDArray[np.float64] | None = None
    on_host: bool = False
    nonzeros: int | None = None


class Totals(NamedTuple):
    """Sums over the rows processed.

    Attributes:
        loss_sum: weighted sum of the rows' losses, in nats.
        correct: number of correctly classified rows.
        rows: number of rows.
    """

    loss_sum: float = 0.0
    correct: int = 0
    rows: int = 0

    @property
    def loss(self) -> float:
        """Mean loss in nats."""
        return self.loss_sum / self.rows

    @property
    def accuracy(self) -> float:
        """Fraction of correctly classified rows, in [0, 1]."""
        return self.correct / self.rows


NO_ROWS = Totals()


@dataclass(frozen=True)
class TrainingJob:
    """Network, rows and options that a plan is compiled for.

    Attributes:
        layers: layers of the network, updated by the plan.
        rows: training rows.
        options: options of a step.
        loss: name of a loss, as in `parse_loss`.
        dropout_seed: seed of the dropout masks.
        learning_rate: function from step number, from 1, to learning rate; None for the optimizer's own.
        communicator: processes that share each batch; each has the same job with the same rows.
        shards: parts of each batch whose gradients are summed in a fixed order; None for a part per process.
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
        """Maximum rows processed at once, to limit memory; None for the backend's default."""
        return self.options.batch_size if self.options.accumulate > 1 else None

    @property
    def is_divided(self) -> bool:
        """Whether the gradient of a step is a sum over parts computed separately."""
        return self.communicator.size > 1 or self.shards is not None

    @property
    def dropout(self) -> Dropout | None:
        """Dropout masks; None without dropout."""
        return Dropout(self.options.dropout, self.dropout_seed) if self.options.dropout else None

    def learning_rates(self, first_step: int, steps: int) -> npt.NDArray[np.float64]:
        """Return the learning rates of `steps` steps from number `first_step`, (steps,)."""
        if self.learning_rate is None:
            return np.full(steps, self.options.optimizer.learning_rate)
        return np.array([self.learning_rate(step) for step in range(first_step, first_step + steps)], dtype=np.float64)


class Plan(ABC):
    """Compiled steps of a training job.

    Attributes:
        job: the training job.
        step: number of optimizer steps taken so far.
        description: "compiled" or "generic", and details that `xpnn train -v` prints.
    """

    job: TrainingJob
    step: int
    description: str = "compiled"

    @abstractmethod
    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        """Run the steps for the rows in `order`, batch by batch, and update the job's layers.

        On the host the arrays that others put into the layers stay as they are. Those that the plan puts there may
        change in place: copy what must outlive the next run.

        Args:
            order: (rows,), indices into the job's rows; None for all rows in sequence.
            totals: sums so far; the run adds to them step by step, so that an epoch's sums do not depend on its
                division into runs.

        Returns:
            `totals` including this run, with one read from the device. Losses and correct rows are those of the
            training forward pass.

        Raises:
            ConfigError: an index of `order` is out of range.
        """

    def run_epochs(self, epochs: int) -> list[Totals]:
        """Run `epochs` epochs over all rows in sequence, and return the sums of each.

        A device may run them all at once, with a single read.
        """
        return [self.run() for _ in range(epochs)]

    def feed(self, rows: Rows) -> None:
        """Replace the rows by these, one batch, for the next runs.

        Raises:
            ConfigError: the plan is compiled for its own rows; only the generic plan is not.
        """
        raise ConfigError(f"{type(self).__name__} cannot take {len(rows.labels)} other rows: use the generic plan")

    @abstractmethod
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the optimizer's arrays on the host, named `layers.<k>.<weight|bias>.<slot>`."""

    def final_state(self) -> dict[str, npt.NDArray[Any]]:
        """Return `state()` of a plan that is not run again: its arrays need not be copied."""
        return self.state()

    @abstractmethod
    def load_state(self, state: dict[str, npt.NDArray[Any]], step: int) -> None:
        """Resume from the arrays of `state` after `step` steps, with the current weights of the layers.

        No run writes to them; they must stay as they are until the next one.
        """


def checked_order(order: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return a copy of `order`, (rows,), with every index checked.

    Raises:
        ConfigError: an index is not in [0, count).
    """
    rows = np.array(order, dtype=np.int64)  # (rows,)
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        at = int(np.argmax((rows < 0) | (rows >= count)))
        raise ConfigError(f"the order's rows must be in [0, {count}), got {rows[at]} at position {at}")
    return rows

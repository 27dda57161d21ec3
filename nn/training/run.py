"""A training under way: where it is, how it is stopped and saved, and what listens to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...backends import Plan, Totals
from ...backends.communicator import ALONE, Communicator
from ...backends.finite import first_not_finite
from ...backends.reduction import Reduction, WholeBatch
from ..datasets.dataset import Split
from ..files.tensors import Arrays
from ..network.mlp import MLP
from .checkpoint import Checkpoint, OptimizerState
from .history import EpochResult, History
from .settings import TrainingSettings

if TYPE_CHECKING:
    from .batches import Feed
    from .divergence import Watch


@dataclass
class TrainingRun:
    """A training under way, as callbacks see it.

    Attributes:
        net: the network; its weights are those of the last step.
        rows: the training rows, with their weights.
        settings: what decides the steps.
        plan: takes the steps.
        generator: draws the order of the rows.
        history: results of the finished epochs.
        told: how many of them the callbacks know.
        epoch: number of the present epoch, from 1.
        position: rows of the present epoch that have been trained on.
        totals: sums over those rows.
        seconds: training time of the present epoch so far.
        epoch_start_state: the generator's state before it drew the present epoch's order.
        stopped: whether `stop` was called, in this process.
        is_stopping: whether it was in any, as all of them know.
        is_resumed: whether it goes on from a checkpoint.
        best: the parameters of the best epoch, with early stopping.
        watch: finds the step that went wrong.
        feed: the batches, where they come from outside; there are no `rows` then.
        validation: the validation rows, or None.
        epoch_start: where the run was before its present epoch, from which alone such a training can go on.
        communicator: the processes that train together.
        reduction: how they share rows, and add up what they find.
    """

    net: MLP
    rows: Split
    settings: TrainingSettings
    plan: Plan
    generator: np.random.Generator
    history: History = field(default_factory=History)
    told: int = 0
    epoch: int = 1
    position: int = 0
    totals: Totals = field(default_factory=Totals)
    seconds: float = 0.0
    epoch_start_state: dict[str, Any] = field(init=False)
    stopped: bool = False
    is_stopping: bool = False
    is_resumed: bool = False
    best: Arrays = field(default_factory=dict)
    watch: Watch | None = None
    feed: Feed | None = None
    validation: Split | None = None
    epoch_start: Checkpoint | None = None
    communicator: Communicator = ALONE
    reduction: Reduction = field(default_factory=WholeBatch)

    def __post_init__(self) -> None:
        self.mark_epoch_start()

    @property
    def epochs(self) -> int:
        """Epochs of the whole training."""
        return self.settings.epochs

    @property
    def rows_per_epoch(self) -> int:
        """Number of training rows."""
        return len(self.rows)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Which training it is; see `TrainingSettings.identity`."""
        seed, scale = self.plan.job.dropout_seed, self.net.input_scale
        return self.settings.identity(self.net, self.rows, self.validation, scale, seed)

    @property
    def optimizer_state(self) -> OptimizerState:
        """The optimizer's arrays, from which another training may go on; see `nn.train`."""
        return OptimizerState(self.plan.step, self.plan.state())

    @property
    def weight_of_epoch(self) -> float:
        """What the mean loss of an epoch is over: its rows, or the sum of their weights."""
        return self._weight_of_rows if self.feed is None else self.feed.weight

    @cached_property
    def _weight_of_rows(self) -> float:
        return float(len(self.rows) if self.rows.weights is None else self.rows.weights.sum())

    def mark_epoch_start(self) -> None:
        """Remember the generator's state, from which the next order is drawn."""
        self.epoch_start_state = dict(self.generator.bit_generator.state)

    @property
    def is_epoch_over(self) -> bool:
        """Whether the present epoch's last step was taken."""
        return self.position == self.settings.rows if self.feed is None else self.feed.is_over

    def begin_epoch(self) -> npt.NDArray[np.int64] | None:
        """Return the order of the epoch's rows, or begin with its batches; see `draw_order`."""
        self.mark_epoch_start()
        if self.feed is not None:
            self.epoch_start = self.checkpoint()
            self.feed.begin(self.epoch)
        return self.draw_order()

    def draw_order(self) -> npt.NDArray[np.int64] | None:
        """Return the next epoch's order of rows, (rows,), or None for a full batch, whose order is no matter."""
        if self.settings.batch_size >= self.rows_per_epoch:
            return None
        count = self.rows_per_epoch
        return self.generator.permutation(count) if self.settings.shuffle else np.arange(count)

    def heed_early_stopping(self) -> None:
        """Keep the weights if the last epoch was the best, and stop if too many have passed since."""
        early_stopping = self.settings.early_stopping
        if early_stopping is None or not self.history:
            return
        if early_stopping.best_epoch(self.history) == self.history[-1].epoch:
            self.best = self.net.parameters()
        if early_stopping.is_over(self.history):
            self.stop()

    def stop(self) -> None:
        """End the training after the present chunk."""
        self.stopped = True

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to go on from here, on the host.

        Raises:
            DivergenceError: a weight or the optimizer's state is no longer finite.
        """
        if self.epoch_start is not None and self.position:
            return self.epoch_start
        checkpoint = Checkpoint(
            parameters=self.net.parameters(),
            optimizer_state=self.plan.state(),
            step=self.plan.step,
            generator_state=self.epoch_start_state,
            epoch=self.epoch,
            position=self.position,
            totals=self.totals,
            seconds=self.seconds,
            history=self.history[:],
            training=self.identity,
            best=self.best,
        )
        found = first_not_finite(checkpoint.parameters | checkpoint.optimizer_state)
        if self.watch is not None and found is not None:
            raise self.watch.divergence_of(found)
        return checkpoint

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put a new run where the checkpoint's run was; network and generator already have its weights and state.

        Raises:
            ModelFileError: the optimizer's state is of another network or optimizer.
        """
        self.is_resumed = True
        self.plan.load_state(checkpoint.optimizer_state, checkpoint.step)
        self.mark_epoch_start()
        self.epoch, self.position = checkpoint.epoch, checkpoint.position
        self.totals, self.seconds = checkpoint.totals, checkpoint.seconds
        self.history = checkpoint.history[:]
        self.told = len(self.history)
        self.best = checkpoint.best
        early_stopping = self.settings.early_stopping
        self.stopped = early_stopping is not None and early_stopping.is_over(self.history)


class Callback:
    """Base of the callbacks: override what is of interest.

    `run.stop()` ends the training after the present chunk; `run.history`, `run.net`, `run.epoch` and `run.position`
    say where it is.

    Attributes:
        each_epoch: whether it must hear of each epoch as it ends, so that full batches are never taken in one go.
        every_rank: whether it is called in each of the processes that train together, not in the first one alone. One
            that is not must not call what takes all of them, such as a communicator's methods.
    """

    each_epoch: ClassVar[bool] = False
    every_rank: ClassVar[bool] = False

    def on_train_begin(self, run: TrainingRun) -> None:
        """Called once, before the first step."""

    def on_chunk_end(self, run: TrainingRun) -> None:
        """Called after each chunk of steps, about a second of work at most."""

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """Called after each epoch and its evaluation; `result` is already in `run.history`.

        Of full batches that were taken in one go, each is told when the last of them is done.
        """

    def on_train_end(self, run: TrainingRun) -> None:
        """Called once after the last step, also when the training was stopped; not when it failed."""

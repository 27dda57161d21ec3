"""A training under way: where it is, how it is stopped and saved, and what listens to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...backends import Plan, Totals
from ...backends.communicator import ALONE, Communicator
from ...backends.finite import first_not_finite
from ...backends.reduction import Reduction, WholeBatch
from ..files.tensors import Arrays
from ..network.mlp import MLP
from .checkpoint import Checkpoint, OptimizerState
from .history import EpochResult, History
from .identity import Identity
from .options import TrainingOptions
from .sources import RowSource

if TYPE_CHECKING:
    from .divergence import Watch


@dataclass
class TrainingRun:
    """A training under way, as callbacks see it.

    Attributes:
        net: the network; its weights are those of the last step.
        source: the training rows, an epoch at a time.
        options: of the training.
        plan: takes the steps.
        generator: draws the order of the rows.
        identity: which training it is.
        communicator: the processes that train together.
        reduction: how they share rows, and add up what they find.
        history: results of the finished epochs.
        told: how many of them the callbacks know.
        epoch: number of the present epoch, from 1.
        totals: sums over the rows of the present epoch that have been trained on.
        seconds: training time of the present epoch so far.
        epoch_start_state: the generator's state before it drew the present epoch's order.
        epoch_start: where the run was before its present epoch, where only epochs as a whole can be repeated.
        stopped: whether `stop` was called, in this process.
        is_stopping: whether it was in any, as all of them know.
        is_resumed: whether it continues from a checkpoint.
        best: the parameters of the best epoch, with early stopping.
        watch: finds the step that went wrong.
    """

    net: MLP
    source: RowSource
    options: TrainingOptions
    plan: Plan
    generator: np.random.Generator
    identity: Identity
    communicator: Communicator = ALONE
    reduction: Reduction = field(default_factory=WholeBatch)
    history: History = field(default_factory=History)
    told: int = 0
    epoch: int = 1
    totals: Totals = field(default_factory=Totals)
    seconds: float = 0.0
    epoch_start_state: dict[str, Any] = field(init=False)
    epoch_start: Checkpoint | None = None
    stopped: bool = False
    is_stopping: bool = False
    is_resumed: bool = False
    best: Arrays = field(default_factory=dict)
    watch: Watch | None = None

    def __post_init__(self) -> None:
        self.mark_epoch_start()

    @property
    def epochs(self) -> int:
        """Epochs of the whole training."""
        return self.options.epochs

    @property
    def rows_per_epoch(self) -> int | None:
        """Number of training rows; None where they are streamed, and nobody can know."""
        return self.source.rows_per_epoch

    @property
    def position(self) -> int:
        """Rows of the present epoch that have been trained on."""
        return self.totals.rows

    @property
    def optimizer_state(self) -> OptimizerState:
        """The optimizer's arrays, from which another training may continue; see `nn.train`."""
        return OptimizerState(self.plan.step, self.plan.state())

    def mark_epoch_start(self) -> None:
        """Remember the generator's state, from which the next order is drawn."""
        self.epoch_start_state = dict(self.generator.bit_generator.state)

    @property
    def is_epoch_over(self) -> bool:
        """Whether the present epoch's last step was taken."""
        return self.source.is_over(self.totals)

    def begin_epoch(self) -> None:
        """Begin with the epoch's rows, in the order that the generator draws."""
        self.mark_epoch_start()
        if not self.source.can_repeat:
            self.epoch_start = self.checkpoint()
        self.source.begin(self.epoch, self.generator)

    def heed_early_stopping(self) -> None:
        """Keep the weights if the last epoch was the best, and stop if too many have passed since."""
        early_stopping = self.options.early_stopping
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
        """Return all that is needed to resume from here, on the host.

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
            training=self.identity.parts,
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
        self.epoch, self.totals, self.seconds = checkpoint.epoch, checkpoint.totals, checkpoint.seconds
        self.history = checkpoint.history[:]
        self.told = len(self.history)
        self.best = checkpoint.best
        early_stopping = self.options.early_stopping
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

"""State of a run in progress, and callbacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...backends import Plan, RunError, Totals
from ...backends.communicator import ALONE, Communicator
from ...backends.finite import first_not_finite
from ...backends.reduction import Reduction
from ..files.tensors import Arrays
from ..network.mlp import MLP
from .checkpoint import Checkpoint, OptimizerState
from .history import EpochResult, History
from .identity import Identity
from .options import TrainingOptions
from .sources import RowSource

if TYPE_CHECKING:
    from .divergence import Snapshot, Watch


@dataclass
class TrainingRun:
    """A run in progress, as seen by callbacks.

    Attributes:
        net: the network, with the weights of the last step.
        source: training rows.
        options: training options.
        plan: the plan that runs the steps.
        generator: generator of the orders.
        identity: identity of the run.
        communicator: communicator of the processes.
        reduction: partition of rows and reduction of gradients.
        history: results of the finished epochs.
        told: number of results that callbacks have received.
        epoch: number of the current epoch, from 1.
        totals: sums over the rows of the current epoch processed so far.
        seconds: training time of the current epoch so far.
        epoch_start_state: state of the generator at the start of the current epoch.
        epoch_start: checkpoint at the start of the current epoch, if only whole epochs can be repeated.
        stopped: whether `stop` was called in this process.
        is_stopping: whether it was called in any process, agreed by all.
        is_resumed: whether it resumes from a checkpoint.
        was_cut_off: whether an exception such as KeyboardInterrupt ended it within a chunk of steps. The network then
            has the parameters of the last finished chunk, and there is no optimizer state that belongs to them.
        best: parameters of the best epoch, with early stopping.
        watch: monitor of divergence.
        first_state: optimizer state of an earlier run that it starts from, or None.
        last: parameters and optimizer state after the last step, on the host; None before.
    """

    net: MLP
    source: RowSource
    options: TrainingOptions
    plan: Plan
    generator: np.random.Generator
    identity: Identity
    communicator: Communicator = ALONE
    reduction: Reduction = field(default_factory=Reduction)
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
    was_cut_off: bool = False
    best: Arrays = field(default_factory=dict)
    watch: Watch | None = None
    first_state: OptimizerState | None = None
    last: Snapshot | None = None

    def __post_init__(self) -> None:
        self.mark_epoch_start()

    @property
    def epochs(self) -> int:
        """Number of epochs of the run."""
        return self.options.epochs

    @property
    def rows_per_epoch(self) -> int | None:
        """Number of training rows; None if unknown, as for streams."""
        return self.source.rows_per_epoch

    @property
    def position(self) -> int:
        """Rows of the current epoch processed so far."""
        return self.totals.rows

    @property
    def optimizer_state(self) -> OptimizerState:
        """Optimizer state, for a later run to start from; see `nn.train`.

        Raises:
            RunError: the run was cut off within a chunk of steps.
        """
        self._refuse_if_cut_off()
        arrays = self.plan.state() if self.last is None else self.last.optimizer_state
        return OptimizerState(self.plan.step, arrays)

    def mark_epoch_start(self) -> None:
        """Record the generator's state, from which the next order is drawn."""
        self.epoch_start_state = dict(self.generator.bit_generator.state)

    @property
    def is_epoch_over(self) -> bool:
        """Whether the last step of the current epoch is done."""
        return self.source.is_over(self.totals)

    def begin_epoch(self) -> None:
        """Begin an epoch, with an order from the generator."""
        self.mark_epoch_start()
        if not self.source.can_repeat:
            self.epoch_start = self.checkpoint()
        self.source.begin(self.epoch, self.generator)

    def heed_early_stopping(self) -> None:
        """Store the weights if the last epoch was the best, and stop if patience is exhausted."""
        early_stopping = self.options.early_stopping
        if early_stopping is None or not self.history:
            return
        if early_stopping.best_epoch(self.history) == self.history[-1].epoch:
            self.best = self.net.parameters()
        if early_stopping.is_over(self.history):
            self.stop()

    def stop(self) -> None:
        """Stop training after the current chunk."""
        self.stopped = True

    def checkpoint(self) -> Checkpoint:
        """Return a checkpoint to resume from.

        Raises:
            DivergenceError: a weight or the optimizer state is not finite.
            RunError: the run was cut off within a chunk of steps.
        """
        self._refuse_if_cut_off()
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

    def _refuse_if_cut_off(self) -> None:
        if self.was_cut_off:
            raise RunError(
                f"the training was cut off in epoch {self.epoch}, and its optimizer state is of no step: train on "
                "without it, or resume from a checkpoint (nn.SaveCheckpoints)"
            )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint to a new run whose network and generator are already restored.

        Raises:
            ModelFileError: the optimizer state belongs to another network or optimizer.
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
    """Base class of callbacks, with empty methods to override.

    `run.stop()` ends training after the current chunk; `run.history`, `run.net`, `run.epoch` and `run.position`
    describe its progress.

    Attributes:
        each_epoch: whether it must be called at the end of each epoch, which prevents several full-batch epochs per
            chunk.
        every_rank: whether it is called on every rank, not on rank 0 alone. If not, it must not call collective
            operations, such as a communicator's methods.
    """

    each_epoch: ClassVar[bool] = False
    every_rank: ClassVar[bool] = False

    def on_train_begin(self, run: TrainingRun) -> None:
        """Called before the first step."""

    def on_chunk_end(self, run: TrainingRun) -> None:
        """Called after each chunk of steps, of about a second at most."""

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """Called after each epoch and its evaluation, with `result` already in `run.history`.

        For several full-batch epochs in one chunk, it is called for each at the end of the chunk.
        """

    def on_train_end(self, run: TrainingRun) -> None:
        """Called after the last step, also when training was stopped, but not when it failed."""

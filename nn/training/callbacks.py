"""What can listen to a training run."""

from __future__ import annotations

from typing import ClassVar

from .history import EpochResult
from .run import TrainingRun


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

"""What a run begins with."""

from __future__ import annotations

from typing import NamedTuple

from ...backends import Backend
from ..datasets import Dataset
from ..runs.config import RunConfig
from ..runs.folder import RunFolder
from ..training.checkpoint import Checkpoint


class Start(NamedTuple):
    """What a run begins with; `checkpoint` is None for a new one, and for one that was killed before it had any.

    `ranks` is the number of processes that share it.
    """

    folder: RunFolder
    config: RunConfig
    data: Dataset
    backend: Backend
    checkpoint: Checkpoint | None
    resumed: bool
    ranks: int = 1

    def is_finished(self) -> bool:
        """Return whether there is nothing left to do."""
        if self.checkpoint is None:
            return False
        recipe, stopping = self.config.recipe, self.config.recipe.early_stopping
        is_over = self.checkpoint.epoch > recipe.epochs or (
            stopping is not None and stopping.is_over(self.checkpoint.history)
        )
        return is_over and self.folder.summary.exists() and self.folder.model.exists()

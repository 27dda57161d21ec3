"""Stopping when a figure no longer gets better, and keeping the weights that were best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...backends import look_up
from ...backends.constraints import NOT_NEGATIVE, whole
from .history import EpochResult, History

MONITORED = {name: name for name in ("validation_loss", "validation_accuracy", "train_loss")}


@dataclass(frozen=True)
class EarlyStopping:
    """When a training ends before its last epoch (Prechelt 1998); the network then has the weights of its best epoch.

    It keeps no state of its own: what it needs is in the history, so that a resumed training stops where the whole one
    would have stopped.

    Attributes:
        patience: epochs without an improvement after which the training ends, at the next that is evaluated.
        min_delta: by how much a figure must be better than the best so far to count, in its own unit.
        monitor: which figure of an epoch: "validation_loss", "validation_accuracy" or "train_loss".

    Raises:
        ConfigError: a setting has a value that it cannot have.
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str = "validation_loss"

    def __post_init__(self) -> None:
        whole(1).check("patience", self.patience)
        NOT_NEGATIVE.check("min_delta", self.min_delta)
        look_up("monitor", self.monitor, MONITORED)

    def best_epoch(self, history: History) -> int | None:
        """Return the number of the best epoch, from 1; None where no epoch has the figure yet."""
        best, best_epoch = math.inf, None
        for result in history:
            figure = self._figure(result)
            if figure is not None and (best_epoch is None or figure < best - self.min_delta):
                best, best_epoch = figure, result.epoch
        return best_epoch

    def kept(self, history: History) -> EpochResult:
        """Return the result of the epoch whose weights the network keeps, of one that was trained."""
        best_epoch = self.best_epoch(history)
        return history[-1 if best_epoch is None else best_epoch - 1]

    def is_over(self, history: History) -> bool:
        """Return whether the last epoch has the figure, and comes so long after the best that the training ends."""
        best_epoch = self.best_epoch(history)
        if best_epoch is None or self._figure(history[-1]) is None:
            return False
        return history[-1].epoch - best_epoch >= self.patience

    def _figure(self, result: EpochResult) -> float | None:
        """Return what is to become small."""
        value: float | None = getattr(result, self.monitor)
        return -value if value is not None and self.monitor.endswith("accuracy") else value

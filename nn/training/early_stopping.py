"""Early stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...backends import look_up
from ...backends.constraints import NOT_NEGATIVE, whole
from .history import EpochResult, History

MONITORED = {name: name for name in ("validation_loss", "validation_accuracy", "train_loss")}


@dataclass(frozen=True)
class EarlyStopping:
    """Early stopping (Prechelt 1998), which restores the weights of the best epoch.

    It is stateless and depends only on the history, so a resumed run stops at the same epoch.

    Attributes:
        patience: epochs without improvement before training stops, at the next evaluation.
        min_delta: minimum improvement over the best value so far.
        monitor: monitored metric: "validation_loss", "validation_accuracy" or "train_loss".

    Raises:
        ConfigError: a setting has an invalid value.
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str = "validation_loss"

    def __post_init__(self) -> None:
        whole(1).check("patience", self.patience)
        NOT_NEGATIVE.check("min_delta", self.min_delta)
        look_up("monitor", self.monitor, MONITORED)

    def best_epoch(self, history: History) -> int | None:
        """Return the number of the best epoch, from 1; None before the first value."""
        best, best_epoch = math.inf, None
        for result in history:
            figure = self._figure(result)
            if figure is not None and (best_epoch is None or figure < best - self.min_delta):
                best, best_epoch = figure, result.epoch
        return best_epoch

    def kept(self, history: History) -> EpochResult:
        """Return the result of the epoch whose weights the network has after training."""
        best_epoch = self.best_epoch(history)
        return history[-1 if best_epoch is None else best_epoch - 1]

    def is_over(self, history: History) -> bool:
        """Return whether training should stop: patience is exhausted at an evaluated epoch."""
        best_epoch = self.best_epoch(history)
        if best_epoch is None or self._figure(history[-1]) is None:
            return False
        return history[-1].epoch - best_epoch >= self.patience

    def _figure(self, result: EpochResult) -> float | None:
        """Return the metric of an epoch, negated if larger is better."""
        value: float | None = getattr(result, self.monitor)
        return -value if value is not None and self.monitor.endswith("accuracy") else value

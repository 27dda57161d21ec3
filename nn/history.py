"""What a training run reports: one result an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True)
class EpochResult:
    """Figures of one epoch.

    Attributes:
        epoch: its number, from 1.
        train_loss: mean loss of the rows in the forward passes that trained on them, nats; without the L2 penalty.
        train_accuracy: share of those rows that were classified correctly, in [0, 1].
        test_loss: mean loss on the test rows after the epoch, nats; None without an evaluation.
        test_accuracy: share of the test rows that are classified correctly, in [0, 1]; None likewise.
        seconds: training alone, evaluation outside.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float | None
    seconds: float


class History(Sequence[EpochResult]):
    """The results of a run's epochs, in order."""

    def __init__(self, results: Iterable[EpochResult] = ()) -> None:
        self._results = list(results)

    @overload
    def __getitem__(self, index: int) -> EpochResult: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> EpochResult | History:
        return History(self._results[index]) if isinstance(index, slice) else self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs{f', last {self[-1]}' if self else ''})"

    def append(self, result: EpochResult) -> None:
        """Add the result of the next epoch."""
        self._results.append(result)

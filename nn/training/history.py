"""What a training run reports: one result an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class EpochResult:
    """Figures of one epoch.

    Attributes:
        epoch: its number, from 1.
        train_loss: mean loss of the rows in the forward passes that trained on them, nats for a cross-entropy; without
            the L2 penalty.
        train_accuracy: share of those rows that were classified correctly, in [0, 1]; None where rows are no classes.
        test_loss: mean loss on the test rows after the epoch; None without an evaluation.
        test_accuracy: share of the test rows that are classified correctly; None likewise.
        seconds: training alone, evaluation outside.
        validation_loss: mean loss on the validation rows after the epoch; None without them.
        validation_accuracy: share of the validation rows that are classified correctly; None likewise.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    seconds: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


FIGURES = tuple(field.name for field in fields(EpochResult))
ALWAYS = ("epoch", "train_loss", "seconds")  # the figures that no epoch lacks


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

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return each figure of all epochs, (epochs,): the epochs int64, the others float64, with NaN for none."""
        figures = {name: [getattr(result, name) for result in self] for name in FIGURES}
        columns = {name: np.array(values, dtype=np.float64) for name, values in figures.items()}  # None becomes NaN
        return columns | {"epoch": np.array(figures["epoch"], dtype=np.int64)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, npt.NDArray[Any]]) -> History:
        """Return the history that `columns` was called on.

        Raises:
            KeyError, ValueError: a column is missing, of another length or type, or its epochs are not 1, 2, ...
        """
        epochs = columns["epoch"]
        if epochs.dtype != np.int64 or not np.array_equal(epochs, np.arange(1, epochs.size + 1)):
            raise ValueError("the epochs of its history must be 1, 2, ...")
        values: dict[str, list[Any]] = {}
        for name in FIGURES:
            if columns[name].shape != epochs.shape or columns[name].dtype not in (np.float64, np.int64):
                raise ValueError(f"{name} of its history must be one number an epoch, got shape {columns[name].shape}")
            values[name] = columns[name].tolist()
            if name not in ALWAYS:
                values[name] = [None if math.isnan(number) else number for number in values[name]]
            if not all(number is None or math.isfinite(number) for number in values[name]):
                raise ValueError(f"{name} of its history must be finite")
        return cls(EpochResult(**dict(zip(FIGURES, row, strict=True))) for row in zip(*values.values(), strict=True))

    def append(self, result: EpochResult) -> None:
        """Add the result of the next epoch."""
        self._results.append(result)

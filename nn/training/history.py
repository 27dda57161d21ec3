"""History of a run: one result per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class EpochResult:
    """Metrics of one epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        train_loss: mean loss of the training forward passes, in nats for a cross-entropy, without the L2 penalty.
        train_accuracy: accuracy of the training forward passes, in [0, 1]; None without classes.
        test_loss: mean loss on the test set after the epoch; None if not evaluated.
        test_accuracy: accuracy on the test set; None likewise.
        seconds: training time, without evaluation.
        validation_loss: mean loss on the validation set after the epoch; None without one.
        validation_accuracy: accuracy on the validation set; None likewise.
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
    """Results of the epochs of a run, in order."""

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
        """Return each metric of all epochs, (epochs,): epochs as int64, the others as float64 with NaN for None."""
        figures = {name: [getattr(result, name) for result in self] for name in FIGURES}
        columns = {name: np.array(values, dtype=np.float64) for name, values in figures.items()}  # None becomes NaN
        return columns | {"epoch": np.array(figures["epoch"], dtype=np.int64)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, npt.NDArray[Any]]) -> History:
        """Return the history from its `columns`.

        Raises:
            KeyError, ValueError: a column is missing or has the wrong length or dtype, or epochs are not 1, 2, ...
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

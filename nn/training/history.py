"""History of a run: one result per epoch."""

from __future__ import annotations

import math
from collections import UserList
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

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


class History(UserList[EpochResult]):
    """Results of the epochs of a run, in order."""

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
            KeyError, TypeError, ValueError: a column is missing or has the wrong shape, epochs are not 1, 2, ..., or a
                number cannot be.
        """
        if columns["epoch"].dtype != np.int64:
            raise ValueError("the epochs of its history must be whole numbers")
        history = cls()
        for row in zip(*(columns[name].tolist() for name in FIGURES), strict=True):
            result = EpochResult(*(None if math.isnan(number) else number for number in row))  # type: ignore[arg-type]
            known = [number for number in astuple(result) if number is not None]
            is_complete = None not in (result.train_loss, result.seconds)
            if not (result.epoch == len(history) + 1 and is_complete and np.isfinite(known).all()):
                raise ValueError(f"its history cannot have {result} as epoch {len(history) + 1}")
            history.append(result)
        return history

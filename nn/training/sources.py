"""Sources of training rows: in memory or memory-mapped. See `streams` for streamed rows.

The loop does not depend on the kind of source.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DataError, Plan, Rows, Totals
from ...backends.constraints import is_finite_number, shown
from ...backends.override import override
from ...backends.reduction import shards_of
from ..datasets.dataset import Split
from ..datasets.split import split_places
from ..inputs.arguments import make_generator
from ..network.mlp import MLP
from .options import TrainingOptions

Order = npt.NDArray[np.int64] | None  # (rows,), or None for every row as it stands
VALIDATION_STREAM = 3  # keeps the split independent of what else is drawn from the same seed


class RowSource(ABC):
    """Source of the training rows of a run.

    Attributes:
        rows: rows with weights; zero rows of the network's shapes for streams.
        rows_per_epoch: None if unknown.
        steps_per_epoch: None if unknown.
        step_rows: rows per step; 1 if they vary.
        weight: denominator of the epoch's mean loss: rows, or the sum of their weights.
        can_repeat: whether steps of the current epoch can be repeated, so that a run can resume inside it.
    """

    can_repeat: ClassVar[bool] = True
    rows: Split
    rows_per_epoch: int | None
    steps_per_epoch: int | None
    step_rows: int
    weight: float

    def place(self, net: MLP) -> Rows:
        """Return the rows on the network's device."""
        return net.place(self.rows)

    @abstractmethod
    def begin(self, epoch: int, generator: np.random.Generator) -> None:
        """Begin an epoch, counted from 1, with an order from the generator.

        Raises:
            DataError: it has no rows.
        """

    @abstractmethod
    def take(self, plan: Plan, totals: Totals, rows: int, epochs: int) -> list[Totals]:
        """Run the next steps of the current epoch.

        Args:
            plan: plan that runs the steps.
            totals: sums over the epoch so far.
            rows: approximate number of rows.
            epochs: maximum number of epochs at once, for full batches.

        Returns:
            The sums over each epoch of these steps.

        Raises:
            DataError: rows do not fit the network.
        """

    @abstractmethod
    def is_over(self, totals: Totals) -> bool:
        """Return whether the current epoch has no more steps, given its sums so far."""

    def can_resume_at(self, position: int) -> bool:
        """Return whether a run can resume at a position in an epoch, in rows."""
        return position == 0

    def batches(self, generator: np.random.Generator, position: int) -> Iterator[Order]:
        """Yield the batches of another epoch from a position on; requires `can_repeat`."""
        raise NotImplementedError

    @abstractmethod
    def place_of(self, step: int) -> str:
        """Describe the position of a step, counted from 0 over all epochs."""


class ResidentRows(RowSource):
    """Rows in memory.

    Args:
        rows: training rows with weights.
        options: training options.
        ranks: number of processes.

    Raises:
        ConfigError: batches are too small for the processes.
    """

    def __init__(self, rows: Split, options: TrainingOptions, ranks: int) -> None:
        count, size = len(rows), options.rows_of_step(len(rows))
        most = shards_of(size) if options.reproducible else size
        if ranks > most:
            shards = f", whose {most} shards are added up in a fixed order," if options.reproducible else ""
            raise ConfigError(
                f"{ranks} processes cannot share batches of {size} rows{shards} as there are more than "
                f"{most}: start fewer, or make larger batches"
            )
        self.rows, self.rows_per_epoch, self.step_rows = rows, count, size
        self.steps_per_epoch = -(-count // size)
        self.weight = float(count if rows.weights is None else rows.weights.sum())
        self._count, self._shuffle = count, options.shuffle
        self._order: Order = None

    @staticmethod
    def hold_out(net: MLP, rows: Split, share: float, seed: int | np.random.Generator) -> tuple[Split, Split]:
        """Split off a validation set, stratified by class if every class has more than one row.

        Raises:
            DataError: a part would be empty.
        """
        count, _ = len(rows), held_out(rows, share)
        classes = rows.labels if net.outputs.has_classes else np.zeros(count, dtype=np.int64)  # (rows,)
        kept, held = split_places(
            classes,
            test_fraction=float(share),
            seed=make_generator(seed, stream=VALIDATION_STREAM),
            stratify=int(np.unique(classes, return_counts=True)[1].min()) > 1,
        )
        return rows.take(np.sort(kept)), rows.take(np.sort(held))

    @override
    def begin(self, epoch: int, generator: np.random.Generator) -> None:
        self._order = self._draw(generator)

    @override
    def take(self, plan: Plan, totals: Totals, rows: int, epochs: int) -> list[Totals]:
        if self._order is None:
            return plan.run_epochs(min(rows // self._count, epochs))
        return [plan.run(self._order[totals.rows : totals.rows + rows], totals)]

    @override
    def is_over(self, totals: Totals) -> bool:
        return totals.rows == self._count

    @override
    def can_resume_at(self, position: int) -> bool:
        return 0 <= position <= self._count and (position % self.step_rows == 0 or position == self._count)

    @override
    def batches(self, generator: np.random.Generator, position: int) -> Iterator[Order]:
        order = self._draw(generator)
        for start in range(position, self._count, self.step_rows):
            yield None if order is None else order[start : start + self.step_rows]

    @override
    def place_of(self, step: int) -> str:
        epoch, of_epoch = divmod(step, -(-self._count // self.step_rows))
        return f"epoch {epoch + 1}, step {of_epoch + 1} of {self.steps_per_epoch}"

    def _draw(self, generator: np.random.Generator) -> Order:
        """Draw the order of the next epoch, (rows,), or None for a full batch."""
        if self.step_rows == self._count:
            return None
        return generator.permutation(self._count) if self._shuffle else np.arange(self._count)


class MappedRows(ResidentRows):
    """Memory-mapped rows."""

    @staticmethod
    def hold_out(net: MLP, rows: Split, share: float, seed: int | np.random.Generator) -> tuple[Split, Split]:  # noqa: ARG004
        """Split off the last rows of the file for validation."""
        cut = len(rows) - held_out(rows, share)
        return rows.take(slice(0, cut)), rows.take(slice(cut, len(rows)))


def held_out(rows: Split, share: float) -> int:
    """Return the number of rows to hold out.

    Raises:
        ConfigError: it is not a fraction.
        DataError: training or validation set would be empty.
    """
    count = len(rows)
    if not (is_finite_number(share, least=0) and 0 < share < 1):
        raise ConfigError(
            "validation must be an nn.Split, or the share of the training rows to hold out, in (0, 1), "
            f"got {shown(share)}"
        )
    number = int(count * share + 0.5)
    if not 0 < number < count:
        raise DataError(f"{count} rows at validation={share} leave one part empty: give more rows or another share")
    return number

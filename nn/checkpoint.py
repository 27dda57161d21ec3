"""Where a training stands: all that is needed to go on from there as if it had never stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import ConfigError, DataError, DivergenceError, ModelFileError, Totals
from ..backends.finite import first_not_finite
from .history import History
from .tensor_files import Arrays, read_tensors, write_tensors

KIND = "checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """State of a training between two chunks of steps, on the host.

    Attributes:
        parameters: weights and biases by name.
        optimizer_state: the optimizer's arrays by name.
        step: optimizer steps taken.
        generator_state: of the generator of the orders, before it drew the present epoch's.
        epoch: the present epoch, from 1.
        position: rows of it that have been trained on.
        totals: sums over those rows.
        seconds: training time of the present epoch so far.
        history: results of the finished epochs.
        training: which training it is of: network, optimizer, schedule, batches and a check sum of the rows.
    """

    parameters: Arrays
    optimizer_state: Arrays
    step: int
    generator_state: dict[str, Any]
    epoch: int
    position: int
    totals: Totals
    seconds: float
    history: History
    training: Mapping[str, Any]

    def check_fits(self, training: Mapping[str, Any], *, epochs: int) -> None:
        """Refuse to be resumed by another training than the one that it was taken of.

        Args:
            training: which training is to go on; see `TrainingSettings.identity`.
            epochs: epochs of the whole of it.

        Raises:
            ConfigError: the training has other settings or other rows.
            DataError: the position cannot be one of that training.
        """
        for name in sorted(training.keys() | self.training.keys()):
            was, now = self.training.get(name), training.get(name)
            if was != now:
                raise ConfigError(
                    f"the checkpoint is of a training with {name} {was!r:.120}, this one has {now!r:.120}: "
                    "resume it with its own network, data and settings, or load its model and train that anew"
                )
        rows, batch_size = training["number of rows"], training["batch_size"]
        at_a_batch = 0 <= self.position <= rows and (self.position % batch_size == 0 or self.position == rows)
        if not (at_a_batch and self.position == self.totals.rows and 1 <= self.epoch <= epochs + 1):
            raise DataError(
                f"the checkpoint is at row {self.position} of epoch {self.epoch}, but this training has {rows} rows "
                f"in batches of {batch_size} and {epochs} epochs: resume it with no fewer epochs"
            )

    def check_sizes(self, sizes: Sequence[int]) -> None:
        """Refuse another network, before one of these sizes is made.

        Raises:
            ConfigError: the checkpoint's has other sizes.
        """
        if self.training.get("sizes") != list(sizes):
            raise ConfigError(f"the checkpoint is of a network {self.training.get('sizes')}, not {list(sizes)}")

    def restore_generator(self, generator: np.random.Generator) -> None:
        """Put the generator of the orders where it was before the present epoch's order.

        Raises:
            DataError: the state is of another kind of generator.
        """
        try:
            generator.bit_generator.state = self.generator_state
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the checkpoint's orders came from another kind of generator ({error}): pass its own"
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one safetensors file.

        Raises:
            StorageError: the file cannot be written; what stood there before is untouched.
            DivergenceError: a number in it is not finite; likewise.
        """
        if place := first_not_finite(self.parameters | self.optimizer_state):
            raise DivergenceError(f"{path} is not written, because {place}: the last good checkpoint is kept")
        arrays = {f"parameters/{name}": array for name, array in self.parameters.items()}
        arrays |= {f"optimizer/{name}": array for name, array in self.optimizer_state.items()}
        arrays |= {f"history/{name}": column for name, column in self.history.columns().items()}
        description = {
            "kind": KIND,
            "step": self.step,
            "generator_state": self.generator_state,
            "epoch": self.epoch,
            "position": self.position,
            "totals": list(self.totals),
            "seconds": self.seconds,
            "training": self.training,
        }
        write_tensors(Path(path), arrays, description)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read a checkpoint that `save` wrote.

        Raises:
            ModelFileError: the file is missing or damaged.
        """
        arrays, description = read_tensors(Path(path), KIND)
        try:
            loss_sum, correct, rows = description["totals"]
            parts = {prefix: _with_prefix(arrays, f"{prefix}/") for prefix in ("parameters", "optimizer", "history")}
            if unknown := arrays.keys() - {f"{prefix}/{name}" for prefix, part in parts.items() for name in part}:
                raise ValueError(f"it has an array {min(unknown)!r:.80}, which belongs to no checkpoint")
            if place := first_not_finite(parts["parameters"] | parts["optimizer"]):
                raise ValueError(place)
            return cls(
                parameters=parts["parameters"],
                optimizer_state=parts["optimizer"],
                step=int(description["step"]),
                generator_state=dict(description["generator_state"]),
                epoch=int(description["epoch"]),
                position=int(description["position"]),
                totals=Totals(float(loss_sum), int(correct), int(rows)),
                seconds=float(description["seconds"]),
                history=History.from_columns(parts["history"]),
                training=dict(description["training"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"{path} is damaged or was written by another version: {error}") from error


def _with_prefix(arrays: Arrays, prefix: str) -> Arrays:
    """Return the arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

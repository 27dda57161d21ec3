"""Checkpoints: the complete state of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...backends import ConfigError, DataError, DivergenceError, ModelFileError, Totals
from ...backends.constraints import NOT_NEGATIVE, whole
from ...backends.finite import first_not_finite
from ..files.data_file import existing_path
from ..files.tensors import Arrays, read_tensors, write_tensors
from ..files.text import printable, reason_of
from .history import History
from .identity import Identity

KIND = "checkpoint"
FILE_NAME = "checkpoint.safetensors"  # in a run folder
PARTS = ("parameters", "optimizer_state", "best")  # before a slash in the names of its arrays, beside "history"
FIELDS = ("step", "generator_state", "epoch", "position", "totals", "seconds", "training")  # in its description


class OptimizerState(NamedTuple):
    """Step count and state arrays of an optimizer.

    Attributes:
        step: steps taken.
        arrays: `layers.<k>.<weight|bias>.<slot>` -> array of the parameter's shape.
    """

    step: int
    arrays: Arrays


@dataclass(frozen=True)
class Checkpoint:
    """State of a run between two chunks of steps, on the host.

    Attributes:
        parameters: weights and biases by name.
        optimizer_state: the optimizer's arrays by name.
        step: optimizer steps taken.
        generator_state: state of the order generator at the start of the current epoch.
        epoch: current epoch, from 1.
        position: rows of the epoch processed so far.
        totals: sums over those rows.
        seconds: training time of the current epoch so far.
        history: results of the finished epochs.
        training: identity of the run: network, optimizer, schedule, batches and a checksum of the rows.
        best: parameters of the best epoch, with early stopping; otherwise empty.
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
    best: Arrays = field(default_factory=dict)

    def check_fits(self, identity: Identity) -> None:
        """Check that a run can resume from this checkpoint, without changing its network.

        Raises:
            ConfigError: options or rows differ.
            DataError: its position does not exist in the run.
            ModelFileError: its arrays belong to another network or optimizer.
        """
        net, source, options = identity.net, identity.source, identity.options
        for name in sorted(identity.parts.keys() | self.training.keys()):
            self._check_same(name, identity.parts.get(name))
        is_in_run = source.can_resume_at(self.position) and 1 <= self.epoch <= options.epochs + 1
        if not (is_in_run and self.position == self.totals.rows):
            raise DataError(
                f"the checkpoint is at row {self.position} of epoch {self.epoch}, but this training has "
                f"{len(source.rows)} rows in batches of {source.step_rows} and {options.epochs} epochs: resume it with "
                "no fewer epochs"
            )
        steps = self.step
        if source.steps_per_epoch is not None:
            of_epoch = -(-self.position // source.step_rows)
            steps = identity.first_step - 1 + (self.epoch - 1) * source.steps_per_epoch + of_epoch
        if (self.step, len(self.history)) != (steps, self.epoch - 1):
            raise DataError(
                f"the checkpoint has taken {self.step} steps and finished {len(self.history)} epochs, but at row "
                f"{self.position} of epoch {self.epoch} it must be {steps} and {self.epoch - 1}: take another copy"
            )
        slots = options.optimizer.init(np, np.empty(0))
        shapes = net.parameter_shapes()
        of_slots = {f"{name}.{slot}": shape for name, shape in shapes.items() for slot in slots}
        of_best = shapes if self.best else {}
        for arrays, expected in ((self.parameters, shapes), (self.optimizer_state, of_slots), (self.best, of_best)):
            found = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
            if found != {name: (shape, net.dtype) for name, shape in expected.items()}:
                raise ModelFileError(
                    "the arrays of the checkpoint are of another network or optimizer, though its description is of "
                    "this one: take another copy"
                )

    def check_sizes(self, sizes: Sequence[int]) -> None:
        """Check the sizes of a network before it is created.

        Raises:
            ConfigError: they differ from the checkpoint's.
        """
        self._check_same("sizes", list(sizes))

    def _check_same(self, name: str, now: object) -> None:
        """Check that one property of the run is the same."""
        if (was := self.training.get(name)) != now:
            raise ConfigError(
                f"the checkpoint belongs to a run with {printable(name):.80} {was!r:.120}, this one has {now!r:.120}: "
                "resume it with its own network, data and settings, or load its model and start a new run"
            )

    def check_generator(self, generator: np.random.Generator) -> None:
        """Check that a generator can be set to the checkpoint's state, without changing it.

        Raises:
            DataError: the state belongs to another kind of generator.
        """
        fresh = type(generator.bit_generator)()
        try:
            fresh.state = self.generator_state
            is_same = _as_json(fresh.state) == _as_json(self.generator_state)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise DataError(
                f"the checkpoint's orders came from another kind of generator ({reason_of(error)}): pass its own"
            ) from error
        if not is_same:  # it takes 1.5 for 1
            raise DataError("the state of the checkpoint's generator cannot be: take another copy")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the checkpoint as a safetensors file.

        Raises:
            StorageError: the file cannot be written; an existing file is left unchanged.
            DivergenceError: a number is not finite; likewise.
        """
        if place := first_not_finite(self.parameters | self.optimizer_state):
            raise DivergenceError(f"{path} is not written, because of {place}: the last good checkpoint is kept")
        arrays = {f"{part}/{name}": array for part in PARTS for name, array in getattr(self, part).items()}
        arrays |= {f"history/{name}": column for name, column in self.history.columns().items()}
        write_tensors(
            Path(path), arrays, {"kind": KIND} | {name: getattr(self, name) for name in FIELDS}, always_atomic=True
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Load a saved checkpoint.

        Args:
            path: the file, or its run folder.

        Raises:
            ModelFileError: the file is missing or damaged.
            ConfigError: `path` is not a path.
        """
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"a checkpoint must be an nn.Checkpoint or a path, got {path!r:.80}")
        found = existing_path(path)
        is_folder = found is not None and found.is_dir()
        arrays, description = read_tensors(Path(path) / FILE_NAME if is_folder else Path(path), KIND)
        try:
            parts: dict[str, Arrays] = {part: {} for part in (*PARTS, "history")}
            for name, array in arrays.items():
                part, _, own_name = name.partition("/")
                if part not in parts:
                    raise ValueError(f"it has an array {name!r:.80}, which belongs to no checkpoint")
                parts[part][own_name] = array
                if part != "history" and (place := first_not_finite({name: array})):
                    raise ValueError(f"there is {place}")
            values = {name: description[name] for name in FIELDS}
            totals = Totals(*values["totals"])
            counts = {name: values[name] for name in ("step", "epoch", "position")} | totals._asdict()
            NOT_NEGATIVE.check("its loss", counts.pop("loss_sum"))
            NOT_NEGATIVE.check("its seconds", values["seconds"])
            for name, count in counts.items():
                whole(0).check(f"its {name}", count)
            if totals.correct > totals.rows:
                raise ValueError(f"its sums cannot be {totals}")
            values |= {name: dict(values[name]) for name in ("generator_state", "training")}
            values |= {"totals": totals, **parts, "history": History.from_columns(parts["history"])}
            return cls(**values)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"{path} is damaged or was written by another version: {reason_of(error)}") from error


def _as_json(state: Mapping[str, Any]) -> str:
    """Return a generator's state as JSON, with arrays as lists."""
    return json.dumps(state, default=np.ndarray.tolist, sort_keys=True)

"""Training options and their validation."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends import ConfigError, Optimizer
from ...backends.reduction import shards_of
from ..datasets.dataset import Split
from ..inputs.arguments import is_finite_number, is_whole, row_blocks
from ..network.mlp import MLP
from .early_stopping import EarlyStopping
from .schedules import Schedule, learning_rate_at

SAMPLED = (0.0, 0.2, 0.4, 0.6, 0.8)  # of the progress: where a schedule that is a function is looked at


@dataclass(frozen=True)
class TrainingSettings:
    """The arguments of `nn.train` that decide the steps, as it describes them, and what was made of them.

    Args:
        optimizer: how gradients become steps.
        epochs: passes over the training rows.
        batch_size: rows of one step, those of all its accumulated parts together.
        schedule: what the learning rate is multiplied by.
        warmup_steps: steps over which the learning rate first rises.
        l2: strength of the penalty on squared weights.
        shuffle: whether every epoch has a new order of rows.
        evaluate_every: epochs from one evaluation to the next.
        rows: number of training rows.
        l2_per_batch: whether the penalty is divided by the rows of the batch.
        dropout: share of the hidden units that a step leaves out.
        clip_norm: longest gradient, or None.
        accumulate: parts that a step's gradient is added up of.
        early_stopping: when to stop before the last epoch, or None.
        first_step: number of the first step, from 1; more where the optimizer goes on from an earlier training.
        are_steps_known: whether the epochs have `steps_per_epoch` steps; of batches from outside, nobody may know.
        reproducible: whether the result has the same bits on any number of processes.
        ranks: number of processes; no part of what the training is, but each must have something to do.

    Raises:
        ConfigError: an argument has a value or a type that it cannot have.
    """

    optimizer: Optimizer
    epochs: int
    batch_size: int
    schedule: str | Schedule
    warmup_steps: int
    l2: float
    shuffle: bool
    evaluate_every: int
    rows: int
    l2_per_batch: bool = False
    dropout: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1
    early_stopping: EarlyStopping | None = None
    first_step: int = 1
    are_steps_known: bool = True
    reproducible: bool = False
    ranks: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            raise ConfigError(f"optimizer must be one such as nn.Adam(1e-3), got {self.optimizer!r:.80}")
        for name, least in (("epochs", 1), ("evaluate_every", 1), ("warmup_steps", 0), ("accumulate", 1)):
            number = getattr(self, name)
            if not is_whole(number, least=least):
                raise ConfigError(f"{name} must be a whole number >= {least}, got {number!r:.80}")
        if not is_whole(self.batch_size, least=1) or self.batch_size > self.rows:
            times = f", times accumulate={self.accumulate}," if self.accumulate > 1 else ""
            raise ConfigError(
                f"batch_size{times} must be a whole number in [1, {self.rows}], the number of training rows, "
                f"got {self.batch_size!r:.80}; None (on the command line: full) takes all rows"
            )
        if not (isinstance(self.schedule, str) or callable(self.schedule)):
            raise ConfigError(f"schedule must be a name or a function of the progress, got {self.schedule!r:.80}")
        if not is_finite_number(self.l2, least=0):
            raise ConfigError(f"l2 must be a finite number >= 0, got {self.l2!r:.80}")
        if not (is_finite_number(self.dropout, least=0) and self.dropout < 1):
            raise ConfigError(f"dropout must be a share in [0, 1), got {self.dropout!r:.80}")
        if self.clip_norm is not None and not (is_finite_number(self.clip_norm, least=0) and self.clip_norm > 0):
            raise ConfigError(f"clip_norm must be a finite number > 0, or None, got {self.clip_norm!r:.80}")
        if not isinstance(self.reproducible, bool):
            raise ConfigError(f"reproducible must be True or False, got {self.reproducible!r:.80}")
        most = self.batch_size if self.shards is None else self.shards
        if self.ranks > most:
            shards = "" if self.shards is None else f", whose {self.shards} shards are added up in a fixed order,"
            raise ConfigError(
                f"{self.ranks} processes cannot share batches of {self.batch_size} rows{shards} as there are more than "
                f"{most}: start fewer, or make larger batches"
            )
        if not isinstance(self.early_stopping, EarlyStopping | None):
            raise ConfigError(f"early_stopping must be one such as nn.EarlyStopping(), got {self.early_stopping!r:.80}")

    @property
    def shards(self) -> int | None:
        """Parts of a batch whose gradients are added up in a fixed order; None where their order is of no matter."""
        return shards_of(self.batch_size) if self.reproducible else None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch, the last of which may have fewer rows."""
        return -(-self.rows // self.batch_size)

    def learning_rate(self) -> Callable[[int], float]:
        """Return the function from step number to learning rate; the schedule begins at the first step.

        Raises:
            ConfigError: the schedule is unknown, or the warm-up takes all the steps.
        """
        at = learning_rate_at(
            self.optimizer.learning_rate,
            self.schedule,
            total_steps=self.epochs * self.steps_per_epoch,
            warmup_steps=self.warmup_steps,
        )
        return at if self.first_step == 1 else lambda step: at(step - self.first_step + 1)

    def identity(
        self, net: MLP, rows: Split, validation: Split | None, scale: float, dropout_seed: int
    ) -> dict[str, Any]:
        """Return what decides which training it is: a checkpoint of one is no start for another.

        The number of epochs and the patience are no part of it: a training may go on for longer.

        Args:
            net: the network.
            rows: the training rows.
            validation: the rows that early stopping may go by.
            scale: what their integers are multiplied by.
            dropout_seed: what decides which units the steps leave out.
        """
        stopping = self.early_stopping
        return {
            "sizes": list(net.sizes),
            "activation": net.activation,
            "loss": net.loss,
            "dtype": net.dtype,
            "optimizer": repr(self.optimizer),
            "batch_size": int(self.batch_size),
            "schedule": self.schedule if isinstance(self.schedule, str) else [self.schedule(at) for at in SAMPLED],
            "warmup_steps": int(self.warmup_steps),
            "l2": float(self.l2),
            "l2_per_batch": bool(self.l2_per_batch),
            "dropout": float(self.dropout),
            "dropout seed": dropout_seed,
            "clip_norm": None if self.clip_norm is None else float(self.clip_norm),
            "accumulate": int(self.accumulate),
            "shards": self.shards,
            "first step": self.first_step,
            "shuffle": bool(self.shuffle),
            "input_scale": float(scale),
            "number of rows": len(rows),
            "check sum of the rows": check_sum(rows),
            "check sum of the validation rows": None if validation is None else check_sum(validation),
            "best epoch": None if stopping is None else [stopping.monitor, float(stopping.min_delta)],
        }


def check_sum(rows: Split) -> int:
    """Return a number that changes with any pixel, label or weight: CRC-32, quick and no protection from intent."""
    labels = np.asarray(rows.labels, dtype=np.int64 if rows.labels.ndim == 1 else np.float64)
    number = rows.facts.check_sum
    for array in (labels, rows.weights):
        for _, block in row_blocks(array) if array is not None else ():
            number = zlib.crc32(np.ascontiguousarray(block).data.cast("B"), number)
    return number

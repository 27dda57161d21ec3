"""What decides a training, and what is refused before anything is placed on a device or changed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends import ConfigError, Optimizer
from .argument_checks import is_finite_number, is_whole
from .datasets.dataset import Split
from .mlp import MLP
from .schedules import Schedule, learning_rate_at

SAMPLED = (0.0, 0.2, 0.4, 0.6, 0.8)  # of the progress: where a schedule that is a function is looked at


@dataclass(frozen=True)
class TrainingSettings:
    """The arguments of `nn.train` that decide the steps, as it describes them.

    Args:
        optimizer: how gradients become steps.
        epochs: passes over the training rows.
        batch_size: rows of one step.
        schedule: what the learning rate is multiplied by.
        warmup_steps: steps over which the learning rate first rises.
        l2: strength of the penalty on squared weights.
        shuffle: whether every epoch has a new order of rows.
        evaluate_every: epochs from one evaluation to the next.
        rows: number of training rows.

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

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            raise ConfigError(f"optimizer must be one such as nn.Adam(1e-3), got {self.optimizer!r:.80}")
        for name, least in (("epochs", 1), ("evaluate_every", 1), ("warmup_steps", 0)):
            number = getattr(self, name)
            if not is_whole(number, least=least):
                raise ConfigError(f"{name} must be a whole number >= {least}, got {number!r:.80}")
        if not is_whole(self.batch_size, least=1) or self.batch_size > self.rows:
            raise ConfigError(
                f"batch_size must be a whole number in [1, {self.rows}], the number of training rows, "
                f"got {self.batch_size!r:.80}; None (on the command line: full) takes all rows"
            )
        if not (isinstance(self.schedule, str) or callable(self.schedule)):
            raise ConfigError(f"schedule must be a name or a function of the progress, got {self.schedule!r:.80}")
        if not is_finite_number(self.l2, least=0):
            raise ConfigError(f"l2 must be a finite number >= 0, got {self.l2!r:.80}")

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch, the last of which may have fewer rows."""
        return -(-self.rows // self.batch_size)

    def learning_rate(self) -> Callable[[int], float]:
        """Return the function from step number, counted from 1, to learning rate.

        Raises:
            ConfigError: the schedule is unknown, or the warm-up takes all the steps.
        """
        return learning_rate_at(
            self.optimizer.learning_rate,
            self.schedule,
            total_steps=self.epochs * self.steps_per_epoch,
            warmup_steps=self.warmup_steps,
        )

    def identity(self, net: MLP, rows: Split, scale: float) -> dict[str, Any]:
        """Return all but the epochs that decides which training it is: a checkpoint of one is no start for another.

        Args:
            net: the network.
            rows: the training rows.
            scale: what their integers are multiplied by.
        """
        return {
            "sizes": list(net.sizes),
            "activation": net.activation,
            "dtype": net.dtype,
            "optimizer": repr(self.optimizer),
            "batch_size": int(self.batch_size),
            "schedule": self.schedule if isinstance(self.schedule, str) else [self.schedule(at) for at in SAMPLED],
            "warmup_steps": int(self.warmup_steps),
            "l2": float(self.l2),
            "shuffle": bool(self.shuffle),
            "input_scale": float(scale),
            "number of rows": len(rows),
            "check sum of the rows": check_sum(rows),
        }


def check_sum(rows: Split) -> int:
    """Return a number that changes with any pixel or label: CRC-32, which is quick and no protection from intent."""
    images, labels = np.ascontiguousarray(rows.images), np.ascontiguousarray(rows.labels, dtype=np.int64)
    return zlib.crc32(labels.data.cast("B"), zlib.crc32(images.data.cast("B")))

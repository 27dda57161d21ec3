"""Learning-rate schedules: factors of the learning rate.

A schedule is a function of the progress, from 0 at the first step towards 1 at the last. A new one is a function and
a row in `SCHEDULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ...backends import ConfigError, look_up

Schedule = Callable[[float], float]  # progress in [0, 1) -> factor of the learning rate


def constant(progress: float) -> float:  # noqa: ARG001
    """Always 1."""
    return 1.0


def step(progress: float) -> float:
    """Step decay: 1, 0.1 from one half on, 0.01 from three quarters on (He et al. 2016, section 4.2)."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def cosine(progress: float) -> float:
    """Cosine decay from 1 to 0 (Loshchilov and Hutter 2017, equation 5)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "step": step, "cosine": cosine}


def learning_rate_at(
    learning_rate: float, schedule: str | Schedule, *, total_steps: int, warmup_steps: int = 0, first_step: int = 1
) -> Callable[[int], float]:
    """Return the function from step number to learning rate.

    Args:
        learning_rate: base learning rate.
        schedule: a row of `SCHEDULES`, or a function of the progress.
        total_steps: steps of the run, including warm-up.
        warmup_steps: steps of linear warm-up from `learning_rate / warmup_steps` (Goyal et al. 2017, section 2.2),
            before the schedule begins.
        first_step: number of the step at which the schedule, or its warm-up, begins.

    Raises:
        ConfigError: the schedule is unknown, or the warm-up takes all steps.
    """
    factor = look_up("schedule", schedule, SCHEDULES) if isinstance(schedule, str) else schedule
    if not 0 <= warmup_steps < total_steps:
        raise ConfigError(f"warmup_steps must be in [0, {total_steps}), the steps of this training, got {warmup_steps}")

    def at(number: int) -> float:
        taken = number - first_step  # steps before this one
        if taken < warmup_steps:
            return learning_rate * (taken + 1) / warmup_steps
        return learning_rate * factor((taken - warmup_steps) / (total_steps - warmup_steps))

    return at

"""Detection and localization of divergence."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import DivergenceError, Plan, Totals
from ...backends.activations import Array
from ...backends.checked_plan import CheckedPlan, NotFinite
from ...backends.finite import first_not_finite
from .checkpoint import OptimizerState
from .run import TrainingRun
from .sources import Order

LOOK_SECONDS = 0.01  # shortest time between two looks at the weights: a tiny network takes many chunks meanwhile
KEEP_SECONDS = 1.0  # shortest time between two states that are kept
KEEP_SHARE = 0.01  # of the training time, what keeping them may take


@dataclass(frozen=True)
class Snapshot:
    """Snapshot of a run on the host: arrays by name, and position; no optimizer state before the first step."""

    parameters: dict[str, npt.NDArray[Any]]
    optimizer_state: dict[str, npt.NDArray[Any]]
    step: int
    generator_state: dict[str, Any]
    position: int

    @classmethod
    def of(cls, run: TrainingRun, plan: Plan, state: OptimizerState | None = None, *, copy: bool = True) -> Snapshot:
        """Take a snapshot of a run with its plan.

        Args:
            run: the run.
            plan: its plan.
            state: the plan's state, if it is on the host already.
            copy: whether to copy parameters on the host, which the next run of the plan may overwrite.
        """
        arrays = state.arrays if state is not None else plan.state() if plan.step else {}
        return cls(run.net.parameters(copy=copy), arrays, plan.step, run.epoch_start_state, run.position)

    def first_not_finite(self) -> str | None:
        """Describe its first infinity or NaN; None if all numbers are finite."""
        slots = {f"the optimizer's {name}": array for name, array in self.optimizer_state.items()}
        return first_not_finite(slots | self.parameters)


class Watch:
    """Monitor of a run that raises if its numbers are not finite after a chunk.

    It takes a snapshot of the last good state at most once a second. On divergence, the steps from there are repeated
    one by one to find the first bad step, which is then repeated with a check of every array.

    Args:
        run: the run, before its first chunk.
    """

    def __init__(self, run: TrainingRun) -> None:
        self._run = run
        self._good = Snapshot.of(run, run.plan, run.first_state, copy=False)  # the first run replaces the arrays
        self._clock = self._look_from = 0.0  # seconds of training, the same on all ranks
        self._keep_from, self._looked_at = KEEP_SECONDS, -1  # the step after which the weights were looked at
        run.watch = self

    def check(self, sums: Sequence[Totals], elapsed: float) -> None:
        """Check the sums of a chunk and, from time to time, the weights or the complete state.

        Args:
            sums: sums of each epoch of the chunk.
            elapsed: duration of the chunk in seconds.

        Raises:
            DivergenceError: a number is not finite; the network is reset to the weights before the bad step.
        """
        if not is_finite(sums):
            raise self.divergence()
        self._clock += elapsed
        if self._clock >= self._look_from:
            self._look_from, self._looked_at = self._clock + LOOK_SECONDS, self._run.plan.step
            if not self._run.net.are_finite():
                raise self.divergence()
        if self._clock >= self._keep_from:
            self.check_state()

    def parameters_before(self) -> list[tuple[Array, Array]]:
        """Return weight and bias of each layer in arrays that the next chunk leaves as they are."""
        good, net = self._good.parameters, self._run.net
        pairs = [(layer.weight, layer.bias) for layer in net.layers]
        if all(a is b for a, b in zip(chain(*pairs), good.values(), strict=True)):
            return pairs  # a first run does not overwrite them
        with net.backend.scope():
            copied = partial(net.backend.xp.asarray, copy=True)
            return [(copied(weight), copied(bias)) for weight, bias in pairs]

    def check_state(self, *, is_last: bool = False) -> Snapshot:
        """Check weights and optimizer state, and return a snapshot of them.

        Args:
            is_last: whether the plan is not run again: its arrays are not copied then.

        Raises:
            DivergenceError: as in `check`.
        """
        began = time.perf_counter()
        plan = self._run.plan
        slots = OptimizerState(plan.step, plan.final_state() if is_last else plan.state())
        is_known = is_last and plan.step == self._looked_at
        if not (is_known or self._run.net.are_finite()) or first_not_finite(slots.arrays) is not None:
            raise self.divergence()
        del self._good  # two of all arrays would be the most memory that a run takes
        state = Snapshot.of(self._run, plan, slots, copy=not is_last)
        took = self._run.communicator.exchange(time.perf_counter() - began)[0]
        self._good, self._keep_from = state, self._clock + max(KEEP_SECONDS, took / KEEP_SHARE)
        return state

    def divergence(self) -> DivergenceError:
        """Return to the last good state, find the bad step from there, and return the error to raise.

        A collective operation in distributed training.
        """
        with np.errstate(all="ignore"):
            return diverged(self._run, *self._find())

    def divergence_of(self, found: str) -> DivergenceError:
        """Return the error to raise for an error found while saving a checkpoint, which only one process does."""
        alone = self._run.communicator.size == 1
        return self.divergence() if alone else diverged(self._run, self._run.plan.step, found)

    def _find(self) -> tuple[int, str]:
        """Return the first bad step and a description of its first bad number."""
        run, last = self._run, self._run.plan.step
        if not run.source.can_repeat:
            run.net.load_parameters(self._good.parameters)
            return last, (
                "the loss or a number of the network is no longer finite, and its batches cannot be gone through again "
                "to find where that began (detect_anomaly=True would have told)"
            )
        plan = run.net.backend.compile(run.plan.job)  # nothing is left in it of the numbers that went wrong
        self._go_to(plan, self._good)
        run.generator.bit_generator.state = self._good.generator_state
        before, position = self._good, self._good.position
        while plan.step < last:
            for batch in run.source.batches(run.generator, position):
                totals = plan.run(batch)
                after = Snapshot.of(run, plan)
                found = after.first_not_finite() or (None if is_finite([totals]) else "the loss is not finite")
                if found is not None:
                    return plan.step, self._first_operation(before, batch) or found
                before = after
            position = 0
        return last, "it could not be found again: the same steps from the last good state gave finite numbers"

    def _first_operation(self, before: Snapshot, batch: Order) -> str | None:
        """Run one step with checks of every array; None if rounding or a fused operation keeps it finite there."""
        plan = CheckedPlan(self._run.net.backend, self._run.plan.job)
        self._go_to(plan, before)
        try:
            plan.run(batch)
        except NotFinite as error:
            return error.found
        finally:
            self._run.net.load_parameters(before.parameters)
        return None

    def _go_to(self, plan: Plan, state: Snapshot) -> None:
        """Restore the network and a plan from a snapshot."""
        self._run.net.load_parameters(state.parameters)
        if state.step or state.optimizer_state:
            plan.load_state(state.optimizer_state, state.step)


def is_finite(sums: Sequence[Totals]) -> bool:
    """Return whether all sums of losses are finite."""
    return all(math.isfinite(totals.loss_sum) for totals in sums)


def diverged(run: TrainingRun, step: int, found: str) -> DivergenceError:
    """Return the error of a run that diverged at a step, counted from 1."""
    place = run.source.place_of(step - run.identity.first_step)
    rate = float(run.plan.job.learning_rates(step, 1)[0])
    return DivergenceError(f"the training diverged in {place}: {found}; lower the learning rate, which was {rate:.3g}")

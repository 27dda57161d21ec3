"""Numba plan: the steps of a run in one compiled call, gone through by a team of threads side by side."""

from __future__ import annotations

from time import perf_counter, process_time
from typing import Any

import numpy as np
import numpy.typing as npt

from ..optimizers import Optimizer
from ..plan import NO_ROWS, Totals, TrainingJob, checked_order
from ..sparse_rows import numbers_of
from .compiler.compile import announced, entry_of
from .compiler.pace import Pace
from .compiler.team import ALONE
from .engine import Engine, EnginePlan
from .network.functions import activation_code
from .network.layout import are_layers, rows_of
from .network.optimizers import rule_of
from .network.targets import are_targets, loss_code
from .steps.batches import RunSteps, new_sums, sizes_and_penalties
from .steps.clipping import WAYS, new_clipping, train_clipped


class NumbaPlan(EnginePlan):
    """All steps of a run in one call of compiled code.

    The engine keeps the parameters and the optimizer's slots in a layout of its own; a run begins with a copy of the
    layers' arrays and ends with one into arrays of the plan's, which it puts into the layers.
    """

    def __init__(self, job: TrainingJob) -> None:
        super().__init__(job)
        with announced("compiling the numba plan; cached for the next process"):
            self._engine = engine = Engine(job, job.batch_size, adapts=True)
            self._clipping_arguments: tuple[Any, ...] = ()
            self._sums = new_sums()
            self._pace = Pace(engine.team.threads, 1 if engine.is_small else engine.team.threads)
            self._kept_order = np.empty(0, dtype=np.int64)  # rows whose lists by feature are kept
            self._figures = (-1, np.empty(0), np.empty(0))  # rows of the last run, and its batches' sizes and penalties
            kernel, grads = engine.schedule.kernel, None
            if job.options.clip_norm is not None:
                grads = rows_of(1, engine.layout.count, engine.state.parameters.dtype)  # (1, parameters)
                clipping = new_clipping(job.options.clip_norm, grads)
                self._clipping_arguments = clipping, WAYS[kernel], engine.state
                kernel = train_clipped
            self._room = engine.new_room(engine.team.threads, None if grads is None else grads[0])
            self._kernel = entry_of(kernel, ALONE, *self._arguments(self._kept_order))
        self.description = engine.description

    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        """See `Plan.run`.

        Raises:
            ConfigError: an index of `order` is not a row of the job, or a layer was given weights of another shape.
        """
        engine, count = self._engine, self.job.rows.images.shape[0]
        rows = np.arange(count, dtype=np.int64) if order is None else checked_order(order, count)  # (rows,)
        with engine.parameters_of_layers():
            self._sums.loss[0], self._sums.correct[0] = totals.loss_sum, totals.correct
            done, batch_size = 0, self.job.batch_size
            while done < len(rows):
                part = rows[done : done + batch_size * (1 if engine.is_kept else self._pace.batches())]
                if engine.is_kept:
                    self._keep_lists(part)
                arguments, steps = self._arguments(part), -(-len(part) // batch_size)
                seconds, core_seconds = perf_counter(), process_time()
                engine.team.run(self._kernel, *arguments, threads=self._pace.threads)
                self._pace.note(steps, perf_counter() - seconds, process_time() - core_seconds)
                self.step += steps
                done += len(part)
        return Totals(float(self._sums.loss[0]), int(self._sums.correct[0]), totals.rows + len(rows))

    def _keep_lists(self, order: npt.NDArray[np.int64]) -> None:
        """Make the lists by feature for the rows of `order`, (rows,), unless those that are kept are for the same."""
        if not np.array_equal(order, self._kept_order):
            self._engine.problem = self._engine.problem._replace(inputs=self._engine.listed(order))
            self._kept_order = order.copy()

    def _arguments(self, order: npt.NDArray[np.int64]) -> tuple[Any, ...]:
        """Return the kernel's arguments for the rows of `order`, (rows,), all but the thread's side."""
        problem, job, first = self._engine.problem, self.job, self.step + 1
        if problem.targets.weights.size or len(order) != self._figures[0]:
            self._figures = len(order), *sizes_and_penalties(job, order, problem.targets.weights)
        _, sizes, l2 = self._figures
        rates = job.learning_rates(first, len(sizes)).astype(np.float64, copy=False)  # (steps,)
        tile_rows = self._engine.schedule.tile_rows
        batches = RunSteps(order, int(job.batch_size), tile_rows, self._rule, rates, sizes, l2, first)
        return problem, self._room, batches, self._sums, *self._clipping_arguments


def unknown_part(activations: list[str], optimizer: Optimizer, loss: str) -> str:
    """Return the first of these that the kernels do not know, as in "the loss 'mine'"; empty if they know all."""
    for name in activations:
        if activation_code(name) is None:
            return f"the activation {name!r}"
    if rule_of(optimizer) is None:
        return f"the optimizer {optimizer.name!r}"
    return f"the loss {loss!r}" if loss_code(loss) is None else ""


def supports(job: TrainingJob) -> bool:
    """Whether the kernels know all of the job, and its arrays are of the types and shapes that they read unchecked."""
    rows, layers = job.rows, job.layers
    return (
        not rows.on_host
        and are_layers(layers, rows.images)
        and are_targets(rows, job.loss, layers[-1].weight.shape[-1])
        and rule_of(job.options.optimizer) is not None
        and all(array.flags.c_contiguous and array.dtype.isnative for array in (numbers_of(rows.images), rows.labels))
    )

"""Numba plan for processes that train together: compiled gradients, one sum over all, and a compiled step.

The kernels are those of `NumbaPlan`, with a rule that leaves the parameters as they are and keeps the gradient where an
optimizer has its first slot, in the same layout. Parameters and slots stay in that layout for as long as a run takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..override import override
from ..plan import NO_ROWS, Totals, TrainingJob, checked_order
from ..reduction import reduction_of
from .compiler.compile import announced, entry_of
from .compiler.team import ALONE, Side, Team
from .engine import Engine, EnginePlan
from .first_layer.inputs import DenseInput, SparseInput
from .network.layout import rows_of
from .network.optimizers import GRADIENT
from .steps.batches import RunSteps, Sums, new_sums, sizes_and_penalties
from .steps.clipping import new_clipping, take_step_with

if TYPE_CHECKING:
    from ..base import Backend

# A step on fewer parameters than this is taken by one thread before others have heard of it.
SMALL_UPDATE = 1 << 19
NOTHING = np.zeros(1)


class Part(NamedTuple):
    """One part of each batch.

    Attributes:
        grad: its gradient, (parameters,).
        sums: over its rows.
    """

    grad: npt.NDArray[Any]
    sums: Sums


class PartRows(NamedTuple):
    """Rows of one part of a batch.

    Attributes:
        samples: their indices, (rows,).
        first_row: the first of them, counted within the batch.
    """

    samples: npt.NDArray[np.int64]
    first_row: int


class DividedPlan(EnginePlan):
    """Of each batch, the gradient of this process's part or of each of its shards; the sum over all; the step.

    One part is worked through by all threads together. Of several, each thread takes some by itself: a kernel's result
    does not depend on the number of threads.

    Args:
        backend: whose arrays the layers are.
        job: the training, one that is divided.

    Raises:
        ConfigError: on every process, that some do not keep the network in the same layout.
    """

    def __init__(self, backend: Backend, job: TrainingJob) -> None:
        super().__init__(job)
        self._reduction = reduction_of(backend, job)
        parts = len(self._reduction.parts(slice(0, 0)))  # of this process
        # Rows of the largest part on any rank, so that all go the same way.
        largest = -(-min(job.batch_size, job.rows.images.shape[0]) // (job.shards or job.communicator.size))
        with announced("compiling the numba plan; cached for the next process"):
            self._engine = engine = Engine(job, largest, parts if parts > 1 else None)
            count, dtype, threads = engine.layout.count, engine.state.parameters.dtype, engine.team.threads
            self._steppers = engine.team if count >= SMALL_UPDATE else Team(1)
            self._whole = rows_of(1, count, dtype)  # (1, parameters): where the sum of all gradients comes to lie
            grads = [self._whole[0], *(rows_of(1, count, dtype)[0] for _ in range(parts - 1))]
            self._parts = [Part(grad, new_sums()) for grad in grads]
            # Rooms and inputs: one for all threads of a single part, or one for each thread that takes parts by itself.
            grad = self._whole[0]
            teams = [threads] if parts == 1 else [1] * threads  # threads of each
            self._rooms = [engine.new_room(team, grad) for team in teams]
            self._clipping = new_clipping(job.options.clip_norm, self._whole)
            inputs = engine.problem.inputs
            is_shared = parts == 1 or engine.is_kept
            self._inputs = [inputs] if is_shared else [_inputs_of(inputs, me) for me in range(threads)]
            self._kept = [(inputs, np.empty(0, dtype=np.int64)) for _ in grads]  # of each part, with its rows
            self._step_kernel = entry_of(take_step_with, ALONE, *self._step_arguments(0.0, 0.0))
            nothing = self._gradient_arguments(0, 0, PartRows(np.empty(0, dtype=np.int64), 0), np.ones(1))
            self._kernel = entry_of(engine.schedule.kernel, ALONE, *nothing)
        among = f"{job.communicator.size} processes" if job.shards is None else f"{job.shards} shards"
        self.description = f"{engine.description}, each batch shared by {among}"
        self._refuse_differing_layouts()

    def _refuse_differing_layouts(self) -> None:
        """Make sure that all processes have the gradients in the same places; see the class for what it raises."""
        engine, widths = self._engine, self._engine.layout.network.compiled
        own = np.array([engine.layout.count, int(widths.lanes), int(widths.block), int(engine.is_sparse)])
        of_ranks = self.job.communicator.gather(own)  # (size, 4)
        if (differing := np.flatnonzero((of_ranks != of_ranks[0]).any(axis=1))).size:
            raise ConfigError(
                f"rank {differing[0]} has a processor with other vector registers than rank 0, or other rows: "
                "use processors of one kind and the same files everywhere, or the backend numpy"
            )

    @override
    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        job, reduction, parts, samples = self.job, self._reduction, self._parts, self.job.rows.images.shape[0]
        rows = np.arange(samples, dtype=np.int64) if order is None else checked_order(order, samples)  # (rows,)
        sizes, penalties = sizes_and_penalties(job, rows, self._engine.problem.targets.weights)  # (steps,) each
        rates = job.learning_rates(self.step + 1, len(sizes)).tolist()
        sums = np.zeros((len(parts), len(sizes), 2))  # (parts, steps, 2)
        with self._engine.parameters_of_layers():
            for k, (rate, l2) in enumerate(zip(rates, penalties.tolist(), strict=True)):
                batch = slice(k * job.batch_size, min((k + 1) * job.batch_size, len(rows)))
                of_parts = [PartRows(rows[part], part.start - batch.start) for part in reduction.parts(batch)]
                self._write_gradients(of_parts, sizes[k : k + 1])
                sums[:, k] = [(part.sums.loss[0], part.sums.correct[0]) for part in parts]
                reduction.sum_flat([part.grad for part in parts])
                self._steppers.run(self._step_kernel, *self._step_arguments(rate, l2))
                self.step += 1
            return reduction.added(totals, sums, len(rows))

    def _write_gradients(self, parts: list[PartRows], size: npt.NDArray[np.float64]) -> None:
        """Write the gradient and the sums of each part of a batch to their places.

        Args:
            parts: rows of each.
            size: what the mean of the whole batch is over, (1,).
        """
        engine = self._engine
        for number, (rows, _) in enumerate(parts):
            self._parts[number].sums.loss[0], self._parts[number].sums.correct[0] = 0, 0
            if not len(rows):
                self._parts[number].grad[:] = 0
            elif engine.is_kept and not np.array_equal(rows, self._kept[number][1]):
                self._kept[number] = engine.listed(rows), rows.copy()
        if len(parts) > 1:
            engine.team.run(self._take_parts, parts, size)
        elif len(parts[0].samples):
            engine.team.run(self._kernel, *self._gradient_arguments(0, 0, parts[0], size))

    def _take_parts(self, side: Side, parts: list[PartRows], size: npt.NDArray[np.float64]) -> None:
        """Write the gradients of a thread's share of the parts; see `_write_gradients`."""
        me, alone = side.me, Side(0, 1, side.sync)
        for number in range(len(parts) * me // side.threads, len(parts) * (me + 1) // side.threads):
            if len(parts[number].samples):
                self._kernel(alone, *self._gradient_arguments(number, me, parts[number], size))

    def _gradient_arguments(
        self, number: int, team: int, part: PartRows, size: npt.NDArray[np.float64]
    ) -> tuple[Any, ...]:
        """Return the gradient kernel's arguments for one part, as one batch, all but the thread's side."""
        engine, (grad, sums), room = self._engine, self._parts[number], self._rooms[team]
        inputs = self._kept[number][0] if engine.is_kept else self._inputs[team]
        problem, room = engine.problem._replace(inputs=inputs), room._replace(state=room.state._replace(first=grad))
        rows, tile_rows, step = part.samples, engine.schedule.tile_rows, self.step + 1
        batches = RunSteps(rows, max(len(rows), 1), tile_rows, GRADIENT, NOTHING, size, NOTHING, step, part.first_row)
        return problem, room, batches, sums

    def _step_arguments(self, learning_rate: float, l2: float) -> tuple[Any, ...]:
        """Return the step kernel's arguments, all but the thread's side."""
        engine, rate, penalty = self._engine, np.array([learning_rate]), np.array([l2])
        no_rows = np.empty(0, dtype=np.int64)
        batches = RunSteps(no_rows, 1, 1, self._rule, rate, NOTHING, penalty, self.step + 1)
        return engine.layout.network, engine.state, batches, self._clipping


def _inputs_of(inputs: SparseInput | DenseInput, me: int) -> SparseInput | DenseInput:
    """Return one thread's room, as for a team of its own, of inputs whose room has the threads as its first axis."""
    if isinstance(inputs, DenseInput):
        return inputs._replace(x=inputs.x[me : me + 1])
    columns = inputs.columns
    return inputs._replace(columns=type(columns)(*(array[me : me + 1] for array in columns)))

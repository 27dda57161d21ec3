"""The Numba plan for processes that train together: compiled gradients, one sum over all, and a compiled step.

The kernels are those of `NumbaPlan`, with a rule that leaves the parameters as they are and keeps the gradient where an
optimizer has its first slot, in the same layout. Parameters and slots stay in that layout for as long as a run takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..plan import Totals, TrainingJob
from ..reduction import reduction_of
from .compiler.compile import entry_of
from .compiler.team import SYNC_SIZE, Side, Team
from .first_layer.blocks import DenseInput, SparseInput
from .network.layout import rows_of
from .network.optimizers import GRADIENT, State
from .plan import NumbaPlan
from .steps.batches import Batches, Sums, sizes_and_penalties
from .steps.by_features import train_by_features
from .steps.by_rows import take_steps
from .steps.schedules import SHARDS, new_room

if TYPE_CHECKING:
    from ..base import Backend

# A step on fewer parameters than this is taken by one thread before others have heard of it.
SMALL_UPDATE = 1 << 19
NO_RATE, NO_PENALTY = np.zeros(1), np.zeros(1)


class Part(NamedTuple):
    """One part of each batch.

    Attributes:
        state: the parameters, as all parts have them, and the part's gradient in place of a slot.
        grad: that gradient, (parameters,).
        sums: over the part's rows.
    """

    state: State
    grad: npt.NDArray[Any]
    sums: Sums


class DividedPlan(NumbaPlan):
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
        self._reduction = reduction_of(backend, job)
        self._count = len(self._reduction.parts(slice(0, 0)))  # of this process's parts
        super().__init__(job)
        self._steppers = self._team if self._layout.count >= SMALL_UPDATE else Team(1)
        among = f"{job.communicator.size} processes" if job.shards is None else f"{job.shards} shards"
        self.description += f", each batch shared by {among}"
        self._refuse_differing_layouts()

    def _refuse_differing_layouts(self) -> None:
        """Make sure that all processes have the gradients in the same places; see the class for what it raises."""
        own = np.array([self._layout.count, int(self._widths.lanes), int(self._widths.block), int(self.is_sparse)])
        of_ranks = self.job.communicator.gather(own)  # (size, 4)
        if (differing := np.flatnonzero((of_ranks != of_ranks[0]).any(axis=1))).size:
            raise ConfigError(
                f"rank {differing[0]} has a processor with other vector registers than rank 0, or other rows: "
                "use processors of one kind and the same files everywhere, or the backend numpy"
            )

    def _most_rows(self) -> int:
        """See `NumbaPlan._most_rows`; those of the largest part on any rank, so that all go the same way."""
        batch = min(self.job.batch_size, len(self.job.rows.images))
        return -(-batch // (self.job.shards or self.job.communicator.size))

    def _most_threads(self) -> int:
        """See `NumbaPlan._most_threads`."""
        return self._schedule.parts if self._count == 1 else self._count

    def _new_room(self, states: State) -> tuple[Any, ...]:
        """See `NumbaPlan._new_room`; that of the first part, made with those of all others."""
        schedule, inputs, threads = self._schedule, self._inputs, self._team.threads
        teams, copies = (1, threads) if self._count == 1 else (threads, 1)
        parameters, dtype = states.parameters[:copies], states.parameters.dtype
        count, none = parameters.shape[1], rows_of(len(parameters), 0, dtype)
        of_parts = [State(parameters, rows_of(len(parameters), count, dtype), none) for _ in range(self._count)]
        grads = [state.first[0] for state in of_parts]
        # What each thread that works by itself, or all together, work in and read the rows by.
        self._rooms = [new_room(schedule, self._layout, of_parts[0], copies)[1:] for _ in range(teams)]
        is_shared = teams == 1 or self._is_kept
        self._inputs_of_teams = [inputs] if is_shared else [_inputs_of(inputs, me) for me in range(teams)]
        self._kept = [(inputs, np.empty(0, dtype=np.int64)) for _ in grads]
        self._whole = of_parts[0].first[:1]  # (1, parameters): where the sum of all gradients comes to lie
        if schedule.kernel is not train_by_features:
            of_parts = [State(*(array[0] for array in state)) for state in of_parts]
        sums = [Sums(*(np.zeros(1 + SHARDS, dtype=kind) for kind in (np.float64, np.int64))) for _ in grads]
        self._parts = list(map(Part, of_parts, grads, sums))
        return of_parts[0], *self._rooms[0]

    def _compiled(self) -> Callable[..., Any]:
        """See `NumbaPlan._compiled`; the step's kernel, too."""
        alone = Side(0, 1, np.zeros(SYNC_SIZE, dtype=np.int64))
        self._step_kernel = entry_of(take_steps, alone, *self._step_arguments(0.0, 0.0))
        nothing = self._gradient_arguments(0, self._inputs, 0, np.empty(0, dtype=np.int64), np.ones(1))
        return entry_of(self._schedule.kernel, alone, *nothing)

    def _take_steps(self, rows: npt.NDArray[np.int64], totals: Totals) -> Totals:
        """See `NumbaPlan._take_steps`."""
        job, reduction, count, parts = self.job, self._reduction, len(rows), self._parts
        grads = [part.grad for part in parts]
        sizes, penalties = sizes_and_penalties(job, rows, self._targets.weights)  # (steps,) each
        rates = job.learning_rates(self.step + 1, len(sizes)).tolist()
        sums = np.zeros((len(parts), len(sizes), 2))  # (parts, steps, 2)
        for k, (rate, l2) in enumerate(zip(rates, penalties.tolist(), strict=True)):
            start = k * job.batch_size
            batch = slice(start, min(start + job.batch_size, count))
            self._write_gradients([rows[part] for part in reduction.parts(batch)], sizes[k : k + 1])
            sums[:, k] = [(part.sums.loss[0], part.sums.correct[0]) for part in parts]
            reduction.sum_flat(grads)
            self._steppers.run(self._step_kernel, *self._step_arguments(rate, l2))
            self.step += 1
        return reduction.added(totals, sums, count)

    def _write_gradients(self, parts: list[npt.NDArray[np.int64]], size: npt.NDArray[np.float64]) -> None:
        """Write the gradient and the sums of each part of a batch to their places.

        Args:
            parts: samples of each, (rows,).
            size: what the mean of the whole batch is over, (1,).
        """
        for number, rows in enumerate(parts):
            self._parts[number].sums.loss[0], self._parts[number].sums.correct[0] = 0, 0
            if not len(rows):
                self._parts[number].grad[:] = 0
            elif self._is_kept:
                self._inputs, self._kept_order = self._kept[number]
                self._keep_lists(rows)
                self._kept[number] = self._inputs, self._kept_order
        if len(parts) > 1:
            self._team.run(self._take_parts, parts, size)
        elif len(parts[0]):
            self._team.run(self._kernel, *self._gradient_arguments(0, self._inputs_of(0, 0), 0, parts[0], size))

    def _take_parts(self, side: Side, parts: list[npt.NDArray[np.int64]], size: npt.NDArray[np.float64]) -> None:
        """Write the gradients of a thread's share of the parts; see `_write_gradients`."""
        me, alone = side.me, Side(0, 1, side.sync)
        for number in range(len(parts) * me // side.threads, len(parts) * (me + 1) // side.threads):
            if len(parts[number]):
                inputs = self._inputs_of(number, me)
                self._kernel(alone, *self._gradient_arguments(number, inputs, me, parts[number], size))

    def _inputs_of(self, number: int, team: int) -> SparseInput | DenseInput:
        """Return the rows as the kernels read them, for one part and one of those who work by themselves."""
        return self._kept[number][0] if self._is_kept else self._inputs_of_teams[team]

    def _gradient_arguments(
        self,
        number: int,
        inputs: SparseInput | DenseInput,
        team: int,
        rows: npt.NDArray[np.int64],
        size: npt.NDArray[np.float64],
    ) -> tuple[Any, ...]:
        """Return the gradient kernel's arguments for one part, as one batch, all but the thread's side."""
        state, _, sums = self._parts[number]
        batches = Batches(rows, max(len(rows), 1), self._schedule.tile_rows, NO_RATE, size, NO_PENALTY, 1)
        network, room = self._layout.network, self._rooms[team]
        return network, inputs, self._targets, state, *room, batches, GRADIENT, sums, self._widths

    def _step_arguments(self, learning_rate: float, l2: float) -> tuple[Any, ...]:
        """Return the step kernel's arguments, all but the thread's side."""
        weights = int(self._layout.network.bias_at[0])
        return self._state, self._whole, weights, self._rule, self.step + 1, learning_rate, l2, self._widths


def _inputs_of(inputs: SparseInput | DenseInput, me: int) -> SparseInput | DenseInput:
    """Return one thread's room, as for a team of its own, of inputs whose room has the threads as its first axis."""
    if isinstance(inputs, DenseInput):
        return inputs._replace(x=inputs.x[me : me + 1])
    columns = inputs.columns
    return inputs._replace(columns=type(columns)(*(array[me : me + 1] for array in columns)))

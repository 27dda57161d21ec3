"""The Numba plan: the steps of a run in one compiled call, gone through by a team of threads side by side."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..generic_plan import check_state
from ..mapped import is_mapped, unlocked
from ..plan import NO_ROWS, Plan, Totals, TrainingJob, checked_order
from .compiler.compile import announced, entry_of
from .compiler.lane_types import lanes_of
from .compiler.team import SYNC_SIZE, Side, Team, usable_threads
from .first_layer.blocks import DenseInput, SparseInput
from .first_layer.columns import kept_columns, new_columns
from .first_layer.compress import chunk_bounds, compressed, entry_counts
from .network.functions import FLOATS, IDENTITY, activation_code
from .network.layers import widths_of
from .network.layout import Layout, rows_of
from .network.optimizers import State, rule_of
from .network.targets import are_targets, targets_of
from .steps.batches import Batches, Sums, sizes_and_penalties
from .steps.schedules import SHARDS, choose_schedule, new_room, new_states, tile_bounds

# Below this share of numbers that are not zero, it pays to skip the zeros.
SPARSE_DENSITY = 0.5
# A step of fewer multiply-adds than this is done by one thread before others have heard of it.
SMALL_STEP = 3e5


class NumbaPlan(Plan):
    """All steps of a run in one call of compiled code.

    The plan keeps the parameters and the optimizer's slots in a layout of its own; a run begins with a copy of the
    layers' arrays and ends with one into arrays of the plan's, which it puts into the layers.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.step = 0
        images, dtype = job.rows.images, job.layers[0].weight.dtype
        lanes, units = lanes_of(dtype), [layer.weight.shape[1] for layer in job.layers]
        batch = max(min(self._most_rows(), len(images)), 1)  # rows that are worked through together
        work = batch * sum(layer.weight.size for layer in job.layers)
        rule = rule_of(job.options.optimizer)
        assert rule is not None  # `supports` says so
        self._rule = rule
        with announced("compiling the numba plan; cached for the next process"):
            # lists of what is not zero would bring a mapped file into memory
            nonzeros = images.size if is_mapped(images) else job.rows.nonzeros
            nonzeros = np.count_nonzero(images) if nonzeros is None else nonzeros
            self.is_sparse = nonzeros < SPARSE_DENSITY * images.size
            self._is_kept = self.is_sparse and job.batch_size >= len(images) and images.dtype == np.uint8
            schedule = choose_schedule(
                units, images.shape[1], batch, is_sparse=self.is_sparse, is_kept=self._is_kept, lanes=lanes
            )
            self._schedule, block = schedule, lanes * schedule.block
            self._team = team = Team(min(usable_threads(), self._most_threads()) if work >= SMALL_STEP else 1)
            self._widths = widths_of(dtype, block)
            self._layout = Layout(job.layers, lanes=lanes, block=block, pad_features=not self.is_sparse)
            slots = list(job.options.optimizer.init(np, np.empty(0, dtype=dtype)))
            states = new_states(schedule, self._layout, len(slots), team.threads, dtype)
            self._state = State(*(array[0] for array in states))
            self._slots = dict(zip(slots, self._state[1:], strict=False))
            self._inputs, self._targets = self._new_inputs(), targets_of(job.rows, job.loss)
            self._room = self._new_room(states)
            self._sums = Sums(*(np.zeros(1 + SHARDS, dtype=kind) for kind in (np.float64, np.int64)))
            self._arrays = self._layout.empty_arrays(dtype)
            self._places = self._layout.places(self._arrays, self._state.parameters)
            kind = "sparse" if self.is_sparse else "dense"
            self.description = f"compiled: {kind} input, {team.threads} threads, dealt out by {schedule.name}"
            self._figures = (-1, np.empty(0), np.empty(0))  # rows of the last run, and its batches' sizes and penalties
            self._kernel = self._compiled()

    def _most_rows(self) -> int:
        """Return the rows of one step that this process takes together, at most."""
        return self.job.batch_size

    def _most_threads(self) -> int:
        """Return how many threads at most have something to do."""
        return self._schedule.parts

    def _new_room(self, states: State) -> tuple[Any, ...]:
        """Return what the kernel works in, from the parameters and slots on."""
        return new_room(self._schedule, self._layout, states, self._team.threads)

    def _compiled(self) -> Callable[..., Any]:
        """Return the schedule's kernel for arguments of the types that they have now."""
        nothing = self._arguments(np.empty(0, dtype=np.int64))
        return entry_of(self._schedule.kernel, Side(0, 1, np.zeros(SYNC_SIZE, dtype=np.int64)), *nothing)

    def _new_inputs(self) -> SparseInput | DenseInput:
        """Return the training rows as the kernels read them, with the room that they need."""
        images, schedule, threads = unlocked(self.job.rows.images), self._schedule, self._team.threads
        tile, dtype, lanes = schedule.tile_rows, self._state.parameters.dtype, int(self._widths.lanes)
        scale = float(self.job.rows.scale) if images.dtype.kind in "iu" else 1.0
        if not self.is_sparse:
            bounds = chunk_bounds(images.shape[1], schedule.chunks, lanes)
            x = rows_of(threads, tile * int(self._layout.network.inputs[0]), dtype)
            return DenseInput(images, scale, x, bounds)
        bounds = chunk_bounds(images.shape[1], schedule.chunks)
        counts = entry_counts(self._team, images, bounds)
        rows = compressed(self._team, images, scale, bounds, counts, dtype)
        if self._is_kept:
            self._kept_order = np.empty(0, dtype=np.int64)
            return SparseInput(rows, kept_columns(self._team, rows, self._kept_order, np.zeros(1, np.int64)), bounds)
        # The narrow ways add row by row, and list nothing.
        columns = new_columns(threads, images.shape[1], tile if schedule.name == "units" else 0, rows.value)
        return SparseInput(rows, columns, bounds)

    def _keep_lists(self, order: npt.NDArray[np.int64]) -> None:
        """Make the lists by feature for the rows of `order`, (rows,), unless those that are kept are for the same."""
        inputs = self._inputs
        if isinstance(inputs, SparseInput) and not np.array_equal(order, self._kept_order):
            bounds = tile_bounds(self._schedule, len(order))
            self._inputs = inputs._replace(columns=kept_columns(self._team, inputs.rows, order, bounds))
            self._kept_order = order.copy()
            self._kernel = self._compiled()  # numbers of another size, perhaps

    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        """See `Plan.run`.

        Raises:
            ConfigError: an index of `order` is not a row of the job, or a layer was given weights of another shape.
        """
        count = len(self.job.rows.images)
        rows = np.arange(count, dtype=np.int64) if order is None else checked_order(order, count)  # (rows,)
        self._read_layers()
        totals = self._take_steps(rows, totals)
        for part, place in self._places:
            part[...] = place
        for layer, (weight, bias) in zip(self.job.layers, self._arrays, strict=True):
            layer.weight, layer.bias = weight, bias
        return totals

    def _take_steps(self, rows: npt.NDArray[np.int64], totals: Totals) -> Totals:
        """Take the steps for the samples `rows`, (rows,), on the plan's parameters; return `totals` with theirs."""
        self._sums.loss[0], self._sums.correct[0] = totals.loss_sum, totals.correct
        size = self.job.batch_size if self._is_kept else max(len(rows), 1)
        for part in (rows[start : start + size] for start in range(0, len(rows), size)):
            if self._is_kept:
                self._keep_lists(part)
            self._team.run(self._kernel, *self._arguments(part))
            self.step += -(-len(part) // self.job.batch_size)
        return Totals(float(self._sums.loss[0]), int(self._sums.correct[0]), totals.rows + len(rows))

    def _arguments(self, order: npt.NDArray[np.int64]) -> tuple[Any, ...]:
        """Return the kernel's arguments for the rows of `order`, (rows,), all but the thread's side."""
        network, targets, tile_rows = self._layout.network, self._targets, self._schedule.tile_rows
        job, steps, first = self.job, -(-len(order) // self.job.batch_size), self.step + 1
        if targets.weights.size or len(order) != self._figures[0]:
            self._figures = len(order), *sizes_and_penalties(job, order, targets.weights)
        _, sizes, l2 = self._figures
        rates = job.learning_rates(first, steps).astype(np.float64, copy=False)  # (steps,)
        batches = Batches(order, int(job.batch_size), tile_rows, rates, sizes, l2, first)
        return network, self._inputs, targets, *self._room, batches, self._rule, self._sums, self._widths

    def _read_layers(self) -> None:
        """Bring the layers' parameters into the plan's layout.

        Raises:
            ConfigError: one has another shape or type than when the plan was made.
        """
        is_own = True  # as after a run, unless somebody put others there
        for k, (layer, (weight, bias)) in enumerate(zip(self.job.layers, self._arrays, strict=True)):
            for name, own in (("weight", weight), ("bias", bias)):
                array = getattr(layer, name)
                if array.shape != own.shape or array.dtype != own.dtype:
                    raise ConfigError(
                        f"the {name} of layer {k} must stay {own.dtype} of shape {own.shape}, "
                        f"got {array.dtype} of shape {array.shape}; compile a new plan for another network"
                    )
                is_own = is_own and array is own
        if not is_own:
            self._layout.pack_parameters(self.job.layers, self._state.parameters)
            return
        for part, place in self._places:
            place[...] = part
        self._layout.silence(self._state.parameters)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """See `Plan.state`."""
        state = {}
        for slot, buffer in self._slots.items():
            arrays = self._layout.empty_arrays(buffer.dtype)
            self._layout.unpack(buffer, arrays)
            for k, (weight, bias) in enumerate(arrays):
                state[f"layers.{k}.weight.{slot}"], state[f"layers.{k}.bias.{slot}"] = weight, bias
        return state

    def load_state(self, state: dict[str, npt.NDArray[Any]], step: int) -> None:
        """See `Plan.load_state`."""
        check_state(state, self.state())
        self.step = step
        for slot, buffer in self._slots.items():
            layers = range(len(self.job.layers))
            arrays = [(state[f"layers.{k}.weight.{slot}"], state[f"layers.{k}.bias.{slot}"]) for k in layers]
            self._layout.pack(arrays, buffer)


def supports(job: TrainingJob) -> bool:
    """Whether the kernels know all of the job, and its arrays are of the types and shapes that they read unchecked."""
    rows, layers = job.rows, job.layers
    dtype = layers[0].weight.dtype
    outputs = [rows.images.shape[1:], *((layer.weight.shape[-1],) for layer in layers)]  # (features,), (units,)...
    return (
        not (job.needs_generic_plan or job.options.label_smoothing)
        and are_targets(rows, job.loss, layers[-1].weight.shape[-1])
        and rule_of(job.options.optimizer) is not None
        and all(activation_code(layer.activation) is not None for layer in layers)
        and activation_code(layers[-1].activation) == IDENTITY
        and dtype in FLOATS
        and all(array.dtype == dtype for layer in layers for array in (layer.weight, layer.bias))
        and (rows.images.dtype.kind in "iu" or rows.images.dtype in FLOATS)
        and all(array.flags.c_contiguous and array.dtype.isnative for array in (rows.images, rows.labels))
        and all(layer.weight.shape == (*n, *m) for layer, (n, m) in zip(layers, pairwise(outputs), strict=True))
        and all(layer.bias.shape == y for layer, y in zip(layers, outputs[1:], strict=True))
    )

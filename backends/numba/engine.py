"""Engine of the Numba plans: a job's rows, parameters and slots as the kernels have them, and the kernel that fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, RunError
from ..generic_plan import check_state
from ..mapped import is_mapped, unlocked
from ..override import override
from ..plan import Plan, TrainingJob
from ..sparse_rows import is_sparse, numbers_of
from .compiler.team import Team, usable_threads
from .compiler.vector_unit import VECTOR_UNIT
from .first_layer.columns import compact_columns, kept_columns, new_columns
from .first_layer.compress import chunk_bounds, compressed
from .first_layer.inputs import DenseInput, SparseInput
from .network.layout import Layout, rows_of
from .network.optimizers import KernelState, rule_of
from .network.targets import targets_of
from .steps.room import Problem, Room
from .steps.schedules import (
    FEATURES_OF_ENTRY,
    MOST_LISTED_ROWS,
    WIDE_TILE,
    choose_schedule,
    new_room,
    new_state,
    tile_bounds,
)

# Below this share of numbers that are not zero, it pays to skip the zeros.
SPARSE_DENSITY = 0.5
# A step of fewer multiply-adds than this is taken by one thread, at least at first. Fits of 20 epochs in batches of 200
# took two threads, on two cores that others used too, 2.1 times as long as one at 4.2e5 (20-100-1), 1.9 times at 1.0e6
# (50-100-1), and 0.65 times at 2.0e6 (50-200-1).
SMALL_STEP = 1.5e6


class Engine:
    """What a plan drives: rows, parameters and slots in the kernels' layout, a team of threads, and the schedule.

    Attributes:
        job: the training.
        schedule: the way of dividing a step.
        team: threads that take the steps.
        layout: places of the parameters.
        state: parameters, slots, and gradients of a batch.
        problem: network, rows and targets as the kernels read them.
        is_sparse: whether the zeros of the rows are skipped.
        is_kept: whether the lists by feature stay from run to run.
        is_small: whether a step may be too short for several threads.
        description: a few words on how it goes about the job.
    """

    def __init__(self, job: TrainingJob, batch_size: int, parts: int | None = None, *, adapts: bool = False) -> None:
        """Bring the rows of `job` into the kernels' layout.

        Args:
            job: the training.
            batch_size: rows of one step that are worked through together, at most.
            parts: how many threads at most have something to do; None for what the schedule says.
            adapts: whether the plan chooses the number of threads as it goes; else small steps have a team of one.
        """
        self.job = job
        self._is_whole = True
        images, dtype = job.rows.images, job.layers[0].weight.dtype
        samples, features = images.shape
        lanes, units = VECTOR_UNIT.lanes(dtype), [layer.weight.shape[1] for layer in job.layers]
        batch = max(min(batch_size, samples), 1)
        work = batch * sum(layer.weight.size for layer in job.layers)
        # Lists of what is not zero would bring a mapped file into memory.
        nonzeros = images.size if is_mapped(images) else job.rows.nonzeros
        nonzeros = np.count_nonzero(numbers_of(images)) if nonzeros is None else nonzeros
        self.is_sparse = is_sparse(images) or nonzeros < SPARSE_DENSITY * images.size
        self.is_kept = self.is_sparse and job.batch_size >= samples and images.dtype == np.uint8
        most_rows = WIDE_TILE
        if is_sparse(images):
            entries = max(-(-nonzeros // max(samples, 1)), 1)  # of a row
            most_rows = min(max(features // entries, most_rows), MOST_LISTED_ROWS)
            features = min(features, entries * FEATURES_OF_ENTRY)
        self.schedule = choose_schedule(
            units, features, batch, most_rows=most_rows, is_sparse=self.is_sparse, is_kept=self.is_kept, lanes=lanes
        )
        self.is_small = work < SMALL_STEP
        self.team = Team(1 if self.is_small and not adapts else min(usable_threads(), parts or self.schedule.parts))
        block = lanes * self.schedule.block
        self.layout = Layout(job.layers, lanes=lanes, block=block, pad_features=not self.is_sparse)
        slots = list(job.options.optimizer.init(np, np.empty(0, dtype=dtype)))
        self.state = new_state(self.layout, len(slots), dtype)
        self._slots = dict(zip(slots, (self.state.first, self.state.second), strict=False))
        self._arrays = self.layout.empty_arrays(dtype)
        self._places = self.layout.places(self._arrays, self.state.parameters)
        self.problem = Problem(self.layout.network, self._new_inputs(), targets_of(job))
        kind = "sparse" if self.is_sparse else "dense"
        self.description = f"compiled: {kind} input, {self.team.threads} threads, dealt out by {self.schedule.name}"

    def _new_inputs(self) -> SparseInput | DenseInput:
        """Return the training rows as the kernels read them, with the room that they need."""
        images, schedule, threads = self.job.rows.images, self.schedule, self.team.threads
        tile, dtype, network = schedule.tile_rows, self.state.parameters.dtype, self.layout.network
        scale = float(self.job.rows.scale) if images.dtype.kind in "iu" else 1.0
        if not self.is_sparse:
            bounds = chunk_bounds(images.shape[1], schedule.chunks, int(network.compiled.lanes))
            return DenseInput(unlocked(images), scale, rows_of(threads, tile * int(network.inputs[0]), dtype), bounds)
        bounds = chunk_bounds(images.shape[1], schedule.chunks)
        rows = compressed(self.team, images, scale, bounds, dtype)
        if self.is_kept:
            columns: Any = kept_columns(self.team, rows, np.empty(0, np.int64), np.zeros(1, np.int64))
        elif is_sparse(images) and schedule.name == "units":
            columns = compact_columns(threads, rows, tile)
        else:  # the narrow ways add row by row, and list nothing
            columns = new_columns(threads, images.shape[1], tile if schedule.name == "units" else 0, rows.value)
        return SparseInput(rows, columns, bounds)

    def new_room(self, threads: int, grad: npt.NDArray[Any] | None = None) -> Room:
        """Return room for some threads to take steps in, or to write a gradient, (parameters,), in place of a slot."""
        state = self.state
        if grad is not None:
            grads = rows_of(1, self.layout.count, grad.dtype)[0]
            state = KernelState(state.parameters, grad, np.empty(0, grad.dtype), grads)
        return new_room(self.schedule, self.layout, state, threads, self.job.dropout)

    def listed(self, order: npt.NDArray[np.int64]) -> SparseInput:
        """Return the inputs with lists by feature of the rows of `order`, (rows,), to be kept."""
        inputs = self.problem.inputs
        columns = kept_columns(self.team, inputs.rows, order, tile_bounds(self.schedule, len(order)))
        return inputs._replace(columns=columns)

    @contextmanager
    def parameters_of_layers(self) -> Iterator[None]:
        """Have the layers' parameters in the state inside the block, and in the layers, in arrays of our own, after it.

        Raises:
            ConfigError: one has another shape or type than when the plan was made.
            RunError: an earlier block was left by an exception.
        """
        self._check_whole()
        self._read_layers()
        self._is_whole = False
        yield
        for part, place in self._places:
            part[...] = place
        for layer, (weight, bias) in zip(self.job.layers, self._arrays, strict=True):
            layer.weight, layer.bias = weight, bias
        self._is_whole = True

    def _check_whole(self) -> None:
        """Refuse a state, slots and lists of rows that were left in the middle of a run."""
        if not self._is_whole:
            raise RunError(
                "a run of this plan was interrupted in the middle of its steps, so that its optimizer state is of no "
                "step: compile a new plan, and load the state and parameters of a checkpoint"
            )

    def _read_layers(self) -> None:
        """See `parameters_of_layers`."""
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
            self.layout.pack_parameters(self.job.layers, self.state.parameters)
            return
        for part, place in self._places:
            place[...] = part
        self.layout.silence(self.state.parameters)

    def slots(self) -> dict[str, npt.NDArray[Any]]:
        """Return the optimizer's arrays; see `Plan.state`."""
        self._check_whole()
        slots = {}
        for slot, buffer in self._slots.items():
            arrays = self.layout.empty_arrays(buffer.dtype)
            self.layout.unpack(buffer, arrays)
            for k, (weight, bias) in enumerate(arrays):
                slots[f"layers.{k}.weight.{slot}"], slots[f"layers.{k}.bias.{slot}"] = weight, bias
        return slots

    def load_slots(self, slots: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from the optimizer's arrays `slots`.

        Raises:
            ModelFileError: they are of another network or optimizer.
        """
        self._check_whole()
        named = [zip(("weight", "bias"), pair, strict=True) for pair in self._arrays]
        shapes = {f"layers.{k}.{name}": array for k, pair in enumerate(named) for name, array in pair}
        check_state(slots, {f"{name}.{slot}": array for slot in self._slots for name, array in shapes.items()})
        for slot, buffer in self._slots.items():
            layers = range(len(self.job.layers))
            arrays = [(slots[f"layers.{k}.weight.{slot}"], slots[f"layers.{k}.bias.{slot}"]) for k in layers]
            self.layout.pack(arrays, buffer)


class EnginePlan(Plan):
    """Plan that an `Engine` carries out, with the optimizer's slots in the layout of the kernels."""

    _engine: Engine

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.step = 0
        rule = rule_of(job.options.optimizer)
        assert rule is not None  # `supports` says so
        self._rule = rule

    @override
    def state(self) -> dict[str, npt.NDArray[Any]]:
        return self._engine.slots()

    @override
    def load_state(self, state: dict[str, npt.NDArray[Any]], step: int) -> None:
        self._engine.load_slots(state)
        self.step = step

"""The Numba plan: the steps of a run in one compiled call, gone through by a team of threads side by side."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ConfigError
from .generic_plan import check_state
from .losses import LOSSES, softmax_cross_entropy
from .numba_batches import Batches, Sums
from .numba_compile import announced
from .numba_compress import compressed, entry_counts
from .numba_features import DenseFeatures, SparseFeatures
from .numba_functions import IDENTITY, activation_code
from .numba_lanes import TILE_ROWS, lanes_of
from .numba_layers import widths_of
from .numba_layout import CACHE_LINE, Layout, aligned, padded
from .numba_operations import FLOATS
from .numba_optimizers import State, rule_of, slot_pair
from .numba_rows import Work
from .numba_sparse import Columns
from .numba_team import SYNC_SIZE, Side, Team, usable_threads
from .numba_training import train
from .numba_units import DenseUnits, SparseUnits
from .plan import NO_ROWS, Plan, Totals, TrainingJob, checked_order

# Above this share of numbers that are not zero, to skip zeros costs more than to multiply by them.
SPARSE_DENSITY = 0.5
# Rows that are worked through at once: a tile's gradients of 64 units fill a first-level cache of 32 KB.
WIDE_TILE, NARROW_TILE = 128, 256
# A network is narrow if its first layer has no more units than this many registers hold.
NARROW_REGISTERS = 4
# A step of fewer multiply-adds than this is done by one thread before others have heard of it.
SMALL_STEP = 3e5
BLOCK_REGISTERS = 4


class NumbaPlan(Plan):
    """All steps of a run in one call of compiled code.

    The plan keeps the parameters and the optimizer's slots in a layout of its own; a run begins with a copy of the layers'
    arrays and ends with one into arrays of the plan's, which it puts into the layers.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.step = 0
        images, dtype = job.rows.images, job.layers[0].weight.dtype
        lanes, units = lanes_of(dtype), job.layers[0].weight.shape[1]
        batch = max(min(job.batch_size, len(images)), 1)
        size = sum(layer.weight.size for layer in job.layers)
        self._team = Team(usable_threads() if 3 * batch * size >= SMALL_STEP else 1)
        scale = float(job.rows.scale) if images.dtype.kind in "iu" else 1.0
        with announced("compiling the numba plan; cached for the next process"):
            counts = entry_counts(self._team, images)
            self.is_sparse = bool(counts.sum() < SPARSE_DENSITY * images.size)
            registers = -(-units // lanes)
            self.is_narrow = registers <= NARROW_REGISTERS
            block = lanes
            if self.is_sparse:
                block *= registers if self.is_narrow else _block_registers(registers, self._team.threads)
            self._layout = layout = Layout(job.layers, lanes=lanes, block=block, pad_features=not self.is_sparse)
            self._widths = widths_of(dtype, block)
            self._tile_rows = tile = _tile_rows(batch, NARROW_TILE if self.is_narrow else WIDE_TILE)
            self._state = self._new_state(dtype)
            self._inputs = self._new_inputs(images, scale, counts, dtype)
            self._sums = Sums(np.zeros(1), np.zeros(1, dtype=np.int64))
            in_parts = tile < batch or (self.is_narrow and self.is_sparse)
            self._grads = aligned(layout.count if in_parts else 0, dtype)
            self._first = aligned(2 * tile * int(layout.network.units[0]), dtype)
            self._work = Work(
                aligned(tile * layout.output_units, dtype),
                aligned(tile * layout.output_units, dtype),
                aligned(layout.transposed_count, dtype),
                np.zeros(tile),
                np.zeros(tile, dtype=np.int64),
            )
            self._arrays = layout.empty_arrays(dtype)
            rule = rule_of(job.optimizer)
            assert rule is not None  # `supports` says so
            self._rule = rule
            train(Side(0, 1, np.zeros(SYNC_SIZE, dtype=np.int64)), *self._arguments(np.empty(0, dtype=np.int64)))

    def _new_inputs(
        self, images: npt.NDArray[Any], scale: float, counts: npt.NDArray[np.int32], dtype: Any
    ) -> SparseUnits | DenseUnits | SparseFeatures | DenseFeatures:
        """Return the training rows as the kernels read them, with the room that they need."""
        threads, tile, features = self._team.threads, self._tile_rows, int(self._layout.network.inputs[0])
        sums = aligned(tile * int(self._layout.network.units[0]) * counts.shape[1] if self.is_narrow else 0, dtype)
        if self.is_sparse:
            rows = compressed(self._team, images, scale, counts, dtype)
            if self.is_narrow:
                return SparseFeatures(rows, sums)
            columns = Columns(
                np.zeros((threads, padded(features, CACHE_LINE)), dtype=np.int32),
                np.empty((threads, features * tile), dtype=np.uint16),
                np.empty((threads, features * tile), dtype=rows.value.dtype),
            )
            return SparseUnits(rows, columns)
        x = aligned(2 * tile * features, dtype)
        if self.is_narrow:
            chunks, blocks = counts.shape[1], features // int(self._widths.lanes)
            return DenseFeatures(images, scale, x, sums, np.array([blocks * k // chunks for k in range(chunks + 1)]))
        return DenseUnits(images, scale, x)

    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        """See `Plan.run`.

        Raises:
            ConfigError: an index of `order` is not a row of the job, or a layer was given weights of another shape.
        """
        count = len(self.job.rows.images)
        rows = np.arange(count, dtype=np.int64) if order is None else checked_order(order, count)  # (rows,)
        self._check_layers()
        self._layout.pack_parameters(self.job.layers, self._state.parameters)
        self._sums.loss[0], self._sums.correct[0] = totals.loss_sum, totals.correct
        self._team.run(train, *self._arguments(rows))
        self.step += -(-len(rows) // self.job.batch_size)
        self._layout.unpack(self._state.parameters, self._arrays)
        for layer, (weight, bias) in zip(self.job.layers, self._arrays, strict=True):
            layer.weight, layer.bias = weight, bias
        return Totals(float(self._sums.loss[0]), int(self._sums.correct[0]), totals.rows + len(rows))

    def _arguments(self, order: npt.NDArray[np.int64]) -> tuple[Any, ...]:
        job = self.job
        batches = Batches(
            order,
            int(job.batch_size),
            self._tile_rows,
            job.learning_rates(self.step + 1, -(-len(order) // job.batch_size)),
            self.step + 1,
            float(job.l2),
        )
        return (
            self._layout.network,
            self._inputs,
            job.rows.labels,
            self._state,
            self._grads,
            self._first,
            self._work,
            batches,
            self._rule,
            self._sums,
            self._widths,
        )

    def _new_state(self, dtype: Any) -> State:
        """Return buffers for the parameters and the optimizer's slots."""
        parameters = aligned(self._layout.count, dtype)
        names = self.job.optimizer.init(np, parameters[:0])
        self._slots = {name: aligned(self._layout.count, dtype) for name in names}
        return State(parameters, *slot_pair(list(self._slots.values()), parameters))

    def _check_layers(self) -> None:
        """Refuse arrays of another network.

        Raises:
            ConfigError: one has another shape or type than when the plan was made.
        """
        for k, (layer, (weight, bias)) in enumerate(zip(self.job.layers, self._arrays, strict=True)):
            for name, own in (("weight", weight), ("bias", bias)):
                array = getattr(layer, name)
                if array.shape != own.shape or array.dtype != own.dtype:
                    raise ConfigError(
                        f"the {name} of layer {k} must stay {own.dtype} of shape {own.shape}, "
                        f"got {array.dtype} of shape {array.shape}; compile a new plan for another network"
                    )

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
        LOSSES[job.loss] is softmax_cross_entropy
        and rule_of(job.optimizer) is not None
        and all(activation_code(layer.activation) is not None for layer in layers)
        and activation_code(layers[-1].activation) == IDENTITY
        and dtype in FLOATS
        and all(array.dtype == dtype for layer in layers for array in (layer.weight, layer.bias))
        and (rows.images.dtype.kind in "iu" or rows.images.dtype in FLOATS)
        and all(array.flags.c_contiguous and array.dtype.isnative for array in (rows.images, rows.labels))
        and rows.labels.dtype == np.int64
        and rows.labels.shape == rows.images.shape[:1]
        and all(layer.weight.shape == (*x, *y) for layer, (x, y) in zip(layers, pairwise(outputs), strict=True))
        and all(layer.bias.shape == y for layer, y in zip(layers, outputs[1:], strict=True))
    )


def _tile_rows(batch: int, most: int) -> int:
    """Return the rows that are worked through at once: a batch is divided evenly, into eights."""
    tiles = -(-batch // most)
    return padded(-(-batch // tiles), TILE_ROWS)


def _block_registers(registers: int, threads: int) -> int:
    """Return of how many registers a block of the first layer's units is best: 1 to BLOCK_REGISTERS.

    An entry costs a product for each register of a block, and about one more for finding it; blocks are dealt out whole.
    """

    def cost(size: int) -> int:
        blocks = -(-registers // size)
        return -(-blocks // threads) * (size + 1)

    return min(range(BLOCK_REGISTERS, 0, -1), key=cost)

"""Choice among the four ways of dividing a step, and the room that each needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt

from ...dropout import Dropout
from ..compiler.vector_unit import ROWS
from ..network.layout import Layout, aligned, padded, rows_of
from ..network.optimizers import KernelState
from .batches import SHARDS
from .by_features import train_by_features
from .by_rows import train_by_rows
from .by_units import train_by_units
from .room import Room, new_works
from .two_layers import train_two_layers

# A layer is narrow if no more registers than this hold its units: all of a row's sums stay in registers.
NARROW_REGISTERS = 4
# Units of a block of a sparse layer, in registers. LLVM cuts vectors well only if they are a power of two of registers:
# three take five times as long as four.
BLOCK_REGISTERS = (4, 2, 1)
# Rows that are worked through at once: the gradients of 64 units for 128 rows fill a first-level cache of 32 KB.
# A narrow network's few units for 64 rows leave room for its weights; lists by feature want to be longer.
WIDE_TILE, NARROW_TILE, NARROW_KEPT_TILE = 128, 64, 256
# Each tile goes once through the gradients of all features: csr rows with few entries are worked through in tiles of
# about an entry for each feature, but no more rows than these.
MOST_LISTED_ROWS = 1024
# Where threads own features, each does all of the layers after the first. That is less than what would travel between
# them if those layers have few weights, or the batch has few rows.
FEW_WEIGHTS = 2048
# Of fewer rows, a batch is done faster by each thread than what it changes travels between them (784-11-334-107-738-10:
# 28 rows 281 ms alone, 386 ms shared; 784-11-327-121-10: 241 rows 229 ms alone, 181 ms shared).
FEW_ROWS = 100
# From so many rows on, a batch is worth a narrow network's addition of gradients over shards.
LARGE_BATCH = 1024
# Where threads exchange parts of the logits, each block of units has its part: of more numbers a row than these, they
# travel to memory and back.
MOST_PARTS = 1024
# Features of a chunk of a wide layer: the weights of 64 units for them, 100 KB, lie in the second-level cache.
CHUNK_FEATURES = 400
# Of so many features one is not zero, where the cost of a block is estimated.
FEATURES_OF_ENTRY = 5
# Chunks of features that are dealt out to threads.
SHARED_CHUNKS = 2


@dataclass(frozen=True)
class Schedule:
    """One way through a run.

    Attributes:
        name: for people.
        kernel: takes all steps of a run.
        block: registers of a block of the first layer's units.
        chunks: chunks of features of the first layer.
        tile_rows: rows that are worked through at once.
        parts: into how many the work can be dealt out: more threads would have nothing to do.
    """

    name: str
    kernel: Callable[..., Any]
    block: int
    chunks: int
    tile_rows: int
    parts: int


def choose_schedule(
    units: list[int],
    features: int,
    batch: int,
    *,
    is_sparse: bool,
    is_kept: bool,
    lanes: int,
    most_rows: int = WIDE_TILE,
) -> Schedule:
    """Return the way that suits a network.

    It depends on the sizes alone, not on the number of threads: so does, then, the order of every sum.

    Args:
        units: of each layer.
        features: of the input; of csr rows, `FEATURES_OF_ENTRY` times the entries of a row, if that is less.
        batch: rows of a step.
        is_sparse: whether the input is kept as lists of entries.
        is_kept: whether the lists by feature stay from run to run.
        lanes: numbers in a register.
        most_rows: rows of a tile of a wide layer, at most.
    """
    registers = -(-units[0] // lanes)
    block = min(size for size in BLOCK_REGISTERS if size >= min(registers, NARROW_REGISTERS)) if is_sparse else 1
    if registers <= NARROW_REGISTERS and batch >= LARGE_BATCH:
        tile = NARROW_KEPT_TILE if is_kept else NARROW_TILE
        return Schedule("rows", train_by_rows, block, 1, _tile_rows(-(-batch // SHARDS), tile), SHARDS)
    later_weights = sum(map(mul, units, units[1:]))
    if registers == 1 and later_weights > 0 and (later_weights <= FEW_WEIGHTS or batch < FEW_ROWS):
        return Schedule("features", train_by_features, 1, SHARED_CHUNKS, _tile_rows(batch, WIDE_TILE), SHARED_CHUNKS)
    block, chunks = block_registers(units, features, lanes) if is_sparse else 1, -(-features // CHUNK_FEATURES)
    blocks, tile = -(-units[0] // (block * lanes)), _tile_rows(batch, most_rows)
    if len(units) == 2 and blocks * padded(units[1], lanes) <= MOST_PARTS:
        return Schedule("units", train_two_layers, block, max(chunks, 1), tile, blocks)
    return Schedule("units", train_by_units, block, max(chunks, 1), tile, max(blocks, tile // ROWS))


def _tile_rows(batch: int, most: int) -> int:
    """Return the rows that are worked through at once: a batch is divided evenly, into eights."""
    tiles = -(-batch // most)
    return padded(-(-batch // tiles), ROWS)


def tile_bounds(schedule: Schedule, rows: int) -> npt.NDArray[np.int64]:
    """Return the first row of each tile of one batch, as the kernel counts them, then the number of rows."""
    if schedule.kernel is not train_by_rows:
        return np.append(np.arange(0, rows, schedule.tile_rows), rows)
    shards = rows * np.arange(SHARDS + 1) // SHARDS
    firsts = np.arange(0, -(-rows // SHARDS), schedule.tile_rows)  # of a shard; a smaller one's last tile may be empty
    return np.append(np.minimum(shards[:-1, None] + firsts, shards[1:, None]), rows)


def block_registers(units: list[int], features: int, lanes: int) -> int:
    """Return of how many registers a block of a wide sparse layer is best; the arguments are `choose_schedule`'s."""

    def cost(size: int) -> float:
        """Products of registers of a row, with blocks of `size`: forward and backward, on the busier of two threads."""
        blocks = -(-units[0] // (size * lanes))
        # An entry takes a product for each register and about one to be found.
        sparse = 2 * features / FEATURES_OF_ENTRY * padded(blocks, 2) / 2 * (size + 1)
        # Of the next layer, if there is one: to it padding is units, too.
        dense = 3 * blocks * size * lanes * -(-sum(units[1:2]) // lanes) / 2
        return sparse + dense

    return min(BLOCK_REGISTERS, key=cost)


def new_state(layout: Layout, slots: int, dtype: Any) -> KernelState:
    """Return buffers for the parameters, some slots and gradients, (parameters,) or (0,) each."""
    counts = (layout.count, *(layout.count if k < slots else 0 for k in range(2)), layout.count)
    return KernelState(*(aligned(count, dtype) for count in counts))


def new_room(
    schedule: Schedule, layout: Layout, state: KernelState, threads: int, dropout: Dropout | None = None
) -> Room:
    """Return what the schedule's kernel works in, with `state`; each kernel's docstring has the shapes."""
    tile, network, dtype, kernel = schedule.tile_rows, layout.network, state.parameters.dtype, schedule.kernel
    units, last = int(network.units[0]), int(network.units[-1])
    own = {train_by_features: layout.count, train_two_layers: last}.get(kernel, 0)  # numbers that each thread has
    of_own = [rows_of(threads, own if array.size else 0, dtype) for array in state]
    shards = rows_of(SHARDS if kernel is train_by_rows else 0, layout.count, dtype)
    parts = {
        train_by_rows: (threads, schedule.chunks * tile * units),
        train_by_features: (1, 2 * schedule.chunks * tile * units),
        train_two_layers: (1, 2 * (units // int(network.widths[0])) * tile * last),
        train_by_units: (0, 0),
    }[kernel]
    works = new_works(layout, tile, 2 if kernel is train_by_units else threads, dtype, dropout)
    return Room(state, KernelState(*of_own), shards, rows_of(*parts, dtype), works)

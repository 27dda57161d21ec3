"""The persistent plan: all steps of a run on full batches in one cooperative launch, for narrow networks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ..override import override
from ..plan import TrainingJob
from .device import Device
from .plan import CuPyPlan
from .source import KernelSpec, options, source

# As full_batch.cu has them.
THREADS, TILE_ROWS = 512, 32  # of a block
WARPS = THREADS // 32
MOST_OUTPUTS, MOST_SUMS = 32, 128
# Fewer tiles than this to a block, and the barriers take longer than the work. Not measured yet.
LEAST_TILES = 2


class FullBatchPlan(CuPyPlan):
    """Plan with one persistent kernel per run, which keeps weights and gradient sums on chip."""

    def __init__(self, job: TrainingJob, network: KernelSpec, cupy: Any, device: Device) -> None:
        super().__init__(job, network, cupy)
        blocks = min(device.multiprocessors, -(-self._batch_size // TILE_ROWS))
        self._grid, self._shared_bytes = (blocks,), shared_bytes(network)
        module = cupy.RawModule(
            code=source("full_batch.cu"),
            options=options(network, **macros(network, self._batch_size)),
            enable_cooperative_groups=True,
        )
        self._kernel = module.get_function("train_full_batch")
        self._kernel.max_dynamic_shared_size_bytes = self._shared_bytes
        with self._stream:
            self._partials = cupy.empty((blocks, network.weights_at[-1]), dtype=np.float32)
            self._block_sums = cupy.empty((blocks, 2), dtype=np.float64)  # loss and correct rows
            self._arrived = cupy.zeros(1, dtype=np.uint32)  # blocks at the barriers
        self.description = (
            f"compiled: one launch for all full batches, {blocks} blocks; first layer by {network.arithmetic}"
        )

    @override
    def _launch(self, steps: int, rows: int, stride: int) -> None:
        rows_of = self.job.rows
        self._arrived.fill(0)
        arguments = (
            rows_of.images, rows_of.labels, self._weights, self._batch_weights, self._order,
            np.int64(rows), np.int64(stride), np.int32(steps), self._rates, self.parameters.state, self._partials,
            self._block_sums, self._sums, self._arrived,
        )  # fmt: skip
        self._kernel(self._grid, (THREADS,), arguments, shared_mem=self._shared_bytes)


def is_for_full_batch(job: TrainingJob, network: KernelSpec, device: Device) -> bool:
    """Return whether the kernel supports the job on the device, and is worth using."""
    features, units, *_ = network.sizes
    outputs = _outputs(units)
    tiles = -(-_padded(features + 1, 16) // (16 * WARPS))  # (16, outputs), whose sums a warp keeps in registers
    return (
        device.is_cooperative
        and network.parts > 0
        and job.batch_size == len(job.rows.images)
        and job.batch_size >= LEAST_TILES * TILE_ROWS * device.multiprocessors
        and outputs <= MOST_OUTPUTS
        and tiles * outputs <= MOST_SUMS
        and shared_bytes(network) <= device.shared_bytes
    )


def macros(network: KernelSpec, batch_size: int) -> dict[str, object]:
    """Return the macros of full_batch.cu."""
    return {
        "THREADS": THREADS,
        "TILE_ROWS": TILE_ROWS,
        "BATCH": batch_size,
        "ROW_OUTPUTS": sum(network.sizes[1:]),
        "LATER_ROOM": _later_room(network),
        "SHARED_BYTES": shared_bytes(network),
    }


def shared_bytes(network: KernelSpec) -> int:
    """Return the size of `Shared` in full_batch.cu, in bytes."""
    features, units, *_ = network.sizes
    outputs, inputs, row_outputs = _outputs(units), _padded(features + 1, 16), sum(network.sizes[1:])
    warps_k = WARPS // (outputs // 8)
    later = max(network.weights_at[-1] - network.weights_at[1], 1)
    later += _later_room(network)
    floats = outputs * (_padded(inputs, 32) + 8) + warps_k * TILE_ROWS * outputs + 2 * TILE_ROWS * row_outputs
    floats += later
    halves = TILE_ROWS * (inputs + 8) + network.parts * outputs * (TILE_ROWS + 8)
    return _padded(_padded(4 * floats, 8) + 12 * TILE_ROWS, 16) + 2 * halves


def _later_room(network: KernelSpec) -> int:
    """Return the padded number of later layers' weights: strides are odd, to avoid bank conflicts."""
    return max(sum((n + 1) * (m | 1) for n, m in pairwise(network.sizes[1:])), 1)


def _outputs(units: int) -> int:
    return 16 if units <= 16 else _padded(units, 32)


def _padded(count: int, unit: int) -> int:
    return -(-count // unit) * unit

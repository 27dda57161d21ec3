"""The graph plan: several steps captured as a CUDA graph and replayed to the end of the run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..override import override
from ..plan import TrainingJob
from .device import Device
from .division import SHARED_BYTES, Division, divide, first_later, gradient_tiles, later_bytes
from .plan import CuPyPlan
from .source import KernelSpec, options, source
from .tiles import THREADS

STEPS_PER_GRAPH = 32  # each launch of a graph takes the host some microseconds


class Node(NamedTuple):
    """Kernel launch of a step; its arguments follow the step number."""

    kernel: Any
    grid: tuple[int, int]
    shared_bytes: int
    arguments: tuple[Any, ...]


class GraphPlan(CuPyPlan):
    """Plan of a few kernels per step: first layer, hidden layers, last layers with loss, gradients with update."""

    def __init__(self, job: TrainingJob, network: KernelSpec, cupy: Any, device: Device) -> None:
        super().__init__(job, network, cupy)
        division = divide(network, self._batch_size, device)
        self._module = cupy.RawModule(code=source("steps.cu"), options=options(network, **division.macros()))
        self._graph_steps = min(STEPS_PER_GRAPH, -(-len(self._order) // self._batch_size))
        with self._stream:
            self._progress = cupy.zeros(4, dtype=np.int64)  # as steps.cu reads it
            self._nodes = list(self._step(division))
        self._graph: Any = None
        steps, kernels = f"{self._graph_steps} steps", f"{len(self._nodes)} kernels"
        self.description = f"compiled: a CUDA graph of {steps}, {kernels} each; first layer by {network.arithmetic}"

    def _step(self, division: Division) -> Iterator[Node]:
        """Allocate the buffers between the kernels of a step, and yield the kernels."""
        job, dtype, empty = self.job, self._dtype, self._cupy.empty
        sizes, batch_size = self.network.sizes, self._batch_size
        images, labels, state, progress = job.rows.images, job.rows.labels, self.parameters.state, self._progress
        order, rates, sums = self._order, self._rates, self._sums
        outputs = batch_size * sum(sizes[1:])  # (batch, units) of each layer, one after the other
        values, grads = (empty(outputs, dtype=dtype) for _ in range(2))
        losses, hits = empty(batch_size, dtype=np.float64), empty(batch_size, dtype=np.uint8)  # (batch,), (batch,)
        shards = empty((division.shards, state.shape[1]) if division.shards > 1 else (1, 1), dtype=dtype)

        first = division.first_tile
        grid = (_tiles(batch_size, first.rows), _tiles(sizes[1], first.columns))
        yield self._node("first_layer", grid, division.shared_bytes(first), progress, images, order, state, values)
        hidden = division.hidden_tile
        rows, hidden_bytes = _tiles(batch_size, hidden.rows), division.shared_bytes(hidden)
        for k in division.hidden:
            grid = (rows, _tiles(sizes[k], hidden.columns))
            yield self._node("hidden_layer", grid, hidden_bytes, np.int32(k), progress, state, values)
        yield self._node(
            "later_layers", (_tiles(batch_size, division.later_rows), 1),
            later_bytes(self.network, division.first_later, division.later_rows),
            progress, labels, self._weights, self._batch_weights, order, state, values, grads, losses, hits,
        )  # fmt: skip
        for k in reversed(division.hidden):
            grid = (rows, _tiles(sizes[k - 1], hidden.columns))
            yield self._node("hidden_backward", grid, hidden_bytes, np.int32(k), progress, state, values, grads)
        yield self._node(
            "gradients",
            (gradient_tiles(self.network, division.gradient_tile, hidden) + 1, division.shards),
            division.shared_bytes(division.gradient_tile, hidden),
            progress, images, order, rates, losses, hits, values, grads, state, shards, sums,
        )  # fmt: skip
        if division.shards > 1:
            yield self._node("update", (_tiles(state.shape[1], THREADS), 1), 0, progress, rates, shards, state)

    def _node(self, name: str, grid: tuple[int, int], shared_bytes: int, *arguments: Any) -> Node:
        """Return a kernel of the module with its launch configuration."""
        kernel = self._module.get_function(name)
        if shared_bytes > SHARED_BYTES:
            kernel.max_dynamic_shared_size_bytes = shared_bytes
        return Node(kernel, grid, shared_bytes, arguments)

    @override
    def _launch(self, steps: int, rows: int, stride: int) -> None:
        if self._graph is None:
            self._graph = self._captured()
        self._progress.set(np.array([0, steps, rows, stride]))
        for _ in range(0, steps, self._graph_steps):
            self._graph.launch(self._stream)

    def _captured(self) -> Any:
        """Capture the graph; all memory is allocated before, since capturing must not allocate."""
        steps = np.int32(self._graph_steps)
        advance = partial(self._module.get_function("advance"), (1,), (1,), (steps, self._progress))
        # A kernel may be loaded when it is first launched: once, in a run without steps, which `_progress` of 0 is.
        self._submit(0)
        advance()
        self._stream.begin_capture()
        try:
            for step in range(self._graph_steps):
                self._submit(step)
            advance()
        finally:  # a stream that went on capturing would refuse all that comes after
            graph = self._stream.end_capture()
        return graph

    def _submit(self, step: int) -> None:
        """Launch the kernels of one step, or record them if the stream is capturing."""
        for kernel, grid, shared_bytes, arguments in self._nodes:
            kernel(grid, (THREADS,), (np.int32(step), *arguments), shared_mem=shared_bytes)


def _tiles(count: int, size: int) -> int:
    return -(-count // size)


def is_for_graph(network: KernelSpec, device: Device) -> bool:
    """Return whether the kernels support the network: a row of the later layers must fit into shared memory."""
    return later_bytes(network, first_later(network, device), 1) <= device.shared_bytes

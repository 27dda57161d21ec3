"""Steps by rows, of a network whose first layer is narrow, in large batches: each thread takes some rows of a batch.

A batch is cut into shards, by its size alone. A thread takes its shards forward and backward without waiting for any
other, and sums their gradients apart. Then all threads add up the shards in their order, each some of the
parameters, and take the step: two waits a batch, and the same result on any number of threads.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel, kernel
from ..compiler.lanes import count_of, like, load, zeros
from ..compiler.team import Side, share, wait_for_all
from ..first_layer.inputs import tile_of
from ..network.network import Matrix, Network, work_of
from ..network.optimizers import KernelState, Update, step_of, take_step
from .batches import RunSteps, Sums, at_tile
from .later_layers import transpose_all
from .narrow import narrow_backward, narrow_forward
from .room import Problem, Room


@inner_kernel
def step_of_share(
    side: Side, network: Network, state: KernelState, grads: Any, batches: RunSteps, k: int, factor: float
) -> None:
    """Take batch k's step on this thread's share of the parameters.

    The gradient is the sum of `grads`, (gradients, parameters), times `factor`, at most 1.
    """
    count, step = grads.shape[1], step_of(batches.rule, batches.first_step + k, batches.learning_rates[k])
    buffer, lanes = grads.reshape(-1), network.compiled.lanes
    width = count_of(zeros(state.parameters, lanes))
    start, stop = share(side, count, width)
    for at in range(start, stop, width):
        g = load(buffer, at, lanes)
        for shard in range(1, grads.shape[0]):
            g = g + load(buffer, shard * count + at, lanes)
        if factor < 1:
            g = g * like(g, factor)
        is_weight = at < network.bias_at[0]  # all biases come after all weights
        take_step(step, state, at, g, batches.l2[k] if is_weight else 0.0, lanes)


@kernel
def train_by_rows(side: Side, problem: Problem, room: Room, batches: RunSteps, sums: Sums) -> None:
    """Take all steps of a run, and add to `sums`.

    `room.parts` has a tile of the chunks' products of each thread, (threads, chunks * tile rows * units).
    """
    network, state, order, shards = problem.network, room.state, batches.order, room.shards.shape[0]
    me, alone, work = side.me, Side(0, 1, side.sync), work_of(room.works, side.me)
    chunks = problem.inputs.bounds.shape[0] - 1
    products = Matrix(room.parts[me], 0, work.rows, network.widths[0], network.units[0])
    first_shard, end_shard = share(side, shards, 1)
    for k in range(batches.learning_rates.shape[0]):
        batch, step = k * batches.batch_size, step_of(batches.rule, batches.first_step + k, batches.learning_rates[k])
        rows = min(batches.batch_size, order.shape[0] - batch)
        transpose_all(network, state.parameters, work, alone)
        shard_rows = -(-rows // shards)  # of the largest
        shard_tiles = -(-shard_rows // work.rows)
        for shard in range(first_shard, end_shard):
            shard_state = KernelState(state.parameters, state.first, state.second, room.shards[shard])
            first, end = batch + rows * shard // shards, batch + rows * (shard + 1) // shards
            loss, correct, tile_number = 0.0, 0, shard * shard_tiles
            if first == end:
                shard_state.grads[:] = 0
            for start in range(first, end, work.rows):
                index = order[start : min(start + work.rows, end)]
                tile = tile_of(problem.inputs, network, index, me, tile_number, work.rows)
                narrow_forward(network, tile, state.parameters, products, 0, chunks)
                update = Update(shard_state, step, 0.0, batches.sizes[k], index.shape[0], start == first, False)
                narrow_backward(problem, tile, update, at_tile(work, batches, start), products, 0, chunks, alone)
                for row in range(index.shape[0]):
                    loss += work.losses[row]
                    correct += work.correct[row]
                tile_number += 1
            sums.loss[1 + shard], sums.correct[1 + shard] = loss, correct
        wait_for_all(side)  # all shards' gradients are complete
        if me == 0:
            for shard in range(shards):
                sums.loss[0] += sums.loss[1 + shard]
                sums.correct[0] += sums.correct[1 + shard]
        step_of_share(side, network, state, room.shards, batches, k, 1.0)
        wait_for_all(side)  # all parameters are up to date

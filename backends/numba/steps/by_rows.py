"""Steps by rows, of a network whose first layer is narrow, in large batches: each thread takes some rows of a batch.

A batch is cut into shards, by its size alone. A thread takes its shards forward and backward without waiting for any
other, and sums their gradients apart. Then all threads add up the shards in their order, each some of the
parameters, and take the step: two waits a batch, and the same result on any number of threads.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel, kernel
from ..compiler.lanes import count_of, load, zeros
from ..compiler.team import Side, share, wait_for_all
from ..first_layer.inputs import tile_of
from ..network.layers import Matrix
from ..network.network import Network
from ..network.optimizers import State, Update, step_of, take_step
from .batches import Batches, Sums
from .later_layers import transpose_all
from .narrow import narrow_backward, narrow_forward
from .room import Problem, Room, Work, work_of


@inner_kernel
def shard_gradient(
    me: int, problem: Problem, update: Update, work: Work, products: Matrix, index: Any, first_tile: int, alone: Side
) -> tuple[float, int]:
    """Write the gradient of some samples, and return their loss and how many of them are right.

    Args:
        me: number of this thread.
        problem: what is trained.
        update: that of the whole shard, with the place of its gradient.
        work: room for a tile.
        products: room for the sums of a tile's chunks.
        index: the samples, (rows,).
        first_tile: number of their first tile in the batch.
        alone: a team of this thread only.
    """
    network, state, rows, chunks = problem.network, update.state, work.rows, problem.inputs.bounds.shape[0] - 1
    loss, correct = 0.0, 0
    if index.shape[0] == 0:
        state.grads[:] = 0
    for start in range(0, index.shape[0], rows):
        tile = tile_of(problem.inputs, network, index[start : start + rows], me, first_tile + start // rows, rows)
        used = tile.index.shape[0]
        narrow_forward(network, tile, state.parameters, products, 0, chunks)
        tile_update = Update(state, update.step, 0.0, update.size, used, start == 0, False)
        narrow_backward(problem, tile, tile_update, work, products, 0, chunks, alone)
        for row in range(used):
            loss += work.losses[row]
            correct += work.correct[row]
    return loss, correct


@inner_kernel
def step_of_share(side: Side, network: Network, state: State, grads: Any, batches: Batches, k: int) -> None:
    """Add up gradients, (gradients, parameters), for this thread's share of the parameters; take batch k's step."""
    count, step = grads.shape[1], step_of(batches.rule, batches.first_step + k, batches.learning_rates[k])
    buffer, lanes = grads.reshape(-1), network.compiled.lanes
    width = count_of(zeros(state.parameters, lanes))
    start, stop = share(side, count, width)
    for at in range(start, stop, width):
        g = load(buffer, at, lanes)
        for shard in range(1, grads.shape[0]):
            g = g + load(buffer, shard * count + at, lanes)
        is_weight = at < network.bias_at[0]  # all biases come after all weights
        take_step(step, state, at, g, batches.l2[k] if is_weight else 0.0, lanes)


@kernel
def take_step_with(side: Side, network: Network, state: State, grads: Any, batches: Batches) -> None:
    """Take the step of the first batch with gradients that came from elsewhere; see `step_of_share`."""
    step_of_share(side, network, state, grads, batches, 0)


@kernel
def train_by_rows(side: Side, problem: Problem, room: Room, batches: Batches, sums: Sums) -> None:
    """Take all steps of a run.

    Args:
        side: this thread's place in the team.
        problem: what is trained.
        room: `parts` has a tile of the chunks' sums of each thread, (threads, chunks * tile rows * units).
        batches: the work.
        sums: gone on with.
    """
    network, state, shards = problem.network, room.state, room.shards.shape[0]
    me, alone, work = side.me, Side(0, 1, side.sync), work_of(room.works, side.me)
    products = Matrix(room.parts[me], 0, work.rows, network.widths[0], network.units[0])
    first_shard, end_shard = share(side, shards, 1)
    for k in range(batches.learning_rates.shape[0]):
        start = k * batches.batch_size
        rows = min(batches.batch_size, batches.order.shape[0] - start)
        step = step_of(batches.rule, batches.first_step + k, batches.learning_rates[k])
        transpose_all(network, state.parameters, work, alone)
        shard_rows = -(-rows // shards)  # of the largest
        shard_tiles = -(-shard_rows // work.rows)
        for shard in range(first_shard, end_shard):
            index = batches.order[start + rows * shard // shards : start + rows * (shard + 1) // shards]
            shard_state = State(state.parameters, state.first, state.second, room.shards[shard])
            update = Update(shard_state, step, 0.0, batches.sizes[k], index.shape[0], True, False)
            sums.loss[1 + shard], sums.correct[1 + shard] = shard_gradient(
                me, problem, update, work, products, index, shard * shard_tiles, alone
            )
        wait_for_all(side)  # all shards' gradients are complete
        if me == 0:
            for shard in range(shards):
                sums.loss[0] += sums.loss[1 + shard]
                sums.correct[0] += sums.correct[1 + shard]
        step_of_share(side, network, state, room.shards, batches, k)
        wait_for_all(side)  # all parameters are up to date

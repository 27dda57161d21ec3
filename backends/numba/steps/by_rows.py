"""The steps of a network whose first layer is narrow, in large batches: each thread takes some rows of a batch.

A batch is cut into shards, by its size alone. A thread takes its shards forward and backward without waiting for any
other, and sums their gradients apart. Then all threads add up the shards in their order, each some of the
parameters, and take the step: two waits a batch, and the same result on any number of threads.
"""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel, kernel
from ..compiler.lanes import count_of, load, zeros
from ..compiler.team import Side, share, wait_for_all
from ..first_layer.blocks import prepare
from ..first_layer.chunks import chunk_backward, chunk_forward, finish_chunks
from ..network.layers import Matrix, Widths, gradient_of_bias
from ..network.network import Network, output_of, transpose
from ..network.optimizers import Position, Rule, State, Step, step_of, take_step
from ..network.targets import Targets
from .batches import Batches, Sums, rows_of_batch
from .later_layers import Work, later_layers_backward, through_layers, work_of


@inner_kernel
def shard_gradients(
    me: int,
    network: Network,
    inputs: Any,
    targets: Targets,
    state: State,
    grads: Any,
    parts: Any,
    first: Matrix,
    work: Work,
    index: Any,
    first_tile: int,
    size: float,
    step: Step,
    alone: Side,
    widths: Widths,
) -> tuple[float, int]:
    """Write the gradient of some samples, and return their loss and how many of them are right.

    Args:
        me: number of this thread.
        network: sizes and places.
        inputs: images of all samples, sparse or dense.
        targets: of all samples.
        state: parameters.
        grads: result, (parameters,).
        parts: room for the chunks' sums of a tile, (chunks * tile rows * units,).
        first: room for the first layer's output, (tile rows, units).
        work: room for the other layers' outputs and gradients of a tile.
        index: the samples, (rows,).
        first_tile: number of their first tile in the batch.
        size: rows that the mean of the gradient is over, or the sum of their weights.
        step: figures of the step.
        alone: a team of this thread only.
        widths: of the kernels.
    """
    loss, correct = 0.0, 0
    rows, chunks = first.rows, inputs.bounds.shape[0] - 1
    grad = output_of(network, 0, work.grads, rows)
    if index.shape[0] == 0:
        grads[:] = 0
    for start in range(0, index.shape[0], rows):
        tile = index[start : start + rows]
        used = tile.shape[0]
        position = Position(step, 0.0, start == 0, False)
        prepare(inputs, tile, me, network, rows, widths)
        for chunk in range(chunks):
            sums = Matrix(parts, chunk * rows * first.columns, rows, first.width, first.columns)
            chunk_forward(inputs, tile, me, network, state.parameters, chunk, sums, widths)
        finish_chunks(inputs, parts, network, state.parameters, first, used, widths)
        through_layers(network, state.parameters, work, first, targets, tile, 0, used, size, widths)
        for row in range(used):
            loss += work.losses[row]
            correct += work.correct[row]
        later_layers_backward(network, state, grads, work, first, used, position, alone, widths)
        for chunk in range(chunks):
            chunk_backward(
                inputs, tile, me, first_tile + start // rows, network, state, grads, chunk, grad, position, widths
            )
        for block in range(grad.columns // grad.width):
            gradient_of_bias(grad, block, used, grads, network.bias_at[0], state, position, widths.block)
    return loss, correct


@inner_kernel
def step_of_share(
    side: Side, state: State, shard_grads: Any, weights: int, step: Step, l2: float, widths: Widths
) -> None:
    """Add up the shards' gradients, (shards, parameters), for this thread's share of the parameters; take the step."""
    shards, count = shard_grads.shape
    buffer, width = shard_grads.reshape(-1), count_of(zeros(state.parameters, widths.lanes))
    start, stop = share(side, count, width)
    for at in range(start, stop, width):
        g = load(buffer, at, widths.lanes)
        for shard in range(1, shards):
            g = g + load(buffer, shard * count + at, widths.lanes)
        take_step(step, state, at, g, l2 if at < weights else 0.0, widths.lanes)


@kernel
def take_steps(
    side: Side,
    state: State,
    grads: Any,
    weights: int,
    rule: Rule,
    number: int,
    learning_rate: float,
    l2: float,
    widths: Widths,
) -> None:
    """Take one step on all parameters with a gradient that came from elsewhere.

    Args:
        side: this thread's place in the team.
        state: parameters and slots, changed in place.
        grads: gradients that are added up, (gradients, parameters).
        weights: how many of the parameters are weights, which come first.
        rule: the optimizer.
        number: of the step, from 1.
        learning_rate: at this step.
        l2: strength of the penalty on weights.
        widths: of the kernels.
    """
    step_of_share(side, state, grads, weights, step_of(rule, number, learning_rate), l2, widths)


@kernel
def train_by_rows(
    side: Side,
    network: Network,
    inputs: Any,
    targets: Targets,
    state: State,
    shard_grads: Any,
    parts: Any,
    first_outputs: Any,
    works: Work,
    batches: Batches,
    rule: Rule,
    sums: Sums,
    widths: Widths,
) -> None:
    """Take all steps of a run.

    Args:
        side: this thread's place in the team.
        network: sizes and places.
        inputs: images of all samples, sparse or dense.
        targets: of all samples.
        state: parameters and slots, changed in place.
        shard_grads: (shards, parameters).
        parts: room for a tile of the chunks' sums of each thread, (threads, chunks * tile rows * units).
        first_outputs: room for a tile of the first layer's output of each thread, (threads, tile rows * units).
        works: room for a tile of the other layers of each thread: every array has the threads as its first axis.
        batches: the work.
        rule: the optimizer.
        sums: gone on with.
        widths: of the kernels.
    """
    me, shards, alone = side.me, shard_grads.shape[0], Side(0, 1, side.sync)
    work = work_of(works, me)
    first = Matrix(first_outputs[me], 0, batches.tile_rows, network.widths[0], network.units[0])
    first_shard, end_shard = share(side, shards, 1)
    weights = network.bias_at[0]
    for k in range(batches.learning_rates.shape[0]):
        start = k * batches.batch_size
        rows = rows_of_batch(batches, start)
        step = step_of(rule, batches.first_step + k, batches.learning_rates[k])
        for layer in range(1, network.inputs.shape[0]):
            transpose(
                network, layer, state.parameters, work.transposed, network.widths[layer], 0, network.inputs[layer]
            )
        shard_rows = -(-rows // shards)  # of the largest
        shard_tiles = -(-shard_rows // batches.tile_rows)
        for shard in range(first_shard, end_shard):
            index = batches.order[start + rows * shard // shards : start + rows * (shard + 1) // shards]
            loss, correct = shard_gradients(
                me, network, inputs, targets, state, shard_grads[shard], parts[me], first, work, index,
                shard * shard_tiles, batches.sizes[k], step, alone, widths,
            )  # fmt: skip
            sums.loss[1 + shard] = loss
            sums.correct[1 + shard] = correct
        wait_for_all(side)  # all shards' gradients are complete
        if me == 0:
            for shard in range(shards):
                sums.loss[0] += sums.loss[1 + shard]
                sums.correct[0] += sums.correct[1 + shard]
        step_of_share(side, state, shard_grads, weights, step, batches.l2[k], widths)
        wait_for_all(side)  # all parameters are up to date

"""RunSteps of a run and the tiles that they are cut into."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...plan import TrainingJob
from ..compiler.compile import inner_kernel
from ..network.masks import masks_at
from ..network.network import Work
from ..network.optimizers import KernelState, Rule, Update, step_of

SHARDS = 16  # that a large batch of a narrow network is cut into


class RunSteps(NamedTuple):
    """RunSteps of a run, and the steps that end them.

    Attributes:
        order: samples, a batch after the other, (rows,).
        batch_size: rows of a batch; the last one may have fewer.
        tile_rows: rows that are worked through at once.
        rule: the optimizer.
        learning_rates: of each batch, (batches,).
        sizes: what the mean of each batch is over: its rows, or the sum of their weights, (batches,).
        l2: strength of the penalty on weights in each batch, (batches,).
        first_step: number of the first batch's step, from 1.
        first_row: row of the first sample, counted within its batch: not 0 in a part of a batch.
    """

    order: Any
    batch_size: int
    tile_rows: int
    rule: Rule
    learning_rates: Any
    sizes: Any
    l2: Any
    first_step: int
    first_row: int = 0


class Sums(NamedTuple):
    """Sums over rows.

    Attributes:
        loss: of the run so far, nats, then of each shard of the batch, (1 + shards,).
        correct: rows that are right, alike.
    """

    loss: Any
    correct: Any


def new_sums() -> Sums:
    """Return room for the sums of a run."""
    return Sums(np.zeros(1 + SHARDS), np.zeros(1 + SHARDS, dtype=np.int64))


def sizes_and_penalties(
    job: TrainingJob, order: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what `RunSteps` calls `sizes` and `l2`, (batches,) each.

    Args:
        job: the training.
        order: samples, a batch after the other, (rows,).
        weights: of all samples, (samples,); (0,) for 1 each, and the result hangs on nothing but the number of rows.
    """
    batch_size, batches = job.batch_size, -(-len(order) // job.batch_size)
    if weights.size and batches:
        sizes = np.add.reduceat(weights[order], np.arange(0, len(order), batch_size))  # (batches,)
        sizes[sizes == 0] = 1  # of rows that weigh nothing all gradients are 0
    else:
        sizes = np.full(batches, float(batch_size))  # (batches,)
        sizes[-1:] = len(order) - (batches - 1) * batch_size
    return sizes, np.full(batches, job.options.penalty(sizes))


@inner_kernel
def end_of_tile(batches: RunSteps, start: int) -> int:
    """Return where in the order the tile ends that begins at `start`; no tile reaches into the next batch."""
    end_of_batch = (start // batches.batch_size + 1) * batches.batch_size
    end: int = min(start + batches.tile_rows, end_of_batch, batches.order.shape[0])
    return end


@inner_kernel
def update_of(batches: RunSteps, state: KernelState, start: int, stop: int) -> Update:
    """Return what becomes of the gradients of the tile from start to stop."""
    k = start // batches.batch_size
    step = step_of(batches.rule, batches.first_step + k, batches.learning_rates[k])
    is_last = stop == min((k + 1) * batches.batch_size, batches.order.shape[0])
    is_first = start == k * batches.batch_size
    return Update(state, step, batches.l2[k], batches.sizes[k], stop - start, is_first, is_last)


@inner_kernel
def at_tile(work: Work, batches: RunSteps, start: int) -> Work:
    """Return the room for the tile that begins at `start` of the order."""
    k = start // batches.batch_size
    masks = masks_at(work.masks, batches.first_step + k, batches.first_row + start - k * batches.batch_size)
    return Work(work.rows, work.outputs, work.grads, work.transposed, work.losses, work.correct, masks)


@inner_kernel
def add_rows(sums: Sums, losses: Any, correct: Any, used: int) -> None:
    """Add the losses of the rows in use, and count the correct ones, in their order: no tile and no thread shows."""
    for row in range(used):
        sums.loss[0] += losses[row]
        sums.correct[0] += correct[row]

"""Steps with a clipped gradient: the gradient of a batch by one of the four ways, its norm, and a step of all threads.

The norm is summed over parts of a fixed size, in their order, so it is the same for any number of threads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..compiler.compile import chosen_by_kind, inner_kernel, kernel
from ..compiler.lanes import count_of, fma, load_numbers, total, zeros
from ..compiler.team import Side, share, wait_for_all
from ..network.network import Network, Widths
from ..network.optimizers import KEEP, KernelState, Rule
from .batches import RunSteps, Sums
from .by_features import train_by_features
from .by_rows import step_of_share, train_by_rows
from .by_units import train_by_units
from .room import Problem, Room
from .two_layers import train_two_layers

PART = 1 << 12  # numbers whose squares one thread adds up


class TwoLayers(NamedTuple):
    """The way of `train_two_layers`."""


class ByUnits(NamedTuple):
    """The way of `train_by_units`."""


class ByRows(NamedTuple):
    """The way of `train_by_rows`."""


class ByFeatures(NamedTuple):
    """The way of `train_by_features`."""


WAYS: dict[Any, Any] = {
    train_two_layers: TwoLayers(),
    train_by_units: ByUnits(),
    train_by_rows: ByRows(),
    train_by_features: ByFeatures(),
}


class Clipping(NamedTuple):
    """Maximum norm of a gradient, and the gradient.

    Attributes:
        clip_norm: maximum norm; infinity for none.
        grads: gradient of the batch, (1, parameters).
        squares: sum of the squares of each part of it, (parts,).
    """

    clip_norm: float
    grads: Any
    squares: Any


def new_clipping(clip_norm: float | None, grads: Any) -> Clipping:
    """Return the clipping of a gradient, (1, parameters), to a maximum norm; None for no clipping."""
    return Clipping(math.inf if clip_norm is None else float(clip_norm), grads, np.empty(-(-grads.shape[1] // PART)))


@inner_kernel
def write_squares(side: Side, clipping: Clipping, widths: Widths) -> None:
    """Write the sums of squares, in float64, of this thread's share of the parts."""
    grads, squares = clipping.grads.reshape(-1), clipping.squares
    first, end = share(side, squares.shape[0], 1)
    for part in range(first, end):
        at, stop = part * PART, min((part + 1) * PART, grads.shape[0])
        sums, rest = zeros(squares, widths.eight), zeros(squares, widths.lanes)
        while at + count_of(sums) <= stop:
            x = load_numbers(grads, at, sums)
            sums = fma(x, x, sums)
            at += count_of(sums)
        while at < stop:
            y = load_numbers(grads, at, rest)
            rest = fma(y, y, rest)
            at += count_of(rest)
        squares[part] = total(sums) + total(rest)


@kernel
def take_step_with(side: Side, network: Network, state: KernelState, batches: RunSteps, clipping: Clipping) -> None:
    """Take the step of the first batch with a gradient that came from elsewhere; see `take_clipped_step`."""
    take_clipped_step(side, network, state, batches, 0, clipping)


@inner_kernel
def take_clipped_step(
    side: Side, network: Network, state: KernelState, batches: RunSteps, k: int, clipping: Clipping
) -> None:
    """Take batch k's step on this thread's share of the parameters, with the gradient scaled to its largest norm.

    Source: Pascanu, Mikolov and Bengio 2013, algorithm 1.
    """
    factor = 1.0
    if clipping.clip_norm < np.inf:
        write_squares(side, clipping, network.compiled)
        wait_for_all(side)  # all parts' squares are there
        squares = 0.0
        for part in range(clipping.squares.shape[0]):
            squares += clipping.squares[part]
        norm = math.sqrt(squares)
        if norm > clipping.clip_norm:
            factor = clipping.clip_norm / norm
    step_of_share(side, network, state, clipping.grads, batches, k, factor)


@chosen_by_kind({
    TwoLayers: lambda way, *args: train_two_layers(*args),
    ByUnits: lambda way, *args: train_by_units(*args),
    ByRows: lambda way, *args: train_by_rows(*args),
    ByFeatures: lambda way, *args: train_by_features(*args),
})  # fmt: skip
def write_gradient(way: Any, side: Side, problem: Problem, room: Room, batches: RunSteps, sums: Sums) -> None:
    """Write the gradient of a batch to `room.state.first` without taking a step, and add to `sums`."""


@kernel
def train_clipped(
    side: Side,
    problem: Problem,
    room: Room,
    batches: RunSteps,
    sums: Sums,
    clipping: Clipping,
    way: TwoLayers | ByUnits | ByRows | ByFeatures,
    state: KernelState,
) -> None:
    """Take all steps of a run, and add to `sums`.

    Args:
        side: the thread.
        problem: what is trained.
        room: room of the way, whose first slot is the gradient `clipping.grads`.
        batches: of the run.
        sums: over their rows.
        clipping: of the gradient.
        way: of dividing the gradient among threads.
        state: parameters and slots.
    """
    order = batches.order
    keep = Rule(KEEP, 0.0, 0.0, 0.0, 0.0, False)
    for k in range(batches.learning_rates.shape[0]):
        rows, start = batches.batch_size, k * batches.batch_size
        one = RunSteps(
            order[start : min(start + rows, order.shape[0])], rows, batches.tile_rows, keep,
            batches.learning_rates[k : k + 1], batches.sizes[k : k + 1], batches.l2[k : k + 1],
            batches.first_step + k, batches.first_row,
        )  # fmt: skip
        write_gradient(way, side, problem, room, one, sums)
        wait_for_all(side)  # the gradient is complete
        take_clipped_step(side, problem.network, state, batches, k, clipping)
        wait_for_all(side)  # all parameters are up to date

"""Softmax and cross-entropy on lanes, a row at a time."""

from __future__ import annotations

import math

import numpy as np

from ..compiler.compile import inner_kernel
from ..compiler.lane_types import Width
from ..compiler.lanes import (
    count_equal,
    count_of,
    first_equal,
    item,
    largest,
    like,
    load,
    positions,
    store,
    total,
    where_less,
)
from .functions import exponential_of_difference
from .network import Matrix, place_of

SMALL = 1 / 16  # from here on the logarithm of 1 + x is right, too, and takes less time than log1p


@inner_kernel
def is_best(logits: Matrix, row: int, label: int, classes: int) -> bool:
    """Return whether `label` is the first of the row's largest logits; a NaN is larger than any number."""
    best, largest_yet = 0, item(logits.buffer, place_of(logits, row, 0))
    for c in range(1, classes):
        z = item(logits.buffer, place_of(logits, row, c))
        if z > largest_yet or (z != z and largest_yet == largest_yet):
            best, largest_yet = c, z
    return best == label


@inner_kernel
def softmax_cross_entropy_row(
    logits: Matrix, grad: Matrix, row: int, label: int, classes: int, weight: float, size: float, lanes: Width
) -> tuple[float, bool]:
    """Write a row's gradient `weight / size * (softmax(logits) - one_hot)`; return its loss, nats, and if it is right.

    Both are right to a few roundings for all finite logits, but that terms of the sum that are no normal numbers count
    as 0. Source: Bishop 2006, 4.3.4; for the way that it is computed, see `losses.log_softmax`.

    The arguments are those of `targets.loss_of_row`, but for the row's class `label`, outside of [0, classes) none, as
    in `losses.softmax_cross_entropy`, and its weight, which the gradient is multiplied by, and the loss is not.
    """
    zero = like(load(logits.buffer, logits.at, lanes), 0)
    least, one = like(zero, -np.inf), like(zero, 1)
    end, hot = like(zero, classes), like(zero, label if label < classes else -1)  # no column is -1
    panels = -(-classes // count_of(zero))
    best = item(logits.buffer, place_of(logits, row, 0))
    for panel in range(panels):
        column = positions(zero) + like(zero, panel * count_of(zero))
        z = load(logits.buffer, place_of(logits, row, panel * count_of(zero)), lanes)
        best = max(best, largest(where_less(column, end, z, least)))
    top, sums, ties = like(zero, best), zero, 0  # e^(z - best) of the smaller ones, and how many are the largest
    for panel in range(panels):
        column = positions(zero) + like(zero, panel * count_of(zero))
        z = load(logits.buffer, place_of(logits, row, panel * count_of(zero)), lanes)
        z = where_less(column, end, z, top)  # the padding is as large; it is taken off below
        e = exponential_of_difference(z, top)
        sums = sums + where_less(z, top, e, e - one)  # of a largest e - 1 is 0; a NaN stays one
        ties += count_equal(z, top)
        store(grad.buffer, place_of(grad, row, panel * count_of(zero)), e)
    # All but one largest, whose e is 1: beside it a small rest would be lost. Whole numbers are not reordered.
    others = total(sums) + like(best, ties - 1 - (panels * count_of(zero) - classes))
    rest = like(zero, others)
    scale = like(zero, weight) / ((one + rest) * like(zero, size))
    for panel in range(panels):
        column = positions(zero) + like(zero, panel * count_of(zero))
        at = place_of(grad, row, panel * count_of(zero))
        e = load(grad.buffer, at, lanes)
        e = where_less(column, hot, e, where_less(hot, column, e, (e - one) - rest))  # p - 1 would cancel
        store(grad.buffer, at, where_less(column, end, e * scale, zero))
    if label < 0 or label >= classes:
        return 0.0, False
    z = item(logits.buffer, place_of(logits, row, label))
    rest_sum = np.float64(others)
    log_sum = math.log1p(rest_sum) if rest_sum < SMALL else math.log(1 + rest_sum)
    loss = (np.float64(best) - np.float64(z)) + log_sum  # -log p
    if others != others or panels > 1:
        return loss, is_best(logits, row, label, classes)
    first = load(logits.buffer, place_of(logits, row, 0), lanes)
    return loss, first_equal(first, top) == label

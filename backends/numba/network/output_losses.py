"""Losses whose labels are numbers, one for each output, on lanes, a row at a time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..compiler.compile import inner_kernel
from ..compiler.lane_types import Width
from ..compiler.lanes import (
    count_equal,
    count_of,
    item,
    like,
    load,
    load_numbers,
    positions,
    put,
    store,
    total,
    where_less,
)
from .functions import exponential_of_difference
from .network import Matrix, place_of

SIGMOID, SQUARED, ABSOLUTE, HUBER, QUANTILE, POISSON = range(6)
LARGE_PRODUCT = 1e200  # the factors of one register more, at most 2 each, are far from making infinity of it


class OutputTargets(NamedTuple):
    """A number for each output of each row.

    Attributes:
        loss: code of the loss.
        parameter: of the loss; 0 if it has none.
        values: one row after the other, (samples * outputs,) float64.
        weights: how much each row counts, (samples,) float64; (0,) for 1 each.
    """

    loss: int
    parameter: float
    values: Any
    weights: Any


@inner_kernel
def labels_of_panel(values: Any, at: int, count: int, room: Any, room_at: int, pattern: Any, lanes: Width) -> Any:
    """Return `count` labels from `at` on as lanes like `pattern`; what the other lanes hold means nothing.

    Nothing is read beyond the end of `values`: its last labels go by the elements of `room` from `room_at` on.
    """
    if at + count_of(pattern) <= values.shape[0]:
        return load_numbers(values, at, pattern)
    for i in range(count):
        put(room, room_at + i, item(values, at + i))
    return load(room, room_at, lanes)


@inner_kernel
def loss_and_slope(loss: int, parameter: float, y: float, t: float) -> tuple[float, float]:
    """Return a loss of regression and its derivative, for output `y` and target `t`; see `backends/losses.py`."""
    if loss == POISSON:
        mean = np.exp(y)
        log_ratio = y - np.log(t) if t > 0 else 0.0
        return mean - t - t * log_ratio, mean - t
    e = y - t
    if loss == HUBER:
        slope = parameter if e > parameter else -parameter if e < -parameter else e
        return slope * (e - slope / 2), slope
    sign = 1.0 if e > 0 else -1.0 if e < 0 else e  # NaN stays NaN
    slope = sign / 2 + (0.5 - parameter) * abs(sign) if loss == QUANTILE else sign
    return slope * e, slope


@inner_kernel
def output_loss_row(
    targets: OutputTargets,
    sample: int,
    logits: Matrix,
    grad: Matrix,
    row: int,
    outputs: int,
    factor: float,
    lanes: Width,
) -> tuple[float, bool]:
    """Write a row's gradient, times `factor`; return its loss, nats, and if all of its outputs are of their classes.

    Of the sigmoid both are right to a few roundings for all finite logits, but that an `e^-|z|` that is no normal
    number counts as 0; the logarithms of all `1 + e^-|z|` are one of their product. Source: Bishop 2006, sections 4.3.2
    and 5.2; for the way that it is computed, see `losses.sigmoid_cross_entropy`.

    The arguments are those of `targets.loss_of_row`, but that the gradient, not the loss, is multiplied by `factor`.
    """
    zero = like(load(logits.buffer, logits.at, lanes), 0)
    one, half, end, factors = like(zero, 1), like(zero, 0.5), like(zero, outputs), like(zero, factor)
    width, right, sums, loss = count_of(zero), 0, zero, 0.0
    rest = 0.0  # the product of all 1 + e, less 1: beside that 1 a small rest would be lost
    for first in range(0, outputs, width):
        column, count = positions(zero) + like(zero, first), min(width, outputs - first)
        grad_at = place_of(grad, row, first)
        y = labels_of_panel(targets.values, sample * outputs + first, count, grad.buffer, grad_at, zero, lanes)
        z = load(logits.buffer, place_of(logits, row, first), lanes)
        y, z = where_less(column, end, y, zero), where_less(column, end, z, zero)
        g = z - y
        if targets.loss == SIGMOID:
            e = exponential_of_difference(where_less(zero, z, zero - z, z), zero)  # e^-|z|
            store(grad.buffer, grad_at, e)
            for i in range(count):
                number = np.float64(item(grad.buffer, grad_at + i))
                rest += number + rest * number
            if rest > LARGE_PRODUCT:
                loss, rest = loss + math.log1p(rest), 0.0
            sums = sums + (where_less(z, zero, zero, z) - y * z)  # max(z, 0) - y z; a NaN stays one
            # With p = sigmoid(z) and q = 1 - p, p - y = p (1 - y) - q y: no two numbers cancel.
            p, q = where_less(zero, z, one, e), where_less(zero, z, e, one)
            g = (p * (one - y) - q * y) / (one + e)
            right += count_equal(where_less(zero, z, one, zero), where_less(half, y, one, zero)) - (width - count)
        elif targets.loss == SQUARED:
            sums = sums + half * g * g
        else:
            store(grad.buffer, grad_at, zero)
            for i in range(count):
                output = np.float64(item(logits.buffer, place_of(logits, row, first + i)))
                target = item(targets.values, sample * outputs + first + i)
                loss_of, slope = loss_and_slope(targets.loss, targets.parameter, output, target)
                loss += loss_of
                put(grad.buffer, grad_at + i, slope)
            g = load(grad.buffer, grad_at, lanes)
        store(grad.buffer, grad_at, where_less(column, end, g * factors, zero))
    return loss + math.log1p(rest) + np.float64(total(sums)), targets.loss == SIGMOID and right == outputs

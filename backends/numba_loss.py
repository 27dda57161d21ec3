"""Softmax and cross-entropy on lanes, a row at a time."""

from __future__ import annotations

import numpy as np

from .numba_compile import inner_kernel
from .numba_functions import exponential
from .numba_lane_types import Width
from .numba_lanes import count_of, first_equal, item, largest, like, load, positions, store, total, where_less
from .numba_layers import Matrix, place_of


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
    logits: Matrix, grad: Matrix, row: int, label: int, classes: int, batch_size: int, lanes: Width
) -> tuple[float, bool]:
    """Write a row's gradient `(softmax(logits) - one_hot) / batch_size`; return its loss, nats, and if it is right.

    Source: Bishop 2006, 4.3.4.

    Args:
        logits: (rows, classes with padding).
        grad: result, alike; 0 in the padding.
        row: which row.
        label: its class; outside of [0, classes) it is none, as in `losses.softmax_cross_entropy`.
        classes: how many there are.
        batch_size: rows that the mean of the gradient is over.
        lanes: one register.
    """
    zero = like(load(logits.buffer, logits.at, lanes), 0)
    least, one, share = like(zero, -np.inf), like(zero, 1), like(zero, 1 / batch_size)
    end, hot = like(zero, classes), like(zero, label if label < classes else -1)  # no column is -1
    panels = -(-classes // count_of(zero))
    best = item(logits.buffer, place_of(logits, row, 0))
    for panel in range(panels):
        column = positions(zero) + like(zero, panel * count_of(zero))
        z = load(logits.buffer, place_of(logits, row, panel * count_of(zero)), lanes)
        best = max(best, largest(where_less(column, end, z, least)))
    sums = zero
    for panel in range(panels):
        column = positions(zero) + like(zero, panel * count_of(zero))
        z = load(logits.buffer, place_of(logits, row, panel * count_of(zero)), lanes)
        e = where_less(column, end, exponential(z - like(zero, best)), zero)  # in [0, 1]: the shift changes no ratio
        sums = sums + e
        store(grad.buffer, place_of(grad, row, panel * count_of(zero)), e)
    e_sum = total(sums)
    scale = one / like(zero, e_sum)
    for panel in range(panels):
        column = positions(zero) + like(zero, panel * count_of(zero))
        one_hot = where_less(column, hot, zero, where_less(hot, column, zero, one))
        at = place_of(grad, row, panel * count_of(zero))
        store(grad.buffer, at, (load(grad.buffer, at, lanes) * scale - one_hot) * share)
    if label < 0 or label >= classes:
        return 0.0, False
    z = item(logits.buffer, place_of(logits, row, label))
    loss = float(np.log(e_sum) - (z - best))  # -log p
    if e_sum != e_sum or panels > 1:
        return loss, is_best(logits, row, label, classes)
    first = load(logits.buffer, place_of(logits, row, 0), lanes)
    return loss, first_equal(first, like(zero, best)) == label

"""Masks that are drawn in a kernel, for any rows and units, are those that are drawn on the host."""

import numpy as np
import pytest
from xpnn.backends.dropout import Dropout
from xpnn.backends.numba.compiler.compile import kernel
from xpnn.backends.numba.compiler.lane_types import Width
from xpnn.backends.numba.network.layers import drop
from xpnn.backends.numba.network.masks import Masks, NoMasks, draw, masks_at, masks_of
from xpnn.backends.numba.network.network import Matrix
from xpnn.backends.numba.steps.room import new_masks

ROWS, LANES = 32, 8


@kernel
def dropped(room, step, row, k, y, first, end, start, stop, lanes):
    masks = masks_at(masks_of(room, 1), step, row)
    draw(masks, k, first, end, start, stop)
    drop(masks, k, y, first, end, start, stop, lanes)


@pytest.mark.parametrize("units", [40, 37, 3])
@pytest.mark.parametrize(("dtype", "rate"), [("float32", 0.3), ("float64", 0.5)])
def test_every_tile_and_share_of_the_units_has_the_masks_of_the_host(units, dtype, rate):
    dropout, padded = Dropout(rate, 2**62 + 7), -(-units // LANES) * LANES
    room = new_masks(dropout, [11, units], ROWS, 2, dtype)
    assert type(room) is Masks
    for row in (0, 1, 240, 256, 500):  # of the batch: 240 and 500 are in two blocks of the host's draws
        factors = np.ones((ROWS, padded), dtype)
        factors[:, :units] = dropout.factors(9, 1, row, row + ROWS, units, dtype)
        for first, end in {(0, padded), (0, LANES), (padded - LANES, padded)}:
            for start, stop in ((0, ROWS), (8, 13)):
                room.bits[...] = 0
                y = np.ones((padded // LANES, ROWS, LANES), dtype)
                matrix = Matrix(y.reshape(-1), 0, ROWS, LANES, padded)
                dropped(room, 9, row, 1, matrix, first, end, start, stop, Width(LANES))
                expected = np.ones((ROWS, units), dtype)
                expected[start:stop, first:end] = factors[start:stop, first : min(end, units)]
                np.testing.assert_array_equal(y.transpose(1, 0, 2).reshape(ROWS, padded)[:, :units], expected)


@pytest.mark.parametrize(
    ("dropout", "units"), [(None, [5]), (Dropout(0.5, 1), []), (Dropout(1e-60, 1), [5])], ids=["no", "no layer", "tiny"]
)
def test_nothing_is_dropped_without_dropout_or_hidden_layers(dropout, units):
    assert type(new_masks(dropout, units, ROWS, 2, "float32")) is NoMasks


@pytest.mark.parametrize("rate", [1e-60, 1e-9, 0.1, 0.3, 0.5, 1 - 1e-9])
def test_the_bound_is_where_the_draws_reach_the_rate(rate):
    """A draw is a number of 24 bits, the first of 32, compared with the rate in float32."""
    bound = Dropout(rate, 1).largest_dropped
    for draw_bits in (bits for bits in (bound - 256, bound, bound + 1, bound + 256) if 0 <= bits < 2**32):
        is_kept = np.float32((draw_bits >> 8) * 2.0**-24) >= np.float32(rate)
        assert is_kept == (draw_bits > bound)

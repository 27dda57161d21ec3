"""Rows of the losses that take a number for each output: accuracy, padding, and what becomes of NaN and infinity."""

import numba
import numpy as np
import pytest
from xpnn.backends import LOSSES
from xpnn.backends.losses import parse_loss
from xpnn.backends.numba.compiler.lane_types import Width
from xpnn.backends.numba.network.network import Matrix
from xpnn.backends.numba.network.output_losses import OutputTargets, output_loss_row
from xpnn.backends.numba.network.targets import loss_code

LANES = 8
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])
every_loss = pytest.mark.parametrize("loss", [*list(LOSSES)[1:], "huber:0.3", "quantile:0.9"])

LOGITS = {
    "ordinary": lambda generator, shape: 3 * generator.normal(size=shape),
    "zero": lambda generator, shape: generator.choice([0.0, -0.0], size=shape),
    "far": lambda generator, shape: generator.choice([-600.0, -50.0, 0.0, 50.0, 600.0], size=shape),
    "huge": lambda generator, shape: generator.choice([-1e15, -1e4, 1e4, 1e15], size=shape),
    "infinite": lambda generator, shape: generator.choice([-np.inf, 1.0, np.inf], size=shape),
    "not a number": lambda generator, shape: np.where(generator.random(shape) < 0.3, np.nan, 1.0),
}


@numba.njit
def apply_rows(targets, logits, grad, rows, columns, outputs, factor, losses, hits, lanes):
    z, g = Matrix(logits, 0, rows, 8, columns), Matrix(grad, 0, rows, 8, columns)
    for row in range(rows):
        losses[row], hits[row] = output_loss_row(targets, row, z, g, row, outputs, factor, lanes)


def losses_of(loss, logits, labels, factor):
    """Loss and hit of each row, and the gradient with its padding; the logits' padding is NaN, which nothing sees."""
    rows, outputs = logits.shape
    columns = -(-outputs // 8) * 8
    blocks = np.full((rows, columns), np.nan, dtype=logits.dtype)
    blocks[:, :outputs] = logits
    z = np.ascontiguousarray(blocks.reshape(rows, -1, 8).transpose(1, 0, 2)).ravel()
    grad = np.full(rows * columns, np.nan, dtype=logits.dtype)
    losses, hits = np.empty(rows), np.empty(rows, dtype=np.int64)
    targets = OutputTargets(loss_code(loss), parse_loss(loss)[1] or 0.0, labels.ravel(), np.empty(0))
    apply_rows(targets, z, grad, rows, columns, outputs, factor, losses, hits, Width(LANES))
    return losses, hits, grad.reshape(-1, rows, 8).transpose(1, 0, 2).reshape(rows, columns)


@both_types
@every_loss
@pytest.mark.parametrize("outputs", [1, 3, 8, 10, 40])
@pytest.mark.parametrize("kind", list(LOGITS))
def test_rows_are_the_generic_loss(generic, dtype, loss, outputs, kind):
    generator = np.random.default_rng(3)
    logits = LOGITS[kind](generator, (9, outputs)).astype(dtype)
    labels = generator.integers(0, 2, (9, outputs)).astype(np.float64)
    with np.errstate(all="ignore"):
        losses, hits, grad = losses_of(loss, logits, labels, 1 / 37)
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    for row in range(9):
        one = logits[row : row + 1], labels[row : row + 1]
        with np.errstate(all="ignore"):
            expected, correct, expected_grad = generic.loss(*one, loss=loss, batch_size=37)
        np.testing.assert_allclose(losses[row], float(expected), rtol=8 * eps, atol=tiny * outputs)
        assert hits[row] == correct
        np.testing.assert_allclose(grad[row, :outputs], expected_grad[0], rtol=16 * eps, atol=tiny)
    np.testing.assert_array_equal(grad[:, outputs:], 0)


@both_types
def test_a_product_of_many_factors_stays_finite(dtype):
    """Of logits 0 each of 3000 factors is 2, and 2^3000 beyond every type."""
    logits, labels = np.zeros((2, 3000), dtype=dtype), np.ones((2, 3000))
    losses, hits, _ = losses_of("sigmoid_cross_entropy", logits, labels, 1.0)
    np.testing.assert_allclose(losses, 3000 * np.log(2), rtol=1e-12)
    assert hits.tolist() == [0, 0]


@both_types
def test_a_small_loss_keeps_its_digits(dtype):
    logits = np.full((1, 3), 60, dtype=dtype)
    losses, hits, grad = losses_of("sigmoid_cross_entropy", logits, np.ones((1, 3)), 1.0)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(losses, 3 * np.exp(-60.0), rtol=8 * eps)
    np.testing.assert_allclose(grad[0, :3], -np.exp(-60.0), rtol=8 * eps)
    assert hits[0] == 1


@every_loss
def test_nothing_is_read_beyond_the_labels(loss):
    """The last row's labels end with the array: what lies behind it is NaN here, and does not show."""
    room = np.full(3 * 3 + 8, np.nan)
    room[:9] = 1
    whole = losses_of(loss, np.zeros((3, 3)), room[:9].reshape(3, 3), 1.0)
    assert np.isfinite(whole[0]).all()
    np.testing.assert_array_equal(whole[0], whole[0][0])
    np.testing.assert_array_equal(whole[2], np.tile(whole[2][0], (3, 1)))

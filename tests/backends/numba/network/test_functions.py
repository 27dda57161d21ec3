"""Exponential, activations and the softmax row of the compiled plan: accuracy, and what becomes of NaN and infinity."""

import numba
import numpy as np
import pytest
from numba.core import config
from xpnn.backends import ACTIVATIONS
from xpnn.backends.numba.compiler.lane_types import Width
from xpnn.backends.numba.compiler.lanes import load, store
from xpnn.backends.numba.network.functions import (
    activated,
    activated_backward,
    activation_code,
    exponential,
    hyperbolic_tangent,
)
from xpnn.backends.numba.network.network import Matrix
from xpnn.backends.numba.network.softmax_loss import softmax_cross_entropy_row

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too slow as plain Python")

LANES = 8
KNOWN = [name for name in ACTIVATIONS if activation_code(name) is not None]
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])


@numba.njit
def apply_functions(x, out, lanes):
    for at in range(0, x.size, 8):
        z = load(x, at, lanes)
        store(out[0], at, exponential(z))
        store(out[1], at, hyperbolic_tangent(z))


@numba.njit
def apply_activation(x, grad, out, code, lanes):
    for at in range(0, x.size, 8):
        y = activated(load(x, at, lanes), code)
        store(out[0], at, y)
        store(out[1], at, activated_backward(load(grad, at, lanes), y, code))


@numba.njit
def apply_softmax(logits, grad, rows, columns, labels, classes, weight, size, losses, hits, lanes):
    z, g = Matrix(logits, 0, rows, 8, columns), Matrix(grad, 0, rows, 8, columns)
    for row in range(rows):
        losses[row], hits[row] = softmax_cross_entropy_row(z, g, row, labels[row], classes, weight, size, lanes)


def functions_of(x):
    out = np.empty((2, x.size), dtype=x.dtype)
    apply_functions(x, out, Width(LANES))
    return out


def in_blocks(array):
    """(rows, units) as a flat array of blocks of 8 units, with NaN in the padding, which nothing may depend on."""
    rows, units = array.shape
    blocks = np.full((rows, -(-units // 8) * 8), np.nan, dtype=array.dtype)
    blocks[:, :units] = array
    return np.ascontiguousarray(blocks.reshape(rows, -1, 8).transpose(1, 0, 2)).ravel()


def softmax_of(logits, labels, batch_size, weight=1.0):
    """Loss and hit of each row, and the gradient with its padding."""
    rows, classes = logits.shape
    columns = -(-classes // 8) * 8
    grad = np.full(rows * columns, 7, dtype=logits.dtype)
    losses, hits = np.empty(rows), np.empty(rows, dtype=np.int64)
    z = in_blocks(logits)
    apply_softmax(z, grad, rows, columns, labels, classes, weight, float(batch_size), losses, hits, Width(LANES))
    return losses, hits, grad.reshape(-1, rows, 8).transpose(1, 0, 2).reshape(rows, columns)


@both_types
def test_exponential_and_tangent_are_right_to_a_few_roundings(dtype):
    eps = float(np.finfo(dtype).eps)
    end = {"float32": 86.0, "float64": 706.0}[dtype]
    generator = np.random.default_rng(1)
    x = np.concatenate([generator.uniform(-end, end, 4000), generator.uniform(-1, 1, 4000)]).astype(dtype)
    e, tangent = functions_of(x)
    exact = x.astype(np.longdouble)
    # The part of ln 2 that is taken off k times is right to 53 bits of ln 2, not to 53 of its own.
    assert (np.abs(e / np.exp(exact) - 1) < 4 * eps).all()
    np.testing.assert_allclose(tangent, np.tanh(exact).astype(np.float64), rtol=4 * eps)


@both_types
def test_exponential_and_tangent_of_tiny_numbers(dtype):
    x = np.array([1e-4, -1e-4, 1e-10, -1e-10, 1e-30, 0.0, 1e-20, -1e-30], dtype=dtype)
    e, tangent = functions_of(x)
    np.testing.assert_allclose(tangent, np.tanh(x.astype(np.float64)), rtol=4 * float(np.finfo(dtype).eps))
    np.testing.assert_allclose(e, np.exp(x.astype(np.float64)), rtol=2 * float(np.finfo(dtype).eps))


@both_types
def test_exponential_and_tangent_at_their_ends(dtype):
    x = np.array([0, np.nan, np.inf, -np.inf, 1e30, -1e30, -2000, 25], dtype=dtype)
    e, tangent = functions_of(x)
    np.testing.assert_array_equal(tangent, [0, np.nan, 1, -1, 1, -1, -1, 1])
    assert e[0] == 1
    assert np.isnan(e[1])
    assert (e[[2, 4]] > np.finfo(dtype).max / 8).all()
    assert (e[[3, 5, 6]] < 4 * np.finfo(dtype).tiny).all()
    assert (e[[3, 5, 6]] >= 0).all()


@both_types
@pytest.mark.parametrize("activation", KNOWN)
def test_activations_are_the_generic_ones(dtype, activation):
    generator, eps = np.random.default_rng(2), float(np.finfo(dtype).eps)
    x, grad = (3 * generator.normal(size=(2, 64))).astype(dtype)
    x[:2] = 0.0, -0.0
    out = np.empty((2, 64), dtype=dtype)
    apply_activation(x, grad, out, activation_code(activation), Width(LANES))
    y = ACTIVATIONS[activation].forward(np, x)
    np.testing.assert_allclose(out[0], y, rtol=8 * eps, atol=2 * eps)
    expected = ACTIVATIONS[activation].backward(np, grad, y)
    np.testing.assert_allclose(out[1], expected, rtol=8 * eps, atol=16 * eps)


@both_types
@pytest.mark.parametrize("activation", KNOWN)
def test_nan_goes_through_every_activation(dtype, activation):
    x, out = np.full(8, np.nan, dtype=dtype), np.zeros((2, 8), dtype=dtype)
    apply_activation(x, np.ones(8, dtype=dtype), out, activation_code(activation), Width(LANES))
    assert np.isnan(out[0]).all()


def test_padding_of_a_sigmoid_layer_is_silent():
    """A bias far below: output 0, derivative 0."""
    x, out = np.resize([-np.inf, -1e30], 8), np.ones((2, 8))
    apply_activation(x, np.ones(8), out, activation_code("sigmoid"), Width(LANES))
    np.testing.assert_array_equal(out, np.zeros((2, 8)))


LOGITS = {
    "ordinary": lambda generator, shape: 3 * generator.normal(size=shape),
    "ties": lambda generator, shape: generator.integers(0, 2, shape).astype(float),
    "far": lambda generator, shape: generator.choice([-600.0, 0.0, 600.0], size=shape),
    "equal": lambda generator, shape: np.full(shape, generator.normal(1e4)),
}


@both_types
@pytest.mark.parametrize("classes", [1, 3, 8, 10, 40])
@pytest.mark.parametrize("kind", list(LOGITS))
def test_softmax_rows_are_the_generic_loss(generic, dtype, classes, kind):
    generator = np.random.default_rng(3)
    logits = LOGITS[kind](generator, (32, classes)).astype(dtype)
    labels = generator.integers(0, classes, 32)
    losses, hits, grad = softmax_of(logits, labels, 37)
    eps = float(np.finfo(dtype).eps)
    for row in range(32):
        one = logits[row : row + 1], labels[row : row + 1]
        loss, correct, expected = generic.loss(*one, loss="softmax_cross_entropy", batch_size=37)
        assert losses[row] == pytest.approx(float(loss), rel=8 * eps, abs=8 * eps)
        assert hits[row] == correct
        np.testing.assert_allclose(grad[row, :classes], expected[0], rtol=0, atol=8 * eps / 37)
    np.testing.assert_array_equal(grad[:, classes:], 0)


@both_types
@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("label", [-1, -(2**40), 16, 1000])
def test_a_label_that_is_no_class(generic, dtype, classes, label):
    logits = np.random.default_rng(4).normal(size=(1, classes)).astype(dtype)
    losses, hits, grad = softmax_of(logits, np.array([label]), 5)
    assert (losses[0], hits[0]) == (0.0, 0)
    _, _, expected = generic.loss(logits, np.array([label]), loss="softmax_cross_entropy", batch_size=5)
    np.testing.assert_allclose(grad[:, :classes], expected, rtol=0, atol=8 * float(np.finfo(dtype).eps))
    np.testing.assert_array_equal(grad[:, classes:], 0)


@both_types
@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_shows_in_loss_and_gradient(generic, dtype, classes, place):
    logits = np.random.default_rng(5).normal(size=(1, classes)).astype(dtype)
    logits[0, place] = np.nan
    for label in range(classes):
        losses, hits, grad = softmax_of(logits, np.array([label]), 1)
        assert np.isnan(losses[0])
        assert np.isnan(grad[0, :classes]).all()
        _, correct, _ = generic.loss(logits, np.array([label]), loss="softmax_cross_entropy", batch_size=1)
        assert hits[0] == correct == (label == place)

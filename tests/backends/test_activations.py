"""Activations: numbers worked out by hand, derivatives, and the far ends.

That every backend has the same numbers is in the contract.
"""

import math

import numpy as np
import pytest
from xpnn.backends import ACTIVATIONS, Activation

# activation: (x, y, dy/dx at x)
POINTS = {
    "identity": [(-2.0, -2.0, 1.0), (0.0, 0.0, 1.0), (3.5, 3.5, 1.0)],
    "relu": [(-2.0, 0.0, 0.0), (0.0, 0.0, 0.0), (3.5, 3.5, 1.0)],
    "leaky_relu": [(-2.0, -0.02, 0.01), (0.0, 0.0, 0.01), (3.5, 3.5, 1.0)],
    "tanh": [(0.0, 0.0, 1.0), (math.log(2), 0.6, 0.64), (-math.log(3), -0.8, 0.36)],  # tanh(ln a) = (a²-1)/(a²+1)
    "sigmoid": [(0.0, 0.5, 0.25), (math.log(3), 0.75, 0.1875), (-math.log(4), 0.2, 0.16)],  # of ln a: a/(a+1)
}
ENDS = {  # activation: (y at -10^4, y at 10^4)
    "identity": (-1e4, 1e4),
    "relu": (0.0, 1e4),
    "leaky_relu": (-100.0, 1e4),
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
}


@pytest.fixture
def apply(generic):
    """`apply(name, x)`: the activation's output by the linear operation, over a product that is x."""

    def run(name, x):
        return generic.linear(x[:, None], np.ones((1, 1), x.dtype), np.zeros(1, x.dtype), activation=name)[:, 0]

    return run


@pytest.fixture
def differentiate(generic):
    """`differentiate(name, y)`: the gradient of the bias for each single output y, when that of y is 1."""

    def run(name, y):
        one = np.ones((1, 1))
        each = [generic.linear_backward(one, np.full((1, 1), k), one, one, activation=name)[2] for k in y]
        return np.concatenate(each)

    return run


def test_every_activation_has_its_points_here():
    assert POINTS.keys() == ENDS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values(apply, name):
    x, expected, _ = np.array(POINTS[name]).T
    np.testing.assert_allclose(apply(name, x), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives(differentiate, name):
    _, y, expected = np.array(POINTS[name]).T
    np.testing.assert_allclose(differentiate(name, y), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_is_multiplied_by_the_gradient_that_comes_in(name):
    _, y, derivative = np.array(POINTS[name]).T
    grad_y = np.array([3.0, -5.0, 0.5])
    grad_x = ACTIVATIONS[name].backward(np, grad_y, y)
    np.testing.assert_allclose(grad_x, grad_y * derivative, rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal(grad_y, [3.0, -5.0, 0.5])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_far_ends_are_finite_and_right(apply, name, dtype):
    y = apply(name, np.array([-1e4, 1e4], dtype))
    assert y.dtype == np.dtype(dtype)
    np.testing.assert_allclose(y, ENDS[name], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_of_the_table_keep_the_type(name, dtype):
    x = np.array([-1.0, 0.0, 2.0], dtype)
    activation = ACTIVATIONS[name]
    assert isinstance(activation, Activation)
    y = activation.forward(np, x)
    assert y.dtype == np.dtype(dtype)
    assert activation.backward(np, x, y).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(x, [-1.0, 0.0, 2.0])

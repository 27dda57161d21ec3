"""Starting weights: their distributions, and that a seed fixes them."""

import math

import numpy as np
import pytest
from xpnn.nn.network.initializers import INITIALIZERS

IN, OUT = 300, 200

# initializer: (limit of the weights or None, variance of the weights, variance of the biases)
MOMENTS = {
    "he": (None, 2 / IN, 0.0),
    "glorot": (math.sqrt(6 / (IN + OUT)), 2 / (IN + OUT), 0.0),
    "uniform": (0.5, 1 / 12, 1 / 12),
}


def test_every_initializer_has_its_moments_here():
    assert MOMENTS.keys() == INITIALIZERS.keys()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_moments(name):
    limit, weight_variance, bias_variance = MOMENTS[name]
    weight, bias = INITIALIZERS[name](np.random.default_rng(0), IN, OUT)
    assert (weight.shape, bias.shape) == ((IN, OUT), (OUT,))
    assert weight.dtype == bias.dtype == np.float64
    # of 60,000 draws: the mean lies within 5 standard errors of 0, the variance within 5% of its value
    assert abs(weight.mean()) < 5 * math.sqrt(weight_variance / weight.size)
    assert weight.var() == pytest.approx(weight_variance, rel=0.05)
    assert bias.var() == pytest.approx(bias_variance, rel=0.2)
    if limit is not None:
        assert 0.99 * limit < np.abs(weight).max() <= limit
    else:
        assert np.abs(weight).max() > 3 * math.sqrt(weight_variance)  # a normal's tail


@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_generator_fixes_the_draw(name):
    first = INITIALIZERS[name](np.random.default_rng(5), 7, 3)
    again = INITIALIZERS[name](np.random.default_rng(5), 7, 3)
    other = INITIALIZERS[name](np.random.default_rng(6), 7, 3)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("name", INITIALIZERS)
def test_one_generator_draws_layer_after_layer(name):
    generator = np.random.default_rng(5)
    first, second = (INITIALIZERS[name](generator, 4, 4)[0] for _ in range(2))
    assert not np.array_equal(first, second)

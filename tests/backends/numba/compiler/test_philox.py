"""Draws in a kernel are those of NumPy's generator, and its bits choose the lanes that they say."""

import functools

import numba
import numpy as np
import pytest
from numba.core import config
from xpnn.backends.numba.compiler.lane_types import Width
from xpnn.backends.numba.compiler.lanes import load, store
from xpnn.backends.numba.compiler.philox import chosen_by_bits, draws_above

compiled = functools.cache(numba.njit)  # once for each combination of types
both = pytest.mark.parametrize(
    "through",
    [lambda f: f, pytest.param(compiled, marks=pytest.mark.skipif(bool(config.DISABLE_JIT), reason="compiles none"))],
    ids=["plain", "compiled"],
)


def fill(bits, block, step, seed, layer, bound):
    for number in range(bits.shape[0]):
        bits[number] = draws_above(number, block, step, seed, layer, bound)


def choose(out, bits, at, x, width):
    store(out, 0, chosen_by_bits(bits, at, load(x, 0, width)))


@both
@pytest.mark.parametrize(
    ("block", "step", "seed", "layer"), [(0, 1, 0, 0), (3, 2**40, 2**63 - 1, 5), (2**33, 7, 2**62 + 12345, 1)]
)
def test_the_draws_are_numpys(through, block, step, seed, layer):
    generator = np.random.Generator(np.random.Philox(key=[seed, layer], counter=[0, 0, block, step]))
    draws = generator.random(800, dtype=np.float32)  # the first 24 of 32 bits, as a fraction
    bits = np.zeros(100, dtype=np.uint8)
    for least in (1, 2**22, 2**23, 2**24 - 1, 2**24):
        through(fill)(bits, block, step, seed, layer, (least << 8) - 1)
        np.testing.assert_array_equal(np.unpackbits(bits, bitorder="little"), draws >= least / 2**24)


@both
@pytest.mark.parametrize("count", [8, 16])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_choose_lanes(through, count, dtype):
    bits = np.random.default_rng(1).integers(0, 256, 12, dtype=np.uint8)
    x, out = np.arange(1, count + 1, dtype=dtype), np.full(count, -1, dtype=dtype)
    for at in range(64):
        through(choose)(out, bits, at, x, Width(count))
        np.testing.assert_array_equal(out, x * np.unpackbits(bits, bitorder="little")[at : at + count])

"""Activations and their derivatives on lanes, and the exponential that they and the softmax are made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types

from ... import activations
from ...activations import ACTIVATIONS, LEAKY_SLOPE
from ..compiler.compile import inner_kernel
from ..compiler.lane_types import compiled_as
from ..compiler.lanes import fma, like, nearest, power_of_two, where_less

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID = range(5)

# The key is the pair of functions, not the name: a row that a user put in place of ours is not ours.
_CODES: dict[tuple[Any, Any], int] = {
    (activations.identity, activations.identity_backward): IDENTITY,
    (activations.relu, activations.relu_backward): RELU,
    (activations.leaky_relu, activations.leaky_relu_backward): LEAKY_RELU,
    (activations.tanh, activations.tanh_backward): TANH,
    (activations.sigmoid, activations.sigmoid_backward): SIGMOID,
}

# ln 2 in two parts: the first has so few digits that its product with an exponent is exact in float32.
LN2_HIGH = 0.693359375
LN2_LOW = -2.1219444005469058277e-4  # a difference of the two numbers would have lost its last digits

INVERSE_FACTORIALS = tuple(1 / math.factorial(n) for n in range(15))


def activation_code(name: str) -> int | None:
    """Return what the kernels call the activation `name`; None if they do not know it."""
    row = ACTIVATIONS[name]
    return _CODES.get((row.forward, row.backward))


def by_precision(x: Any, single: int, double: int) -> int:
    """Return one of two numbers by the type of the lanes `x`, float32 or float64."""
    return single if x.dtype == np.float32 else double


@compiled_as(by_precision, lambda x, single, double: types.intp)
def _by_precision(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number = 1 if sig.args[0].dtype == types.float32 else 2
    return context.cast(builder, args[number], sig.args[number], types.intp)


@inner_kernel
def largest_exponent(x: Any) -> int:
    """Return the largest power of two of the lanes' type."""
    return by_precision(x, 127, 1023)


@inner_kernel
def exponential_parts(x: Any) -> Any:
    """Return `2^k` and `e^r - 1` with `x = k ln 2 + r`, |r| <= ln 2 / 2, so that `e^x = 2^k e^r`.

    Beyond the range of normal numbers `x` is taken for its end: far below, `e^x` is the least of them in place of 0.
    """
    bound = like(x, (largest_exponent(x) - 1) * np.log(2.0))
    x = where_less(bound, x, bound, x)
    x = where_less(x, like(x, 0) - bound, like(x, 0) - bound, x)
    k = nearest(x * like(x, 1 / np.log(2.0)))
    r = fma(k, like(x, -LN2_LOW), fma(k, like(x, -LN2_HIGH), x))
    terms = by_precision(x, 8, 14)  # after so many, e^r with |r| <= ln 2 / 2 is exact to a rounding
    series = like(x, INVERSE_FACTORIALS[terms])  # 1 + r (1/2! + r (1/3! + ...)), one operation a term
    for n in range(terms - 1, 0, -1):
        series = fma(series, r, like(x, INVERSE_FACTORIALS[n]))
    return power_of_two(k), r * series


@inner_kernel
def exponential(x: Any) -> Any:
    """Return e^x, lane by lane."""
    scale, rest = exponential_parts(x)
    return fma(scale, rest, scale)


@inner_kernel
def exponential_of_difference(a: Any, b: Any) -> Any:
    """Return e^(a - b), lane by lane, for `a` up to `b`; 0 where that is no normal number.

    The difference d is rounded, at -80 by up to 4e-6 in float32, and e^d is wrong by as large a part of it. What was
    rounded off is found by the six operations of TwoSum (Knuth 1998, section 4.2.2, theorem B), and e^(d + rest) is
    e^d (1 + rest) to a rounding.
    """
    d = a - b
    was_b = a - d
    rest = (a - (d + was_b)) - (b - was_b)
    e = exponential(d)
    end = like(d, (1 - largest_exponent(d)) * np.log(2.0))
    return where_less(d, end, like(d, 0), fma(e, rest, e))


@inner_kernel
def hyperbolic_tangent(x: Any) -> Any:
    """Return tanh x = d / (d + 2) with d = e^2x - 1, which keeps its digits near 0."""
    bound = like(x, 20)  # tanh 20 is 1 in both types
    x = where_less(bound, x, bound, x)
    x = where_less(x, like(x, -20), like(x, -20), x)
    scale, rest = exponential_parts(x + x)
    d = fma(scale, rest, scale - like(x, 1))
    return d / (d + like(x, 2))


@inner_kernel
def activated(z: Any, code: int) -> Any:
    """Return the activation of `z`, lane by lane."""
    zero = like(z, 0)
    if code == RELU:
        return where_less(z, zero, zero, z)  # this way round a NaN stays one
    if code == LEAKY_RELU:
        return where_less(zero, z, z, like(z, LEAKY_SLOPE) * z)
    if code == TANH:
        return hyperbolic_tangent(z)
    if code == SIGMOID:
        half = like(z, 0.5)
        return fma(half, hyperbolic_tangent(half * z), half)
    return z


@inner_kernel
def activated_backward(grad: Any, y: Any, code: int) -> Any:
    """Return the gradient of the activation's input, out of that of its output `y`, lane by lane."""
    zero, one = like(y, 0), like(y, 1)
    if code == RELU:
        return where_less(zero, y, grad, zero)
    if code == LEAKY_RELU:
        return where_less(zero, y, grad, like(y, LEAKY_SLOPE) * grad)
    if code == TANH:
        return grad * (one - y * y)
    if code == SIGMOID:
        return grad * (y * (one - y))
    return grad

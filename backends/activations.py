"""Activation functions and their derivatives.

Derivatives are written in terms of the output `y`, so the forward pass stores one array per layer. A new activation is
a function, its `_backward`, and a row in `ACTIVATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any  # an array of the namespace `xp`

LEAKY_SLOPE = 0.01  # slope of leaky_relu below zero (Maas, Hannun and Ng 2013, section 2)


class Activation(NamedTuple):
    """An activation and its derivative.

    Attributes:
        forward: `y = forward(xp, x)`, elementwise.
        backward: `grad_x = backward(xp, grad_y, y)`, elementwise.
        formula: `forward` in mathematical notation.
        derivative: `d y / d x` in terms of `y`, in mathematical notation.
    """

    forward: Callable[[Any, Array], Array]
    backward: Callable[[Any, Array, Array], Array]
    formula: str = "f(x)"
    derivative: str = "f'(x)"


def identity(xp: Any, x: Array) -> Array:  # noqa: ARG001
    """Identity, for the output layer."""
    return x


def identity_backward(xp: Any, grad_y: Array, y: Array) -> Array:  # noqa: ARG001
    """Derivative 1."""
    return grad_y


def relu(xp: Any, x: Array) -> Array:
    """`max(x, 0)` (Nair and Hinton 2010)."""
    return xp.maximum(x, xp.zeros_like(x))


def relu_backward(xp: Any, grad_y: Array, y: Array) -> Array:
    """Derivative 1 where `y > 0`, else 0 (0 at the kink)."""
    return xp.where(y > 0, grad_y, xp.zeros_like(grad_y))


def leaky_relu(xp: Any, x: Array) -> Array:
    """`x` where `x > 0`, else `0.01 x` (Maas, Hannun and Ng 2013)."""
    return xp.where(x > 0, x, LEAKY_SLOPE * x)


def leaky_relu_backward(xp: Any, grad_y: Array, y: Array) -> Array:
    """Derivative 1 where `y > 0`, else 0.01."""
    return xp.where(y > 0, grad_y, LEAKY_SLOPE * grad_y)


def tanh(xp: Any, x: Array) -> Array:
    """Hyperbolic tangent."""
    return xp.tanh(x)


def tanh_backward(xp: Any, grad_y: Array, y: Array) -> Array:  # noqa: ARG001
    """Derivative `1 - y^2`."""
    return grad_y * (1 - y * y)


def sigmoid(xp: Any, x: Array) -> Array:
    """`1 / (1 + exp(-x))`, written as a shifted tanh so that no `exp` overflows."""
    return 0.5 + 0.5 * xp.tanh(0.5 * x)


def sigmoid_backward(xp: Any, grad_y: Array, y: Array) -> Array:  # noqa: ARG001
    """Derivative `y (1 - y)`."""
    return grad_y * (y * (1 - y))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(identity, identity_backward, "x", "1"),
    "relu": Activation(relu, relu_backward, "max(x, 0)", "1 where y > 0, else 0"),
    "leaky_relu": Activation(leaky_relu, leaky_relu_backward, "x where x > 0, else 0.01 x", "1 where y > 0, else 0.01"),
    "tanh": Activation(tanh, tanh_backward, "tanh(x)", "1 - y^2"),
    "sigmoid": Activation(sigmoid, sigmoid_backward, "1 / (1 + exp(-x))", "y (1 - y)"),
}

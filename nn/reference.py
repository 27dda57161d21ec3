"""Reference implementation of a two-layer network in textbook notation.

Notation: Z1 = W1 X + b1, A1 = relu(Z1), Z2 = W2 A1 + b2, A2 = softmax(Z2). A column of X is one sample. The letters

    n  features (784 for MNIST)     h  hidden units
    m  samples                      c  classes

are used in all shape comments. The rest of the package must agree with this file; it computes in float64 and uses
nothing but an array module `xp`. Source of the formulas: Nielsen 2015, chapter 2; Bishop 2006,
section 5.3.
"""

from __future__ import annotations

from typing import Any

import numpy as xp

Array = Any
Params = tuple[Array, Array, Array, Array]  # W1 (h, n), b1 (h, 1), W2 (c, h), b2 (c, 1)


def init_params(features: int = 784, hidden: int = 10, classes: int = 10, *, seed: int = 0) -> Params:
    """Draw W1 (h, n), b1 (h, 1), W2 (c, h), b2 (c, 1) uniformly from [-0.5, 0.5)."""
    generator = xp.random.default_rng(seed)
    W1 = generator.random((hidden, features)) - 0.5  # (h, n)
    b1 = generator.random((hidden, 1)) - 0.5  # (h, 1)
    W2 = generator.random((classes, hidden)) - 0.5  # (c, h)
    b2 = generator.random((classes, 1)) - 0.5  # (c, 1)
    return W1, b1, W2, b2


def relu(Z: Array) -> Array:
    """`max(Z, 0)`, elementwise, any shape."""
    return xp.maximum(Z, 0)


def relu_deriv(Z: Array) -> Array:
    """1 where Z > 0, else 0, elementwise, any shape."""
    return Z > 0


def softmax(Z: Array) -> Array:
    """Convert each column of scores Z (c, m) to probabilities (c, m) that sum to 1.

    The column's maximum is subtracted first. It cancels in the quotient, and without it `exp` overflows at Z = 710.
    """
    E = xp.exp(Z - xp.max(Z, axis=0))  # (c, m), every entry in (0, 1]
    return E / xp.sum(E, axis=0)  # (c, m)


def one_hot(Y: Array, classes: int = 10) -> Array:
    """Encode labels Y (m,) as columns (c, m) with a single 1 in the label's row."""
    return (xp.arange(classes)[:, None] == Y[None, :]).astype(float)  # (c, m)


def forward_prop(W1: Array, b1: Array, W2: Array, b2: Array, X: Array) -> tuple[Array, Array, Array, Array]:
    """Forward pass from X (n, m) to Z1 (h, m), A1 (h, m), Z2 (c, m) and the probabilities A2 (c, m)."""
    Z1 = W1 @ X + b1  # (h, m) = (h, n) (n, m) + (h, 1)
    A1 = relu(Z1)  # (h, m)
    Z2 = W2 @ A1 + b2  # (c, m) = (c, h) (h, m) + (c, 1)
    A2 = softmax(Z2)  # (c, m)
    return Z1, A1, Z2, A2


def backward_prop(Z1: Array, A1: Array, A2: Array, W2: Array, X: Array, Y: Array) -> Params:
    """Gradients of the mean cross-entropy, -1/m sum log A2[Y], in the shapes of W1, b1, W2, b2.

    The derivative of cross-entropy after softmax is the plain difference A2 - one_hot(Y).
    """
    m = Y.shape[0]
    dZ2 = A2 - one_hot(Y, A2.shape[0])  # (c, m)
    dW2 = dZ2 @ A1.T / m  # (c, h) = (c, m) (m, h)
    db2 = xp.sum(dZ2, axis=1, keepdims=True) / m  # (c, 1)
    dZ1 = W2.T @ dZ2 * relu_deriv(Z1)  # (h, m) = (h, c) (c, m)
    dW1 = dZ1 @ X.T / m  # (h, n) = (h, m) (m, n)
    db1 = xp.sum(dZ1, axis=1, keepdims=True) / m  # (h, 1)
    return dW1, db1, dW2, db2


def update_params(params: Params, grads: Params, alpha: float) -> Params:
    """One step of gradient descent: every parameter minus `alpha` times its gradient."""
    W1, b1, W2, b2 = params
    dW1, db1, dW2, db2 = grads
    return W1 - alpha * dW1, b1 - alpha * db1, W2 - alpha * dW2, b2 - alpha * db2


def get_predictions(A2: Array) -> Array:
    """Return the most probable class of each column of A2 (c, m): (m,)."""
    return xp.argmax(A2, axis=0)


def get_accuracy(predictions: Array, Y: Array) -> float:
    """Return the fraction of predictions (m,) that equal the labels Y (m,), in [0, 1]."""
    return float(xp.mean(predictions == Y))


def gradient_descent(
    X: Array,
    Y: Array,
    alpha: float,
    iterations: int,
    *,
    params: Params | None = None,
    hidden: int = 10,
    seed: int = 0,
    report_every: int = 10,
) -> Params:
    """Train on all samples at once and return W1 (h, n), b1 (h, 1), W2 (c, h), b2 (c, 1).

    Args:
        X: samples (n, m), numbers scaled to about [0, 1].
        Y: labels (m,), integers 0, 1, ...
        alpha: learning rate.
        iterations: number of steps.
        params: initial parameters; by default from `init_params` with `hidden` units and `seed`.
        hidden: number of hidden units h.
        seed: seed of the initial parameters.
        report_every: iterations between prints of the accuracy; 0 for none.
    """
    if params is None:
        params = init_params(X.shape[0], hidden, int(xp.max(Y)) + 1, seed=seed)
    for iteration in range(1, iterations + 1):
        W1, b1, W2, b2 = params
        Z1, A1, _, A2 = forward_prop(W1, b1, W2, b2, X)
        grads = backward_prop(Z1, A1, A2, W2, X, Y)
        params = update_params(params, grads, alpha)
        if report_every and (iteration % report_every == 0 or iteration == iterations):
            print(f"iteration {iteration}: accuracy {get_accuracy(get_predictions(A2), Y):.4f}")
    return params

"""The kernels of a layer: each reads and writes its arrays once.

All arrays are float32 or float64 and C-contiguous. Constants are cast to the array's type before the loops: a Python
float would turn the arithmetic of a float32 network into float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .activations import LEAKY_SLOPE
from .numba_compile import kernel
from .numba_functions import IDENTITY, LEAKY_RELU, RELU, TANH, activation_code

__all__ = ["FLOATS", "activate", "activate_backward", "activation_code", "gather_images"]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def same_float(*arrays: Any) -> bool:
    """Whether all arrays are of one type that the kernels are written for."""
    return arrays[0].dtype in FLOATS and all(array.dtype == arrays[0].dtype for array in arrays)


@kernel
def gather_images(images: Any, index: Any, scale: float, x: Any) -> None:
    """Write `scale` times some rows of images (samples, features) into `x` (rows, features); index is (rows,)."""
    factor = x.dtype.type(scale)
    for r in range(index.shape[0]):
        row = images[index[r]]  # (features,)
        for i in range(row.shape[0]):
            x[r, i] = x.dtype.type(row[i]) * factor


@kernel
def activate(y: Any, bias: Any, code: int) -> None:
    """Turn the products `x @ weight` in `y` (rows, units) into `activation(x @ weight + bias)`; bias is (units,)."""
    rows, units = y.shape
    zero, slope, half = y.dtype.type(0), y.dtype.type(LEAKY_SLOPE), y.dtype.type(0.5)
    if code == IDENTITY:
        for r in range(rows):
            for j in range(units):
                y[r, j] += bias[j]
    elif code == RELU:
        for r in range(rows):
            for j in range(units):
                z = y[r, j] + bias[j]
                y[r, j] = zero if z < zero else z  # this way round a NaN stays one
    elif code == LEAKY_RELU:
        for r in range(rows):
            for j in range(units):
                z = y[r, j] + bias[j]
                y[r, j] = z if z > zero else slope * z
    elif code == TANH:
        for r in range(rows):
            for j in range(units):
                y[r, j] = np.tanh(y[r, j] + bias[j])
    else:
        for r in range(rows):
            for j in range(units):
                y[r, j] = half + half * np.tanh(half * (y[r, j] + bias[j]))


@kernel
def activate_backward(grad: Any, y: Any, grad_bias: Any, code: int) -> None:
    """Turn the gradient of an activation's output into that of its input, and sum it over the rows.

    Args:
        grad: gradient with respect to `y`, on return that with respect to `z = x @ weight + bias`, (rows, units).
        y: the activation's output, (rows, units).
        grad_bias: result, (units,).
        code: which activation.
    """
    rows, units = y.shape
    zero, slope, one = y.dtype.type(0), y.dtype.type(LEAKY_SLOPE), y.dtype.type(1)
    grad_bias[:] = zero
    if code == IDENTITY:
        for r in range(rows):
            for j in range(units):
                grad_bias[j] += grad[r, j]
    elif code == RELU:
        for r in range(rows):
            for j in range(units):
                g = grad[r, j] if y[r, j] > zero else zero
                grad[r, j] = g
                grad_bias[j] += g
    elif code == LEAKY_RELU:
        for r in range(rows):
            for j in range(units):
                g = grad[r, j] if y[r, j] > zero else slope * grad[r, j]
                grad[r, j] = g
                grad_bias[j] += g
    elif code == TANH:
        for r in range(rows):
            for j in range(units):
                g = grad[r, j] * (one - y[r, j] * y[r, j])
                grad[r, j] = g
                grad_bias[j] += g
    else:
        for r in range(rows):
            for j in range(units):
                g = grad[r, j] * (y[r, j] * (one - y[r, j]))
                grad[r, j] = g
                grad_bias[j] += g

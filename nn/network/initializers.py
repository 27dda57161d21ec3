"""Weight initializers, drawn on the host so that a seed gives the same weights on every backend.

A new initializer is a function and a row in `INITIALIZERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Draw = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # weight (in, out), bias (out,)
Initializer = Callable[[np.random.Generator, int, int], Draw]


def he(generator: np.random.Generator, in_features: int, out_features: int) -> Draw:
    """Normal weights of variance `2 / in_features`, zero biases: for ReLU (He et al. 2015, equation 10)."""
    weight = generator.normal(0.0, math.sqrt(2 / in_features), (in_features, out_features))
    return weight, np.zeros(out_features)


def glorot(generator: np.random.Generator, in_features: int, out_features: int) -> Draw:
    """Uniform weights within `sqrt(6 / (in + out))`, zero biases: for tanh (Glorot and Bengio 2010, equation 16)."""
    limit = math.sqrt(6 / (in_features + out_features))
    return generator.uniform(-limit, limit, (in_features, out_features)), np.zeros(out_features)


def uniform(generator: np.random.Generator, in_features: int, out_features: int) -> Draw:
    """Weights and biases uniform in [-0.5, 0.5), as in beginners' programs."""
    weight = generator.uniform(-0.5, 0.5, (in_features, out_features))
    return weight, generator.uniform(-0.5, 0.5, out_features)


INITIALIZERS: dict[str, Initializer] = {"he": he, "glorot": glorot, "uniform": uniform}

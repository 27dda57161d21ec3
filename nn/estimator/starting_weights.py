"""The weights and biases before the first step, drawn as scikit-learn draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = list[npt.NDArray[Any]]


def starting_weights(
    random_state: np.random.RandomState, sizes: Sequence[int], *, activation: str, dtype: npt.DTypeLike
) -> tuple[Arrays, Arrays]:
    """Draw every layer's weights (in_features, out_features) and biases (out_features,), layer after layer.

    Both are uniform within `sqrt(6 / (in_features + out_features))`, for the logistic function `sqrt(2 / ...)`.
    Source: Glorot and Bengio 2010, equation 16.

    Args:
        random_state: moves on by one number a parameter.
        sizes: features, hidden units, outputs.
        activation: scikit-learn's name.
        dtype: of the result.
    """
    factor = 2.0 if activation == "logistic" else 6.0
    coefs, intercepts = [], []
    for in_features, out_features in pairwise(sizes):
        bound = math.sqrt(factor / (in_features + out_features))
        coefs.append(random_state.uniform(-bound, bound, (in_features, out_features)).astype(dtype, copy=False))
        intercepts.append(random_state.uniform(-bound, bound, out_features).astype(dtype, copy=False))
    return coefs, intercepts

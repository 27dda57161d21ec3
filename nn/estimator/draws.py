"""Starting weights and orders of rows, drawn as scikit-learn draws them: a `random_state` means the same run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = list[npt.NDArray[Any]]


class RowOrder(np.random.Generator):
    """A generator whose permutations each shuffle the one before, with a legacy `RandomState`.

    Its own bits come from elsewhere: the state of a `RandomState` takes tens of microseconds to read, and a training
    reads it in every epoch.

    Args:
        random_state: what shuffles; it moves on as in scikit-learn.
        seed: of its own bits, which draw what scikit-learn has not, such as dropout.
    """

    def __init__(self, random_state: np.random.RandomState, *, seed: int = 0) -> None:
        super().__init__(np.random.PCG64(seed))
        self._random_state = random_state
        self._order: npt.NDArray[np.int64] | None = None  # (rows,), of the last epoch

    def permutation(self, x: Any, axis: int = 0) -> Any:  # noqa: ARG002
        """Return the next order of `x` rows, (x,)."""
        shuffled = np.arange(x)
        self._random_state.shuffle(shuffled)
        self._order = shuffled if self._order is None else self._order[shuffled]
        return self._order


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

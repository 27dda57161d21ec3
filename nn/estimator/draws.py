"""Initial weights and orders of rows with the random streams of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = list[npt.NDArray[Any]]


class RowOrder(np.random.Generator):
    """Generator whose permutations shuffle the previous one with a legacy `RandomState`.

    Its own bits are independent of it: reading the state of a `RandomState` takes tens of microseconds, in every
    epoch.

    Args:
        random_state: source of the shuffles, advanced as in scikit-learn.
        seed: seed of its own bits, for draws without a counterpart in scikit-learn, such as dropout.
    """

    def __init__(self, random_state: np.random.RandomState, *, seed: int = 0) -> None:
        super().__init__(np.random.PCG64(seed))
        self._random_state = random_state
        self._order: npt.NDArray[np.int64] | None = None  # (rows,), of the last epoch

    def permutation(self, x: Any, axis: int = 0) -> Any:  # noqa: ARG002
        """Draw the next order of `x` rows, (x,)."""
        shuffled = np.arange(x)
        self._random_state.shuffle(shuffled)
        self._order = shuffled if self._order is None else self._order[shuffled]
        return self._order


def starting_weights(
    random_state: np.random.RandomState, sizes: Sequence[int], *, activation: str, dtype: npt.DTypeLike
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Draw the weights (in_features, out_features) and biases (out_features,), layer by layer.

    Both are uniform within `sqrt(6 / (in_features + out_features))`, or `sqrt(2 / ...)` for the logistic function.
    Source: Glorot and Bengio 2010, equation 16.

    Args:
        random_state: advanced by one number per parameter.
        sizes: features, hidden units, outputs.
        activation: name in scikit-learn.
        dtype: dtype of the result.
    """
    factor = 2.0 if activation == "logistic" else 6.0
    for in_features, out_features in pairwise(sizes):
        bound = math.sqrt(factor / (in_features + out_features))
        weight = random_state.uniform(-bound, bound, (in_features, out_features))
        yield weight.astype(dtype, copy=False), random_state.uniform(-bound, bound, out_features).astype(dtype)

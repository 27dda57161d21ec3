"""The order of rows in each epoch, drawn as scikit-learn draws it, so that a `random_state` means the same run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


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

"""Search for values that are not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def first_not_finite(arrays: Mapping[str, npt.NDArray[Any]]) -> str | None:
    """Describe the first infinity or NaN in named arrays of any shape; None if all are finite."""
    for name, array in arrays.items():
        finite = np.isfinite(array)
        if not finite.all():
            place = [int(at) for at in np.unravel_index(int(finite.argmin()), array.shape)]
            return f"{array[tuple(place)]} in {name}" + (f" at {place}" if place else "")
    return None

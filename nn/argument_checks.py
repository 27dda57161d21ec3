"""What an argument may be, whoever passes it: Python's numbers and NumPy's alike, truth values not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def is_whole(number: Any, *, least: int) -> bool:
    """Return whether it is a whole number of at least `least`."""
    return type(number) is not bool and isinstance(number, Integral) and int(number) >= least


def are_whole(numbers: Any, *, least: int) -> bool:
    """Return whether they are a sequence of whole numbers of at least `least`."""
    return isinstance(numbers, Sequence | np.ndarray) and all(is_whole(number, least=least) for number in numbers)


def is_finite_number(number: Any, *, least: float) -> bool:
    """Return whether it is a finite number of at least `least`."""
    return isinstance(number, Real) and math.isfinite(number) and float(number) >= least

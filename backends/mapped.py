"""Telling arrays whose numbers lie in a file, which the system reads as they are used, from arrays in memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt


def is_mapped(array: npt.NDArray[Any]) -> bool:
    """Return whether an array, any shape, is mapped from a file, as `np.load(path, mmap_mode="r")` does it, or a view.

    A copy, and so what an array of indices takes out of it, is in memory.
    """
    owner: object = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return isinstance(owner, mmap.mmap)


def unlocked(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array, any shape, or a view of it that does not say that it cannot be written to; nobody may do so.

    Compiled kernels that only read are compiled anew for arrays that say so.
    """
    return array if array.flags.writeable else np.asarray(_Unlocked(array))


class _Unlocked:
    """What NumPy makes a view of, which keeps the array alive."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        place, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (place, False)}

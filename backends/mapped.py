"""Detection of memory-mapped arrays."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt


def is_mapped(array: npt.NDArray[Any]) -> bool:
    """Return whether an array is memory-mapped, as from `np.load(path, mmap_mode="r")`, or a view of such an array.

    Copies, such as results of fancy indexing, are in memory.
    """
    owner: object = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return isinstance(owner, mmap.mmap)


def unlocked(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array, or a view without the read-only flag, which must not be written to.

    Numba would compile kernels once more for read-only arrays.
    """
    return array if array.flags.writeable else np.asarray(_Unlocked(array))


class _Unlocked:
    """Object with the array interface of an array, which it keeps alive."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        place, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (place, False)}

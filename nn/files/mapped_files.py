"""A bus error that names its file.

If a file is cut short while its rows are mapped into memory, reading them is a bus error. It ends the process before
any Python code could say why, but `faulthandler` prints the frames of the stack: file, line and function of each. So
rows are used from a frame that is said to be of their file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Result = TypeVar("Result")

NAME = "rows_of_a_mapped_file_that_may_have_been_cut_short"


def with_files_named(arrays: Iterable[npt.NDArray[Any]], call: Callable[[], Result]) -> Result:
    """Call a function from frames that are named after the files of memory-mapped arrays."""
    for name in dict.fromkeys(_files(arrays)):
        # No path, of which a traceback would show a line.
        code = _call.__code__.replace(co_filename=f"{name} (mapped)", co_name=NAME, co_qualname=NAME)
        call = FunctionType(code, {}, argdefs=(call,))
    return call()


def _call(call: Callable[[], Result]) -> Result:
    return call()


def _files(arrays: Iterable[npt.NDArray[Any]]) -> Iterator[str]:
    """Yield the files of memory-mapped arrays."""
    for array in arrays:
        owner: object = array
        while isinstance(owner, np.ndarray):
            if isinstance(owner, np.memmap) and owner.filename is not None:
                yield str(owner.filename)
                break
            owner = owner.base

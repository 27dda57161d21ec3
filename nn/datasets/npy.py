"""The .npy format: a header that says type and shape, and then the bare numbers."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ..files.data_file import opened
from ..files.text import printable

HEADER_BYTES = 2**14  # that a header can have: NumPy reads at most 10,000 characters of one
KINDS = "biufcSU"  # of NumPy's types; bytes of any other, such as pointers, are no values


@dataclass(frozen=True)
class NpyHeader:
    """What a file says of its array, after it was checked.

    Attributes:
        begin: bytes of the header, behind which the numbers begin.
        dtype: of the numbers, in the byte order of the file.
        shape: of the array.
        fortran_order: whether the first index runs fastest in the file.
    """

    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool


def parse_header(content: bytes, *, size: int, what: str, writer: str = "numpy.savez") -> NpyHeader:
    """Read a header, which must promise exactly the bytes that there are.

    Args:
        content: the first `HEADER_BYTES` of the file, or all of it.
        size: bytes of the whole file.
        what: how messages call it.
        writer: what messages advise to write it with.

    Raises:
        DataError: it is of a version or a type that is not read, or promises other bytes.
        Exception: of any other kind where it is damaged: NumPy's reader parses it as Python.
    """
    start = BytesIO(content)
    version = np.lib.format.read_magic(start)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(start)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(start)
    else:  # 3.0 is for the names of fields
        raise DataError(f"{what} must be in version 1 or 2 of the .npy format, got {version}: save a plain array")
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects, which are never unpickled: save numbers or strings")
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise DataError(f"{what} must hold numbers or strings, got {dtype!s:.80}: convert it with astype")
    promised, held = math.prod(shape) * dtype.itemsize, size - start.tell()
    if promised != held or min(shape, default=0) < 0:
        raise DataError(
            f"{what}: the header promises {shape!s:.80} values of {dtype.itemsize} bytes, got {held} bytes: "
            f"it is damaged; write it with {writer}"
        )
    return NpyHeader(start.tell(), dtype, shape, fortran_order)


def map_npy(path: Path) -> npt.NDArray[Any]:
    """Map an `.npy` file into memory: the system reads what is used of it, and gives the room back when it is wanted.

    Nobody may cut the file off while it is mapped: the system would end the process that reads beyond its end.

    Args:
        path: the file, of any size; pickled objects are never loaded.

    Returns:
        The array, which cannot be written to.

    Raises:
        DataError: the file cannot be read or is malformed.
    """
    with opened(path) as (file, size):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Python and NumPy say of odd headers, which are refused or right
                header = parse_header(file.read(HEADER_BYTES), size=size, what=str(path), writer="numpy.save")
            if math.prod(header.shape) == 0:  # no bytes, which cannot be mapped
                return np.empty(header.shape, header.dtype)
            # NumPy asks for a file that could be written to, and writes nothing in this mode.
            values: npt.NDArray[Any] = np.memmap(
                cast("Any", file), header.dtype, mode="r", offset=header.begin, shape=header.shape,
                order="F" if header.fortran_order else "C",
            )  # fmt: skip
        except (DataError, OSError):
            raise
        except Exception as error:  # a damaged header shows itself in many kinds: struct, token, syntax, memory
            reason = " ".join(str(error).split())  # in one line
            raise DataError(
                f"{path} is not a readable .npy ({printable(reason):.200}): write it with numpy.save, no objects"
            ) from error
    if header.dtype.kind == "b" and values.view(np.uint8).max() > 1:
        raise DataError(f"{path} must hold booleans, got a byte above 1: it is damaged, or another type")
    return values

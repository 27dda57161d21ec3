"""The .npy format: a header with dtype and shape, then the raw numbers."""

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
from ..files.mapped_files import with_files_named
from ..files.text import printable

HEADER_BYTES = 2**14  # that a header can have: NumPy reads at most 10,000 characters of one
KINDS = "biufcSU"  # of NumPy's types; bytes of any other, such as pointers, are no values


@dataclass(frozen=True)
class NpyHeader:
    """Checked header of an array.

    Attributes:
        begin: offset of the numbers in bytes.
        dtype: dtype, in the byte order of the file.
        shape: shape of the array.
        fortran_order: whether the array is in Fortran order.
    """

    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool


def parse_header(content: bytes, *, size: int, what: str, writer: str = "numpy.savez") -> NpyHeader:
    """Parse a header, which must match the size of the file.

    Args:
        content: first `HEADER_BYTES` of the file, or all of it.
        size: size of the file in bytes.
        what: name in messages.
        writer: function that messages recommend for writing it.

    Raises:
        DataError: unsupported version or dtype, or a size other than the header's.
        Exception: of any other kind if it is damaged, since NumPy's reader parses it as Python.
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
    """Memory-map an `.npy` file.

    The file must not be truncated while it is mapped: reading beyond its end kills the process.

    Args:
        path: the file, of any size; pickled objects are never loaded.

    Returns:
        The read-only array.

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
    if header.dtype.kind == "b" and with_files_named([values], values.view(np.uint8).max) > 1:
        raise DataError(f"{path} must hold booleans, got a byte above 1: it is damaged, or another type")
    return values

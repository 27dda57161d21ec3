"""The IDX format of MNIST: a big-endian header (type, dimensions) and then the bare numbers."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError

MAX_BYTES = 4 * 2**30  # no file is read beyond this, whatever its header promises
MAX_DIMENSIONS = 8
MAX_DEFLATE_RATIO = 1032  # deflate's own bound: two bits can stand for 258 bytes at most

DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read one IDX file, plain or, where its name ends in `.gz`, compressed.

    Decompression stops within one buffer (128 KiB) of what the header promises, so a small file cannot fill the memory.

    Args:
        path: the file; at most 4 GiB of numbers are read.

    Returns:
        An array of the dimensions and type in the header, in the machine's byte order.

    Raises:
        DataError: the file cannot be read, or is not exactly one IDX array.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if path.suffix != ".gz":
                return _read(file, path, size)
            if file.read(2) != b"\x1f\x8b":
                raise DataError(
                    f"{path} is not gzip: expected its first bytes to be 1f 8b; "
                    "take .gz off its name if it is already unpacked, else download it again"
                )
            file.seek(0)
            with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                return _read(stream, path, size * MAX_DEFLATE_RATIO)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): download it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check the path and its rights") from error


def _read(file: BufferedIOBase, path: Path, available: int) -> npt.NDArray[Any]:
    """Read header and numbers; `available` is the most bytes that the file can hold."""
    dtype, shape = _read_header(file, path)
    # A zero dimension must not hide a huge one from the limit: NumPy refuses such a shape too.
    promised = math.prod(max(length, 1) for length in shape) * dtype.itemsize
    if promised > MAX_BYTES:
        raise DataError(
            f"{path}: the header promises {shape} numbers of {dtype.itemsize} bytes, more than the limit of "
            f"{MAX_BYTES} bytes: the header is damaged, or the file must be cut into smaller ones"
        )
    expected = math.prod(shape) * dtype.itemsize
    if expected > available:
        raise DataError(_truncated(path, expected, f"at most {available}"))

    values = np.empty(shape, dtype)  # the header's dimensions
    view = values.reshape(-1).view(np.uint8).data  # (expected,)
    got = 0
    while got < expected:
        count = file.readinto(view[got:])
        if not count:
            raise DataError(_truncated(path, expected, str(got)))
        got += count
    if file.read(1):
        raise DataError(
            f"{path}: expected the file to end after the {expected} bytes that its header promises, got more: "
            "the header is damaged, or something was appended; download it again"
        )
    return values.astype(dtype.newbyteorder("="), copy=False)


def _read_header(file: BufferedIOBase, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: expected an IDX header of at least 4 bytes, got {len(magic)}: download it again")
    if magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= MAX_DIMENSIONS:
        codes = ", ".join(f"{code:02x}" for code in DTYPES)
        raise DataError(
            f"{path} is not IDX: expected 00 00, a type out of {codes} and 1 to {MAX_DIMENSIONS} dimensions, "
            f"got {magic.hex(' ')}: check that this is the right file"
        )
    dimensions = magic[3]
    lengths = file.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise DataError(
            f"{path}: expected {4 * dimensions} bytes for {dimensions} dimensions, got {len(lengths)}: "
            "the file is cut off; download it again"
        )
    return DTYPES[magic[2]], struct.unpack(f">{dimensions}I", lengths)


def _truncated(path: Path, expected: int, got: str) -> str:
    return f"{path}: expected {expected} bytes after the header, got {got}: the file is cut off; download it again"

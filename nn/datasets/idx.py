"""The IDX format of MNIST: a big-endian header (type, dimensions), then the raw numbers."""

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ...backends.machine import memory_bytes
from ..files import limits
from ..files.data_file import fill, opened, refuse_growth

MAX_DIMENSIONS = 8

DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read an IDX file, compressed if its name ends in `.gz`.

    Memory is allocated only for what the file can contain. A compressed file may expand by a factor of
    `limits.COMPRESSION`, a small one to `limits.ALWAYS_UNPACKED` bytes; decompression stops within one buffer (128 KiB)
    of the size in the header. Several gzip members count as one, and only zeros may follow them.

    An uncompressed file of more than `limits.DATA_BYTES` or a quarter of the machine's memory is memory-mapped, and
    must not be truncated while in use.

    Args:
        path: the file, with at most `limits.DATA_BYTES` of numbers.

    Returns:
        An array of the dimensions and type in the header, in native byte order; read-only if mapped.

    Raises:
        DataError: the file cannot be read, is not exactly one IDX array, or would expand too much.
    """
    path = Path(path)
    with opened(path) as (file, size):
        if path.suffix != ".gz":
            return _read(file, path, size, packed=False)
        if file.read(2) != b"\x1f\x8b":
            raise DataError(
                f"{path} is not gzip: expected its first bytes to be 1f 8b; "
                "take .gz off its name if it is already unpacked, else download it again"
            )
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                return _read(stream, path, size, packed=True)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is a damaged gzip file ({error}): download it again") from error


def _read(file: BufferedIOBase, path: Path, size: int, *, packed: bool) -> npt.NDArray[Any]:
    """Read header and numbers of a file of `size` bytes on disk."""
    dtype, shape = _read_header(file, path)
    begin = 4 + 4 * len(shape)
    is_large = math.prod(shape) > min(limits.DATA_BYTES, memory_bytes() / 4)
    if dtype == np.uint8 and not packed and is_large and size == begin + math.prod(shape):
        return np.memmap(path, np.uint8, mode="r", offset=begin, shape=shape)
    # A zero dimension must not hide a huge one from the limit: NumPy refuses such a shape too.
    promised = math.prod(max(length, 1) for length in shape) * dtype.itemsize
    if promised > limits.DATA_BYTES:
        raise DataError(
            f"{path}: the header promises {shape} numbers of {dtype.itemsize} bytes, more than the limit of "
            f"{limits.DATA_BYTES} bytes: the header is damaged, or the file must be cut into smaller ones"
        )
    expected = math.prod(shape) * dtype.itemsize
    if packed:
        refuse_growth(path, size, expected, remedy="unpack it yourself with gunzip if you trust it")
    if not packed and expected > size:
        raise DataError(_truncated(path, expected, f"at most {size}"))

    values = np.empty(shape, dtype.newbyteorder("="))  # the header's dimensions
    got = fill(values.reshape(-1), file)
    if got < expected:
        raise DataError(_truncated(path, expected, str(got)))
    if file.read(1):
        raise DataError(
            f"{path}: expected the file to end after the {expected} bytes that its header promises, got more: "
            "the header is damaged, or something was appended; download it again"
        )
    return values.byteswap(inplace=True) if sys.byteorder == "little" else values


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

"""Untrusted data files: only regular files are opened, and decompression is limited by their size."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import ConfigError, DataError
from . import limits

PIECE = 2**18  # bytes that are read at a time: readers of compressed files make a copy of each piece


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file; pipes and devices, which may never end, are rejected.

    Returns:
        A context manager of the file and its size in bytes, which also converts read errors to `DataError`.

    Raises:
        DataError: the file is missing, not a regular file, not readable, or does not fit into memory.
    """
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a pipe, a socket or a device"
        raise DataError(f"{path} cannot be read (it is {what}): name an ordinary file")
    try:
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    except MemoryError as error:
        raise DataError(f"{path} is too much for this machine's memory ({error}): cut it into smaller ones") from error


def existing_path(source: str | os.PathLike[str]) -> Path | None:
    """Return the path of an existing file or folder; None if there is none.

    Raises:
        ConfigError: `source` is not a path.
    """
    if not isinstance(source, str | os.PathLike):
        raise ConfigError(f"a data set must be a name or a path, got {source!r:.80}; for arrays: nn.from_arrays")
    with suppress(OSError, RuntimeError, ValueError):  # a name that is too long, no such user, a zero byte
        path = Path(source).expanduser()
        if source != "" and path.exists():
            return path
    return None


def refuse_growth(path: Path, size: int, unpacked: int, *, remedy: str) -> None:
    """Check that a packed file of `size` bytes does not unpack to suspiciously many.

    Raises:
        DataError: more than `limits.ALWAYS_UNPACKED`, and `limits.COMPRESSION`-fold; the message ends with the remedy.
    """
    if unpacked > max(limits.ALWAYS_UNPACKED, limits.COMPRESSION * size):
        raise DataError(
            f"{path} would grow from {size} to {unpacked} bytes, more than {limits.COMPRESSION}-fold: {remedy}"
        )


def fill(values: npt.NDArray[Any], file: BufferedIOBase) -> int:
    """Read the bytes of an array in pieces.

    Args:
        values: an array of any dtype, (values,), to be overwritten.
        file: source of at most `values.nbytes` bytes.

    Returns:
        Number of bytes read, fewer than `values.nbytes` if the file ends early.
    """
    view = values.view(np.uint8).data  # (values.nbytes,)
    got = 0
    while count := file.readinto(view[got : got + PIECE]):
        got += count
    return got


def _unreadable(path: Path, error: OSError | ValueError) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{path} cannot be read ({reason}): check the path and its rights")

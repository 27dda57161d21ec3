"""A data file from outside: only an ordinary file is opened, and it is unpacked only as far as its size warrants."""

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
    """Open an ordinary file; a pipe or a device, which may never end, is refused before it is opened.

    Returns:
        A context manager of the file and its size in bytes. What the system says against reading while the file is
        open becomes a `DataError` too.

    Raises:
        DataError: the file is missing, a folder, a pipe or a device, or may not be read, or is too much for the memory.
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
    """Return the file or folder that is meant, None if there is none.

    Raises:
        ConfigError: `source` is no path at all.
    """
    if not isinstance(source, str | os.PathLike):
        raise ConfigError(f"a data set must be a name or a path, got {source!r:.80}; for arrays: nn.from_arrays")
    with suppress(OSError, RuntimeError, ValueError):  # a name that is too long, no such user, a zero byte
        path = Path(source).expanduser()
        if source != "" and path.exists():
            return path
    return None


def unpackable(size: int) -> int:
    """Return how many bytes a compressed file of `size` bytes may become."""
    return max(limits.ALWAYS_UNPACKED, limits.COMPRESSION * size)


def fill(values: npt.NDArray[Any], file: BufferedIOBase) -> int:
    """Read the bytes of an array piece by piece.

    Args:
        values: an array of any type, (values,); its content is overwritten.
        file: what is read; at most `values.nbytes` bytes of it.

    Returns:
        The bytes read, less than `values.nbytes` where the file ends before.
    """
    view = values.view(np.uint8).data  # (values.nbytes,)
    got = 0
    while count := file.readinto(view[got : got + PIECE]):
        got += count
    return got


def _unreadable(path: Path, error: OSError | ValueError) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{path} cannot be read ({reason}): check the path and its rights")

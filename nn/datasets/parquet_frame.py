"""Parquet files as polars frames, within limits; decoded by another process, which a damaged file may end."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...backends.errors import DataError
from ..files import limits
from ..files.text import printable
from . import parquet_decoder
from .polars_package import polars_errors

if TYPE_CHECKING:
    import polars as pl

MAGIC = b"PAR1"  # at both ends
CELL_BYTES = 8  # of a number
LONGEST_SECONDS = 600  # of decoding: 4 GiB take a minute


def read_parquet(file: IO[bytes], path: Path) -> pl.DataFrame:
    """Read a parquet file of numbers, truth values, text and times.

    Args:
        file: the opened file.
        path: its name in messages.

    Raises:
        DataError: the file is damaged, promises more than `limits`, or has columns of other types.
    """
    import polars as pl

    content = file.read()
    if len(content) < 3 * len(MAGIC) or not content.startswith(MAGIC) or not content.endswith(MAGIC):
        raise DataError(
            f"{path} is not a whole parquet file: expected its first and last four bytes to be PAR1, got "
            f"{content[:4]!r} and {content[-4:]!r}: it is cut off, or another format; write it again"
        )
    with polars_errors(path, "write it again"):
        return pl.read_ipc(BytesIO(_decode(content, path)))


def _decode(content: bytes, path: Path) -> bytes:
    """Decode parquet to Arrow's IPC format in another process."""
    most = (limits.DATA_BYTES // CELL_BYTES, limits.CSV_COLUMNS)
    command = [sys.executable, "-P", parquet_decoder.__file__, *map(str, most)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, check=False, env=environment, timeout=LONGEST_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"{path} cannot be read (decoding it takes more than {LONGEST_SECONDS} s): cut it into smaller ones"
        ) from error
    if done.returncode == parquet_decoder.REFUSED:
        raise DataError(f"{path} cannot be read: {printable(done.stdout.decode(errors='replace'))}")
    if done.returncode:
        raise DataError(
            f"{path} cannot be read (it is damaged: its decoder ended with {done.returncode}): write it again"
        )
    return done.stdout

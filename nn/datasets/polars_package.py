"""The optional package polars, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ...backends.errors import DataError, MissingDependency
from ..files.text import printable


def require_polars() -> ModuleType:
    """Return polars.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import polars
    except ImportError as error:
        raise MissingDependency(
            'reading tables needs polars, which is not installed: pip install "xpnn[tables]"'
        ) from error
    return polars


@contextmanager
def polars_errors(path: Path, remedy: str) -> Iterator[None]:
    """Convert what polars raises on a damaged file, its panics included, to `DataError`.

    Args:
        path: the file that is read.
        remedy: how to fix it, which ends the message.
    """
    polars = require_polars()
    try:
        yield
    except (DataError, MemoryError, OSError):
        raise
    except (Exception, polars.exceptions.PanicException) as error:  # a panic is no Exception
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"{path} cannot be read ({printable(first_line):.200}): {remedy}") from error

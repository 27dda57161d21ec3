"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ..backends import RunError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path`, force it to disk, and rename it over `path`.

    Raises:
        RunError: the disk is full or the folder cannot be written; what stood at `path` before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # gone already, or its folder is no folder
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Force a rename to disk, where folders can be opened (not on Windows)."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Atomic writes, and reads of bounded size."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from ...backends import ModelFileError, StorageError

RENAMES, RENAME_PAUSE = (20 if os.name == "nt" else 1), 0.05  # attempts, and seconds between them
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def write_atomically(path: Path, content: bytes | bytearray) -> None:
    """Write a temporary file next to `path`, sync it to disk, and rename it to `path`.

    An existing file stays until the new content is complete and on disk.

    Raises:
        StorageError: the disk is full or the folder is not writable; an existing file is left unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # as `TEMPORARY` knows it
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _rename(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in the name
        raise StorageError(f"cannot write {str(path)!r:.300}: {error}") from error
    finally:
        with suppress(OSError, ValueError):  # gone already, or its folder is no folder
            temporary.unlink()


def _rename(temporary: Path, path: Path, *, attempts: int = RENAMES) -> None:
    """Rename a file over another, with retries: on Windows a scanner or viewer may lock either briefly."""
    for attempt in range(attempts):
        try:
            temporary.replace(path)
        except PermissionError:
            if attempt == attempts - 1:
                raise
            time.sleep(RENAME_PAUSE)
        else:
            return


def append(path: Path, content: bytes) -> None:
    """Append bytes to a file, all or none unless the process is killed.

    Raises:
        StorageError: the disk is full or the file is not writable; its length is unchanged.
    """
    try:
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                while content:  # a disk that is nearly full takes a part
                    content = content[file.write(content) :]
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def is_temporary(path: Path) -> bool:
    """Return whether a name is that of a temporary file of `write_atomically`."""
    return TEMPORARY.fullmatch(path.name) is not None


def remove_temporaries(folder: Path, *, older_than: float = 0.0) -> None:
    """Remove temporary files of `write_atomically` left by killed processes.

    Args:
        folder: folder of the files.
        older_than: minimum age in seconds; newer files may be in use by another process.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if is_temporary(path) and time.time() - path.stat().st_mtime >= older_than:
                path.unlink()


def read_whole(path: Path, *, limit: int) -> bytes:
    """Read a file of bounded size.

    Args:
        path: the file.
        limit: maximum size in bytes.

    Raises:
        ModelFileError: it is missing, not a regular file, too large, or cannot be read.
    """
    try:
        is_file = path.is_file()  # a pipe or a device may never end
    except (OSError, ValueError):  # a name that is too long
        is_file = False
    if not is_file:
        raise ModelFileError(f"there is no file {path!s:.300}; `xpnn train` writes one into its run folder")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise ModelFileError(
                    f"{path} has {size:,} bytes, more than the limit of {limit:,}: is it the right file?"
                )
            return file.read(size)
    except (OSError, MemoryError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk where the system allows (not on Windows)."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network and foreign file systems know files only
                raise
        finally:
            os.close(descriptor)

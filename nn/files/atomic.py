"""Writing a file so that it is there whole or not at all, and reading one of a bounded size."""

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
    """Write a temporary file beside `path`, force it to disk, and rename it over `path`.

    What stood at `path` is there until the new content is complete and on the disk.

    Raises:
        StorageError: the disk is full or the folder cannot be written; what stood at `path` before is untouched.
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
    """Put a file in the place of another; on Windows a scanner or a viewer may hold either for a moment."""
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
    """Add bytes to a file, all or none of them as long as the process lives.

    Raises:
        StorageError: the disk is full or the file cannot be written; it is as long as before.
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
    """Return whether `write_atomically` gave the file its name."""
    return TEMPORARY.fullmatch(path.name) is not None


def remove_temporaries(folder: Path, *, older_than: float = 0.0) -> None:
    """Remove what `write_atomically` left in a folder when its process was killed.

    Args:
        folder: where it wrote.
        older_than: seconds; what is younger may be another process's that is writing now.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if is_temporary(path) and time.time() - path.stat().st_mtime >= older_than:
                path.unlink()


def read_whole(path: Path, *, limit: int) -> bytes:
    """Return a file's content.

    Args:
        path: the file.
        limit: bytes that it may have.

    Raises:
        ModelFileError: it is missing, no regular file, too large, or cannot be read.
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
    """Force the names in a folder to disk, where folders can be opened (not on Windows)."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network and foreign file systems know files only
                raise
        finally:
            os.close(descriptor)

"""Atomic writes, and reads of bounded size."""

from __future__ import annotations

import errno
import os
import re
import secrets
import select
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from ...backends import ModelFileError, StorageError

RENAMES, RENAME_PAUSE = (20 if os.name == "nt" else 1), 0.05  # attempts, and seconds between them
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
NAME_LENGTH = 50  # characters of a name in that of its temporary file, which may have 255 bytes
# What the system says where a file may be written but not replaced: by its folder, its owner, or a mount.
NOT_REPLACEABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}
_unfinished: set[Path] = set()  # temporary files of this process


def write_atomically(path: Path, content: bytes | bytearray, *, always_atomic: bool = False) -> None:
    """Write a file as `open(path, "wb")` would, but whole or not at all.

    A temporary file is written next to it, synced to disk, and renamed to `path`: an existing file stays until the new
    content is complete and on disk. As with `open`,

    - a symbolic link is followed, and if its target is missing, that is created;
    - an existing file keeps its permissions and its owner, and must be writable; a new one has those of the umask;
    - devices and pipes are written to directly, and standard output from where it is.

    A file that a rename would not leave what it was, one with several hard links or of another owner, mounted by
    itself, or in a folder that is not writable, is overwritten in place, which is not atomic.

    Args:
        path: the file.
        content: its content.
        always_atomic: whether it is never overwritten in place: other hard links keep the old content, another owner
            is replaced if need be.

    Raises:
        StorageError: the disk is full, or the file or its folder is not writable; an existing file is left unchanged,
            unless it was being overwritten in place.
    """
    try:
        found = _status(path)
        target = Path(os.path.realpath(path))  # or what is linked to
        if found is None or (always_atomic and stat.S_ISREG(found.st_mode)):
            _replace(target, content, found, needs_owner=False)
        elif _is_replaceable(target, found):
            _replace_or_overwrite(target, content, found)
        else:
            _overwrite(path, content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in the name
        raise StorageError(f"cannot write {str(path)!r:.300}: {error}") from error


def _status(path: Path) -> os.stat_result | None:
    """Return the status of an existing file, after links; None if there is none.

    Raises:
        OSError: it may not be written.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode) and not os.access(path, os.W_OK):  # renaming asks for the folder's permission alone
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return found


def _is_replaceable(target: Path, found: os.stat_result) -> bool:
    """Return whether a file is regular and has one name, which is known."""
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_nlink == 1
        and not is_stdout(target)  # to which others continue to write
        and target.exists()  # unlike a deleted file behind /dev/stdout
        and os.path.samestat(target.lstat(), found)
    )


def _replace_or_overwrite(target: Path, content: bytes | bytearray, found: os.stat_result) -> None:
    """Replace a regular file by a new one with its owner and permissions; overwrite it where that is not permitted."""
    try:
        _replace(target, content, found, needs_owner=True)
    except OSError as error:
        if error.errno not in NOT_REPLACEABLE:
            raise
        _overwrite(target, content)


def _replace(target: Path, content: bytes | bytearray, found: os.stat_result | None, *, needs_owner: bool) -> None:
    """Write and sync a temporary file, and rename it.

    Args:
        target: name of the file, no link.
        content: its content.
        found: status of the existing file, whose permissions and owner it is given.
        needs_owner: whether it is an error if the owner cannot be given.
    """
    temporary = target.with_name(f".{target.name[:NAME_LENGTH]}.{secrets.token_hex(4)}.tmp")  # as `TEMPORARY` knows it
    mode = 0o666 if found is None else stat.S_IMODE(found.st_mode) & 0o666
    _unfinished.add(temporary)
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            if found is not None:
                _take_over(file.fileno(), found, needs_owner=needs_owner)
            file.write(content)
            file.flush()
            _sync(file.fileno())
        _rename(temporary, target)
        sync_folder(target.parent)
    finally:
        with suppress(OSError, ValueError):  # gone already, or its folder is no folder
            temporary.unlink()
        _unfinished.discard(temporary)


def remove_unfinished() -> None:
    """Remove the temporary files of this process, which is about to end."""
    for path in tuple(_unfinished):
        with suppress(OSError, ValueError):
            path.unlink()


def is_stdout(path: Path) -> bool:
    """Return whether a path is that of the file, pipe or socket of standard output, such as /dev/stdout."""
    with suppress(OSError, ValueError):
        found = os.fstat(1)
        return not stat.S_ISCHR(found.st_mode) and os.path.samestat(path.stat(), found)
    return False


def _take_over(descriptor: int, found: os.stat_result, *, needs_owner: bool) -> None:
    """Give a new file the owner and the permissions of an existing one (not on Windows)."""
    if sys.platform != "win32":
        made = os.fstat(descriptor)
        if (made.st_uid, made.st_gid) != (found.st_uid, found.st_gid):
            try:
                os.fchown(descriptor, found.st_uid, found.st_gid)
            except PermissionError:
                if needs_owner:
                    raise
        if stat.S_IMODE(made.st_mode) != stat.S_IMODE(found.st_mode):
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))


def _overwrite(path: Path, content: bytes | bytearray) -> None:
    """Write into a file, pipe or device as it is."""
    with os.fdopen(os.dup(1), "wb", 0) if is_stdout(path) else path.open("wb", 0) as file:
        rest = memoryview(content)
        while rest:
            written = file.write(rest)
            if written is None:  # a full pipe that does not block
                select.select([], [file], [])
            rest = rest[written or 0 :]
        with suppress(OSError):  # pipes and devices cannot be synced
            _sync(file.fileno())


def _sync(descriptor: int) -> None:
    """Force a file to disk, on macOS through the drive's cache too, where `fsync` may stop."""
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # a file system without it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


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
            _sync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network and foreign file systems know files only
                raise
        finally:
            os.close(descriptor)

"""Downloads that are verified, cached, and safe for several processes at once."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...backends.errors import DataError, MissingDependency, StorageError
from ..files.atomic import remove_temporaries, write_atomically

LOGGER = logging.getLogger("xpnn")

LEFTOVER_SECONDS = 3600.0  # a temporary file stands for a moment; one this old is a killed process's


def cache_folder() -> Path:
    """Return the operating system's cache folder for xpnn.

    Raises:
        MissingDependency: platformdirs is not installed.
    """
    try:
        import platformdirs
    except ImportError as error:
        raise MissingDependency(
            'downloads need platformdirs, which is not installed: pip install "xpnn[cli]"'
        ) from error
    return Path(platformdirs.user_cache_dir("xpnn"))


def fetch(sha256: Mapping[str, str], *, mirrors: Sequence[str], folder: Path) -> list[Path]:
    """Make sure that verified files lie in a folder, and download those that do not.

    Each file is received and checked in memory, then written under a temporary name beside its place and renamed, so
    whoever looks sees nothing, what was there before, or the whole file. A process that is killed in that last moment
    leaves the temporary file, which nothing reads and a call an hour later removes.

    Args:
        sha256: the SHA-256 of each file by its name.
        mirrors: addresses that end in `/`, tried in order for each file; https, or http on this very machine.
        folder: where the files are kept.

    Returns:
        The files in the order of `sha256`.

    Raises:
        DataError: no mirror gave a file with the right sum, or it could not be written; what stood in its place is
            still there.
    """
    remove_temporaries(folder, older_than=LEFTOVER_SECONDS)
    return [_fetch_file(folder / name, digest, mirrors) for name, digest in sha256.items()]


def _fetch_file(path: Path, digest: str, mirrors: Sequence[str]) -> Path:
    flaw = _flaw(path, digest)
    if flaw is None:
        return path
    from .mirror import download  # here, because the modules for https take as long to import as all of xpnn.nn

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.name} cannot be kept: cannot make {path.parent}: {error.strerror}") from error
    reasons = [f"{path} {flaw}"] if os.path.lexists(path) else []
    for mirror in mirrors:
        LOGGER.info("downloading %s%s%s", mirror, path.name, f" ({reasons[-1]})" if reasons else "")
        try:
            content = download(mirror + path.name, digest)
        except DataError as error:
            reasons.append(f"{mirror}: {error}")
        else:
            _keep(path, content, digest)
            return path
    raise DataError(f"{path.name} could not be downloaded ({'; '.join(reasons)})")


def _keep(path: Path, content: bytes, digest: str) -> None:
    try:
        write_atomically(path, content)
    except StorageError as error:
        if _flaw(path, digest) is not None:  # else another process has written it: Windows replaces no open file
            raise DataError(f"{path.name} cannot be kept: {error}") from error


def _flaw(path: Path, digest: str) -> str | None:
    """Say what is wrong with a file in the cache, None if nothing is."""
    try:
        if not path.is_file():
            return "is no file"
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if got == digest else "is damaged"

"""Downloads by pooch: over https, verified, cached, and safe for concurrent processes."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from ...backends.errors import DataError, MissingDependency, StorageError
from ..files.atomic import remove_temporaries, write_atomically
from ..files.limits import DOWNLOAD_BYTES

LOGGER = logging.getLogger("xpnn")

TIMEOUT_SECONDS = (10.0, 30.0)  # for the connection, and for each wait on the next bytes
LEFTOVER_SECONDS = 3600.0  # a temporary file stands for a moment; one this old is a killed process's


def cache_folder() -> Path:
    """Return the cache folder of xpnn.

    Raises:
        MissingDependency: pooch is not installed.
    """
    return Path(_pooch().os_cache("xpnn"))


def fetch(sha256: Mapping[str, str], *, mirrors: Sequence[str], folder: Path) -> list[Path]:
    """Download missing files to a folder, and verify all of them.

    A file is downloaded and verified in memory, then written under a temporary name and renamed, so it is never
    partial. Temporary files of killed processes are removed by calls an hour later.

    Args:
        sha256: SHA-256 of each file by name.
        mirrors: https addresses that end in `/`, tried in order for each file.
        folder: destination.

    Returns:
        The files in the order of `sha256`.

    Raises:
        DataError: no mirror has a file with the right checksum, or it cannot be written; an existing file is left
            unchanged.
        MissingDependency: a file is missing and pooch is not installed.
    """
    remove_temporaries(folder, older_than=LEFTOVER_SECONDS)
    return [_fetch_file(folder / name, digest, mirrors) for name, digest in sha256.items()]


def _fetch_file(path: Path, digest: str, mirrors: Sequence[str]) -> Path:
    if _is_verified(path, digest):
        return path
    reasons: list[str] = []
    for mirror in mirrors:
        url = mirror + path.name
        LOGGER.info("downloading %s%s", url, f" ({reasons[-1]})" if reasons else "")
        try:
            content = _download(url, digest)
        except (DataError, OSError, ValueError) as error:  # those of requests are OSErrors
            text = "".join(each if each.isprintable() else "?" for each in " ".join(str(error).split()))
            reasons.append(f"{url}: {text[:400]}")  # some of it may be the mirror's
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except (OSError, StorageError) as error:
            if not _is_verified(path, digest):  # else another process was first: Windows replaces no open file
                raise DataError(f"{path.name} cannot be kept: {error}") from error
        return path
    raise DataError(f"{path.name} could not be downloaded ({'; '.join(reasons)})")


def _is_verified(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False


def _download(url: str, digest: str) -> bytes:
    """Download a file and verify its checksum."""
    _refuse_plain_http(url)
    show_progress = find_spec("tqdm") is not None and sys.stderr.isatty() and LOGGER.isEnabledFor(logging.INFO)
    # As it is: what would be packed once more, a client would unpack to something else.
    headers = {"Accept-Encoding": "identity", "User-Agent": "xpnn"}
    client = _pooch().HTTPDownloader(
        progressbar=show_progress, timeout=TIMEOUT_SECONDS, headers=headers, hooks={"response": _check_redirect}
    )
    received = _Bounded()
    client(url, received, None)
    content = received.getvalue()
    if (got := hashlib.sha256(content).hexdigest()) != digest:
        raise DataError(f"must have the SHA-256 {digest}, got {len(content)} bytes with {got}")
    return content


def _check_redirect(response: Any, **_: Any) -> None:
    """Reject redirects to addresses other than https; called by requests before it follows one."""
    if response.is_redirect:
        _refuse_plain_http(urljoin(response.url, response.headers["location"]))


def _refuse_plain_http(url: str) -> None:
    if not url.lower().startswith("https://"):
        raise DataError(f"must be https, got {url!r:.100}")


class _Bounded(BytesIO):
    def write(self, content: Any) -> int:
        if self.tell() + len(content) > DOWNLOAD_BYTES:
            raise DataError(f"must have at most {DOWNLOAD_BYTES} bytes, got more")
        return super().write(content)


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise MissingDependency('downloads need pooch, which is not installed: pip install "xpnn[cli]"') from error
    return pooch

"""Downloads that are verified, cached, and safe for several processes at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...backends.errors import DataError, MissingDependency

LOGGER = logging.getLogger("xpnn")

TIMEOUT_SECONDS = 30.0  # for the connection and for each wait on the next bytes
CHUNK_BYTES = 2**16


def cache_folder() -> Path:
    """Return the operating system's cache folder for xpnn.

    Raises:
        MissingDependency: pooch is not installed.
    """
    return Path(_pooch().os_cache("xpnn"))


def fetch(sha256: Mapping[str, str], *, mirrors: Sequence[str], folder: Path) -> list[Path]:
    """Make sure that verified files lie in a folder, and download those that do not.

    Each file is written under a temporary name beside its place, checked, and renamed, so other processes see
    either nothing or the whole file.

    Args:
        sha256: the SHA-256 of each file by its name.
        mirrors: addresses that end in `/`, tried in order for each file.
        folder: where the files are kept.

    Returns:
        The files in the order of `sha256`.

    Raises:
        MissingDependency: pooch is not installed.
        DataError: no mirror gave a file with the right sum.
    """
    pooch = _pooch()
    from requests.exceptions import ConnectionError as NoConnection  # comes with pooch

    pooch.get_logger().setLevel("WARNING")  # it would write to stderr by itself, --quiet or not
    over_http = pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS, chunk_size=CHUNK_BYTES)

    def download(url: str, output_file: str, manager: Any) -> None:
        LOGGER.info("downloading %s", url)
        over_http(url, output_file, manager)

    paths = []
    for name, digest in sha256.items():
        failures: list[str] = []
        for mirror in mirrors:
            try:
                found = pooch.retrieve(
                    mirror + name, known_hash=f"sha256:{digest}", fname=name, path=folder, downloader=download
                )
            except NoConnection:  # its own text runs over several lines of library names
                failures.append(f"{mirror}: no connection")
            except (OSError, ValueError) as error:  # bad status, timeout, full disk; wrong sum
                failures.append(f"{mirror}: {error}")
            else:
                paths.append(Path(found))
                break
        else:
            reasons = "; ".join(failures).replace("\n", " ")
            raise DataError(f"{name} could not be downloaded ({reasons})")
    return paths


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise MissingDependency('downloads need pooch, which is not installed: pip install "xpnn[cli]"') from error
    return pooch

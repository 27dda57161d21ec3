"""Zip archives from untrusted files: limits on the table of contents, and how members may be packed."""

from __future__ import annotations

from io import BufferedIOBase
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from ...backends.errors import DataError
from . import limits

ENCRYPTED = 0x1  # in the flags of a member


class OpenedBriefly:
    """File with limited reads: `ZipFile` would read a table of contents of any size at once."""

    def __init__(self, file: BufferedIOBase, path: Path, *, remedy: str) -> None:
        self._file, self._path, self._remedy = file, path, remedy
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes.

        Raises:
            DataError: more than `limits.ARCHIVE_TABLE_BYTES` are asked for at once.
        """
        if size > limits.ARCHIVE_TABLE_BYTES:
            raise DataError(
                f"{self._path}: the archive's table of contents must be at most {limits.ARCHIVE_TABLE_BYTES} bytes, "
                f"got {size}: {self._remedy}"
            )
        return self._file.read(limits.ARCHIVE_TABLE_BYTES if size < 0 else size)


def is_plain(member: ZipInfo) -> bool:
    """Return whether a member is not encrypted, and stored or deflated."""
    return not member.flag_bits & ENCRYPTED and member.compress_type in (ZIP_STORED, ZIP_DEFLATED)

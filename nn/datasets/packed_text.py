"""Text files in gzip or zip, unpacked within limits."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BytesIO
from pathlib import Path, PurePosixPath
from typing import IO
from zipfile import ZipFile, ZipInfo

from ...backends.errors import DataError
from ..files import limits
from ..files.archive import OpenedBriefly, is_plain
from ..files.data_file import PIECE, refuse_growth
from ..files.text import printable

GZIP_MAGIC = b"\x1f\x8b"
TEXT_SUFFIXES = (".csv", ".tsv", ".txt")


def unpack(file: BufferedIOBase, size: int, path: Path) -> BytesIO:
    """Unpack a `.gz`, or a `.zip` that holds one table.

    Args:
        file: the opened file of `size` bytes.
        size: bytes of the packed file.
        path: its path, which ends in .gz or .zip.

    Returns:
        The unpacked bytes.

    Raises:
        DataError: the file is damaged, would grow beyond `limits`, or, for a zip, is encrypted or holds no table or
            several.
    """
    return BytesIO(_unpack_gzip(file, size, path) if path.suffix.lower() == ".gz" else _unpack_zip(file, size, path))


def _unpack_gzip(file: BufferedIOBase, size: int, path: Path) -> bytes:
    if file.read(2) != GZIP_MAGIC:
        raise DataError(
            f"{path} is not gzip: expected its first bytes to be 1f 8b; take .gz off its name if it is already "
            "unpacked, else fetch it again"
        )
    file.seek(max(0, size - 4))
    _check_growth(int.from_bytes(file.read(4), "little"), size, path)  # what the last member says of itself
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            return _read_within_limits(stream, size, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}): fetch it again") from error


def _unpack_zip(file: BufferedIOBase, size: int, path: Path) -> bytes:
    with _zip_errors(path), ZipFile(OpenedBriefly(file, path, remedy="pack the table alone")) as archive:
        member = _table_of(archive.infolist(), path)
        _check_growth(member.file_size, size, path)
        with archive.open(member) as stream:
            return _read_within_limits(stream, size, path)


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged archive shows itself in many kinds: zip, zlib, struct, unicode, index
        reason = printable(" ".join(str(error).split()))
        raise DataError(f"{path} is not a readable zip ({reason:.200}): pack the table again") from error


def _table_of(members: list[ZipInfo], path: Path) -> ZipInfo:
    """Return the only table in an archive; what macOS adds beside each file does not count."""
    if len(members) > limits.DATA_FILES:
        raise DataError(f"{path} must hold one table, got {len(members)} files: pack the table alone")
    files = [member for member in members if not member.is_dir() and not member.filename.startswith("__MACOSX/")]
    suffixes = TEXT_SUFFIXES if len(files) > 1 else (*TEXT_SUFFIXES, "")  # pandas names the only file of a.zip `a`
    tables = [member for member in files if PurePosixPath(member.filename).suffix.lower() in suffixes]
    if len(tables) != 1:
        names = ", ".join(member.filename for member in files) or "no files"
        raise DataError(
            f"{path} must hold exactly one table ({', '.join(TEXT_SUFFIXES)}), got {printable(names)!r:.200}: "
            "unpack it, and name the table"
        )
    name = PurePosixPath(tables[0].filename)
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{path} must hold plain file names, got {printable(str(name))!r:.80}: pack the table again")
    if not is_plain(tables[0]):
        raise DataError(
            f"{path}: {printable(str(name))!r:.80} is encrypted, or compressed by another method than deflate: "
            "unpack it, and name the table"
        )
    return tables[0]


def _check_growth(promised: int, size: int, path: Path) -> None:
    if promised > limits.DATA_BYTES:
        raise DataError(
            f"{path} unpacks to {promised} bytes, more than the limit of {limits.DATA_BYTES}: leave out rows or columns"
        )
    refuse_growth(path, size, promised, remedy="it may be cut off; unpack it yourself if you trust it")


def _read_within_limits(stream: IO[bytes] | gzip.GzipFile, size: int, path: Path) -> bytes:
    """Read all of a stream, whatever its header says of its length."""
    unpacked = bytearray()
    while piece := stream.read(PIECE):
        unpacked += piece
        _check_growth(len(unpacked), size, path)
    return bytes(unpacked)

"""The .npz format: a zip archive of .npy files, checked before memory is allocated."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ..files import limits
from ..files.archive import OpenedBriefly, is_plain
from ..files.data_file import fill, opened, refuse_growth
from ..files.text import printable
from .npy import HEADER_BYTES, NpyHeader, parse_header


def read_npz(path: Path, choices: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[npt.NDArray[Any]]]:
    """Read arrays of an `.npz` by the first matching set of names; pickled objects are never loaded.

    Before any array is read, the archive must be within `limits`, and each array's header must match its size.

    Args:
        path: the file.
        choices: sets of names; the first that is complete in the archive is used.

    Returns:
        The set of names, and the arrays in its order.

    Raises:
        DataError: the file cannot be read, lacks the arrays, is malformed, or would expand too much.
    """
    with opened(path) as (file, size):
        try:
            with (
                ZipFile(OpenedBriefly(file, path, remedy="write it with numpy.savez")) as archive,
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")  # what Python and NumPy say of odd headers, which are refused or right
                members = _checked_members(archive.infolist(), path, size)
                names = next((row for row in choices if set(row) <= members.keys()), ())
                if not names:
                    accepted = " or ".join(", ".join(row) for row in choices)
                    found = ", ".join(members) or "no arrays"
                    raise DataError(f"{path} must hold {accepted}, got {found!r:.200}: rename the arrays")
                arrays = [_read_header(archive, members[name], f"{path}: {name}") for name in names]
                return names, [_read_array(archive, member) for member in arrays]
        except DataError:
            raise
        except Exception as error:  # a damaged archive shows itself in many kinds: zip, zlib, struct, token, memory
            reason = " ".join(str(error).split())  # in one line
            raise DataError(
                f"{path} is not a readable .npz ({printable(str(reason)):.200}): write it with numpy.savez, no objects"
            ) from error


@dataclass(frozen=True)
class _Member:
    """Array of the archive with a checked header."""

    what: str  # as messages call it
    info: ZipInfo
    header: NpyHeader


def _checked_members(infos: Sequence[ZipInfo], path: Path, size: int) -> dict[str, ZipInfo]:
    """Return the members by array name."""
    if len(infos) > limits.DATA_FILES:
        raise DataError(f"{path} must hold at most {limits.DATA_FILES} arrays, got {len(infos)}: leave some out")
    members: dict[str, ZipInfo] = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise DataError(f"{path} must hold each array once, got {name!r:.80} twice: write it with numpy.savez")
        if not is_plain(info):
            raise DataError(
                f"{path}: {name!r:.80} is encrypted or compressed by another method than numpy's: "
                "write it with numpy.savez or numpy.savez_compressed"
            )
        members[name] = info
    promised = sum(info.file_size for info in infos)
    if promised > limits.DATA_BYTES:
        raise DataError(
            f"{path} promises {promised} bytes of arrays, more than the limit of {limits.DATA_BYTES}: "
            "leave arrays out, or rows"
        )
    remedy = "if you trust it, load it with numpy and write it with numpy.savez, which does not compress"
    refuse_growth(path, size, promised, remedy=remedy)
    return members


def _read_header(archive: ZipFile, info: ZipInfo, what: str) -> _Member:
    with archive.open(info) as file:
        return _Member(what, info, parse_header(file.read(HEADER_BYTES), size=info.file_size, what=what))


def _read_array(archive: ZipFile, member: _Member) -> npt.NDArray[Any]:
    header = member.header
    values = np.empty(math.prod(header.shape), header.dtype)  # (values,), as they lie in the file
    with archive.open(member.info) as file:
        file.read(header.begin)
        got = fill(values, cast("BufferedIOBase", file))  # all of which zipfile holds against its checksum
    if got < values.nbytes:
        raise DataError(f"{member.what}: expected {values.nbytes} bytes after the header, got {got}: it is cut off")
    if header.dtype.kind == "b" and values.view(np.uint8).max(initial=0) > 1:
        raise DataError(f"{member.what} must hold booleans, got a byte above 1: it is damaged, or another type")
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")

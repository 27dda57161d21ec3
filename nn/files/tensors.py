"""Named arrays and a description in a safetensors file, with a digest of every byte.

Format: https://huggingface.co/docs/safetensors. The metadata contain the description as JSON under the key `xpnn`. Its
first entry is the SHA-256 of the whole file with zeros in place of the digest. (It is not a separate metadata entry,
since the order of two entries would vary.) Nothing in such a file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ModelFileError, StorageError
from .atomic import read_whole, write_atomically
from .limits import HEADER_BYTES, TENSOR_FILE_BYTES
from .text import parse_object, reason_of

Arrays = dict[str, npt.NDArray[Any]]

BLANK = "0" * 64  # what stands in the digest's place while the digest is taken
LENGTH_BYTES = 8  # of the header's length, which the file begins with


def write_tensors(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any], *, always_atomic: bool = False
) -> None:
    """Write arrays and description atomically; see `write_atomically`.

    Raises:
        StorageError: the file cannot be written, or could not be read back; an existing file is left unchanged.
    """
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # save() assumes it, unchecked
    content = sealed(save(contiguous, {"xpnn": description_text(description)}))
    header = int.from_bytes(content[:LENGTH_BYTES], "little")
    for size, limit, what in ((header, HEADER_BYTES, "header"), (len(content), TENSOR_FILE_BYTES, "content")):
        if size > limit:
            raise StorageError(f"cannot write {path}: its {what} would have {size:,} bytes, more than {limit:,}")
    write_atomically(path, content, always_atomic=always_atomic)


def description_text(description: Mapping[str, Any]) -> str:
    """Return a description as stored in the metadata, with zeros for the digest."""
    # Some generators keep arrays in their state.
    return json.dumps({"sha256": BLANK, **description}, default=np.ndarray.tolist, allow_nan=False)


def sealed(content: bytes) -> bytearray:
    """Return a file's content with its digest in place of the zeros."""
    filled = bytearray(content)
    place = filled.index(_entry(BLANK))
    filled[place : place + ENTRY_BYTES] = _entry(hashlib.sha256(content).hexdigest())
    return filled


def read_tensors(path: Path, kind: str) -> tuple[Arrays, dict[str, Any]]:
    """Read the arrays and description of a file, with its digest verified.

    Args:
        path: the file.
        kind: required `kind` of the description.

    Raises:
        ModelFileError: the file is missing, too large, damaged, not written by xpnn, or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = read_whole(path, limit=TENSOR_FILE_BYTES)
    try:
        description = _description(content)
        _check_digest(content, description.pop("sha256"))
        if description.get("kind") != kind:
            raise ValueError(f"it is of the kind {description.get('kind')!r:.40}")
        arrays = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise ModelFileError(f"{path} is damaged, or is no {kind} that xpnn wrote: {reason_of(error)}") from error
    return arrays, description


def _description(content: bytes) -> dict[str, Any]:
    """Parse the description in the header; duplicate keys, of which safetensors would use the last, are rejected."""
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    if not LENGTH_BYTES < end <= min(len(content), LENGTH_BYTES + HEADER_BYTES):
        raise ValueError("it does not begin with the length of a header of safetensors")
    return parse_object(parse_object(content[LENGTH_BYTES:end])["__metadata__"]["xpnn"])


def _check_digest(content: bytes, expected: str) -> None:
    """Verify the digest of a file."""
    entry = _entry(expected)
    place = content.find(entry)
    if len(entry) != ENTRY_BYTES or place < 0:
        raise ValueError("its description must begin with a sha256 of 64 digits")
    digest, view = hashlib.sha256(), memoryview(content)
    for part in (view[:place], _entry(BLANK), view[place + ENTRY_BYTES :]):
        digest.update(part)
    if digest.hexdigest() != expected:
        raise ValueError("it was damaged or changed after it was written, as its SHA-256 shows; take another copy")


def _entry(digest: str) -> bytes:
    """Return the digest as encoded in the header; unambiguous, since quotes inside texts are escaped twice."""
    return f'"xpnn":"{{\\"sha256\\": \\"{digest}\\"'.encode()


ENTRY_BYTES = len(_entry(BLANK))

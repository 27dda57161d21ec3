"""Named arrays and a description in one safetensors file, under a digest of every byte.

Format: https://huggingface.co/docs/safetensors. The file's metadata holds the description, JSON under the key `xpnn`.
Its first entry is the SHA-256 of the whole file, as it is with zeros in the digest's place. (It is no metadata of its
own, as the order of two of them would differ from file to file.) Nothing in such a file is ever executed.
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


def write_tensors(path: Path, arrays: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]) -> None:
    """Write the arrays and their description, whole or not at all.

    Raises:
        StorageError: the file cannot be written, or could not be read again; what stood there before is untouched.
    """
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # save() assumes it, unchecked
    content = sealed(save(contiguous, {"xpnn": description_text(description)}))
    header = int.from_bytes(content[:LENGTH_BYTES], "little")
    for size, limit, what in ((header, HEADER_BYTES, "header"), (len(content), TENSOR_FILE_BYTES, "content")):
        if size > limit:
            raise StorageError(f"cannot write {path}: its {what} would have {size:,} bytes, more than {limit:,}")
    write_atomically(path, content)


def description_text(description: Mapping[str, Any]) -> str:
    """Return a description as the metadata hold it, with room for the digest."""
    # Some generators keep arrays in their state.
    return json.dumps({"sha256": BLANK, **description}, default=np.ndarray.tolist, allow_nan=False)


def sealed(content: bytes) -> bytearray:
    """Return a file's content with its digest in the place of the zeros."""
    filled = bytearray(content)
    place = filled.index(_entry(BLANK))
    filled[place : place + ENTRY_BYTES] = _entry(hashlib.sha256(content).hexdigest())
    return filled


def read_tensors(path: Path, kind: str) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of a file and its description, after a look at every byte.

    Args:
        path: the file.
        kind: what the description's `kind` must be.

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
    """Return the description in the header; the library that reads the arrays would take the last of two equal keys."""
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    if not LENGTH_BYTES < end <= min(len(content), LENGTH_BYTES + HEADER_BYTES):
        raise ValueError("it does not begin with the length of a header of safetensors")
    return parse_object(parse_object(content[LENGTH_BYTES:end])["__metadata__"]["xpnn"])


def _check_digest(content: bytes, expected: str) -> None:
    """Hold every byte of the file against the digest in it."""
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
    """Return the digest as the header has it; a text in it cannot look so, as quotes in texts are escaped once more."""
    return f'"xpnn":"{{\\"sha256\\": \\"{digest}\\"'.encode()


ENTRY_BYTES = len(_entry(BLANK))

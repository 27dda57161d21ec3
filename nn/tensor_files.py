"""Named arrays and a description in one safetensors file.

Format: https://huggingface.co/docs/safetensors. The description is JSON under the key `xpnn` of the file's metadata.
Nothing in such a file is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends import ModelFileError
from .files import write_atomically

Arrays = dict[str, npt.NDArray[Any]]


def write_tensors(path: Path, arrays: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]) -> None:
    """Write the arrays and their description, whole or not at all.

    Raises:
        RunError: the file cannot be written; what stood there before is untouched.
    """
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # save() assumes it, unchecked
    text = json.dumps(description, default=np.ndarray.tolist)  # some generators keep arrays in their state
    write_atomically(path, save(contiguous, {"xpnn": text}))


def read_tensors(path: Path, kind: str) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of a file and its description.

    Args:
        path: the file.
        kind: what the description's `kind` must be.

    Raises:
        ModelFileError: the file is missing, no safetensors, not written by xpnn, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelFileError(f"there is no file {path}; `xpnn train` writes one into its run folder")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("xpnn")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        description = json.loads(text) if text is not None else None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelFileError(f"{path} is no readable safetensors file: {error}") from error
    if not isinstance(description, dict) or description.get("kind") != kind:
        raise ModelFileError(f"{path} is no {kind} that xpnn wrote")
    return arrays, description

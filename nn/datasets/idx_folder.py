"""Folders with the four IDX files of an MNIST-like data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...backends.errors import DataError
from .arrays import from_files
from .dataset import Dataset
from .idx import read_idx

# Training images, training labels, test images, test labels.
PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def find_parts(folder: Path) -> list[Path] | None:
    """Find the four files, compressed or not, with `-idx3` or the common variant `.idx3` in their names.

    Returns:
        Training images, training labels, test images and test labels, or None if the folder has none of them.

    Raises:
        DataError: the folder has only some of the four, or cannot be read.
    """
    try:
        found = {part: next(filter(Path.is_file, _candidates(folder, part)), None) for part in PARTS}
    except OSError as error:  # a folder that may not be searched, a name that is too long
        raise DataError(f"{folder} cannot be read ({error.strerror}): check the path and its rights") from error
    paths = [path for path in found.values() if path is not None]
    if not paths:
        return None
    if len(paths) < len(PARTS):
        missing = ", ".join(part for part, path in found.items() if path is None)
        raise DataError(f"{folder} must hold all four IDX files, got no {missing}: add them (.gz or unpacked)")
    return paths


def load_parts(parts: Sequence[Path], *, name: str, class_names: Sequence[str] | None = None) -> Dataset:
    """Load four IDX files in the order of `PARTS`.

    Raises:
        DataError: a file is malformed, or the four do not match.
    """
    return from_files(parts[0].parent, [read_idx(path) for path in parts], name=name, class_names=class_names)


def _candidates(folder: Path, part: str) -> list[Path]:
    dotted = part.replace("-idx", ".idx")
    return [folder / (stem + suffix) for stem in (part, dotted) for suffix in ("", ".gz")]

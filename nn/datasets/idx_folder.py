"""Folders with the four IDX files of MNIST, EMNIST, QMNIST and the like, under their own names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ..files.mapped_files import with_files_named
from .arrays import from_files
from .dataset import Dataset
from .emnist import emnist_split
from .idx import read_idx

# Training images, training labels, test images, test labels.
PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
NAME = re.compile(
    r"((?P<prefix>.+)-)?(?P<part>train|t10k|test)-"
    r"((?P<images>images)[-.]idx3-ubyte|labels[-.]idx(1-ubyte|2-int))(\.gz)?"
)
NIST_COLUMNS = 8  # of QMNIST's labels: class, four numbers of the writer, three of the image in NIST's collection


def idx_prefix(path: Path) -> str | None:
    """Return the name of a data set at the beginning of an IDX file's name, as in `kmnist-train-images-idx3-ubyte.gz`.

    Returns:
        The prefix, empty for MNIST's own names; None if the file is not called like one of the four.
    """
    match = NAME.fullmatch(path.name)
    return None if match is None else match["prefix"] or ""


def find_sets(folder: Path) -> dict[str, list[Path | None]]:
    """Find the IDX files of a folder, compressed or not.

    Names are those of MNIST (`PARTS`) with `-idx3` or the common variant `.idx3`, `test-` for `t10k-`, QMNIST's
    `labels-idx2-int` for the labels, and before them `emnist-letters-`, `qmnist-`, `kmnist-` or any other prefix.

    Returns:
        Training images, training labels, test images and test labels by prefix, None for missing ones.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        paths = [path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:  # a folder that may not be searched, a name that is too long
        raise DataError(f"{folder} cannot be read ({error.strerror}): check the path and its rights") from error
    sets: dict[str, list[Path | None]] = {}
    for path in sorted(paths, key=lambda path: (".idx" in path.name, path.suffix == ".gz", path.name)):
        match = NAME.fullmatch(path.name)
        assert match is not None
        parts = sets.setdefault(match["prefix"] or "", [None] * len(PARTS))
        place = 2 * (match["part"] != "train") + (match["images"] is None)
        parts[place] = parts[place] or path
    return dict(sorted(sets.items()))


def find_parts(folder: Path, prefixes: Collection[str] | None = None) -> list[Path] | None:
    """Find the four files of one data set, see `find_sets`.

    Args:
        folder: the folder.
        prefixes: accepted prefixes of the files' names, the first that there is; None for any, of which the folder must
            not have two.

    Returns:
        Training images, training labels, test images and test labels, or None if the folder has none of them.

    Raises:
        DataError: the folder has files of several data sets, or only some of the four, or cannot be read.
    """
    sets = find_sets(folder)
    if prefixes is None and len(sets) > 1:
        files = [next(path.name for path in parts if path is not None) for parts in sets.values()]
        raise DataError(
            f"{folder} must hold one data set, got {len(sets)}, with the files {', '.join(files):.400}: move each to a "
            f"folder of its own, or name one of its files in place of the folder, such as {folder / files[0]}"
        )
    prefix = next((prefix for prefix in (sets if prefixes is None else prefixes) if prefix in sets), None)
    if prefix is None:
        return None
    paths = [path for path in sets[prefix] if path is not None]
    if len(paths) < len(PARTS):
        names = [f"{prefix}-{part.replace('t10k', 'test')}" for part in PARTS] if prefix else PARTS
        missing = ", ".join(name for name, path in zip(names, sets[prefix], strict=True) if path is None)
        raise DataError(f"{folder} must hold all four IDX files, got no {missing}: add them (.gz or unpacked)")
    return paths


def load_parts(parts: Sequence[Path], *, name: str, class_names: Sequence[str] | None = None) -> Dataset:
    """Load four IDX files in the order of `PARTS`.

    EMNIST's images are transposed back, and its classes called by their characters. Of QMNIST's eight numbers of a
    label, the class is the first.

    Raises:
        DataError: a file is malformed, or the four do not match.
    """
    arrays = [read_idx(path) for path in parts]
    return with_files_named(arrays, partial(_from_arrays, arrays, parts, name=name, class_names=class_names))


def _from_arrays(
    arrays: list[npt.NDArray[Any]], parts: Sequence[Path], *, name: str, class_names: Sequence[str] | None
) -> Dataset:
    """Create the data set of the files' contents."""
    arrays[1::2] = [_classes(labels, path) for labels, path in zip(arrays[1::2], parts[1::2], strict=True)]
    if (split := emnist_split(idx_prefix(parts[0]) or "")) is not None:
        arrays[::2] = [split.upright(images, path) for images, path in zip(arrays[::2], parts[::2], strict=True)]
        arrays[1::2] = [split.from_zero(labels, path) for labels, path in zip(arrays[1::2], parts[1::2], strict=True)]
        class_names = split.class_names
    return from_files(parts[0].parent, arrays, name=name, class_names=class_names)


def _classes(labels: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Return the classes, (samples,), of QMNIST's labels, (samples, 8); those of other files unchanged.

    Source: Yadav and Bottou, "Cold case: the lost MNIST digits", NeurIPS 2019, https://github.com/facebookresearch/qmnist.

    Raises:
        DataError: a file that is called like QMNIST's has other dimensions.
    """
    if "idx2-int" not in path.name:
        return labels
    if labels.ndim != 2 or labels.shape[1] != NIST_COLUMNS:
        raise DataError(f"{path} must have shape (samples, {NIST_COLUMNS}), got {labels.shape}: download it again")
    return np.ascontiguousarray(labels[:, 0])

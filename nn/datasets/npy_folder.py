"""Folders of `.npy` files with memory-mapped images, which may exceed memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...backends.errors import DataError
from ..files.mapped_files import with_files_named
from .arrays import from_files
from .dataset import Dataset
from .npy import map_npy
from .table import WITH_TEST, WITHOUT_TEST, pixels_of


def find_arrays(folder: Path) -> list[Path] | None:
    """Find images and labels, and optionally test images and test labels, by the array names of an `.npz`.

    Returns:
        Two or four paths, or None if the folder has no such files.

    Raises:
        DataError: the folder has no complete set of files, or cannot be read.
    """
    choices = [[folder / f"{name}.npy" for name in names] for names in WITH_TEST + WITHOUT_TEST]
    try:
        found = [[path for path in paths if path.is_file()] for paths in choices]
    except OSError as error:  # a folder that may not be searched, a name that is too long
        raise DataError(f"{folder} cannot be read ({error.strerror}): check the path and its rights") from error
    for paths, there in zip(choices, found, strict=True):
        if paths == there:
            return paths
    for paths, there in zip(choices, found, strict=True):
        if there:
            missing = ", ".join(path.name for path in paths if path not in there)
            raise DataError(f"{folder} must hold {', '.join(path.name for path in paths)}, got no {missing}: add it")
    return None


def load_arrays(paths: Sequence[Path], **options: Any) -> Dataset:
    """Load `.npy` files in the order of `find_arrays`; images are memory-mapped, labels are read.

    Args:
        paths: images, labels, and optionally test images and test labels.
        options: those of `from_arrays`, which holds out the last of mapped rows.

    Raises:
        DataError: a file is malformed, or rejected by `from_arrays`.
        ConfigError: the options are invalid.
    """
    arrays = [map_npy(path) for path in paths]
    arrays[1::2] = [with_files_named([labels], partial(np.array, labels)) for labels in arrays[1::2]]
    folder = paths[0].parent
    pixels = pixels_of([path.stem for path in paths], arrays)
    return from_files(folder, arrays, name=folder.resolve().name, **{**pixels, **options})

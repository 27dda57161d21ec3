"""A folder of `.npy` files, whose images stay where they are: data that are larger than the memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...backends.errors import DataError
from .arrays import from_files
from .dataset import Dataset
from .npy import map_npy
from .table import WITH_TEST, WITHOUT_TEST


def find_arrays(folder: Path) -> list[Path] | None:
    """Find images and labels, and perhaps test images and test labels, by the names that they have in an `.npz` too.

    Returns:
        Two or four paths, or None where the folder has no file of such a name.

    Raises:
        DataError: the folder has some files of a set, but no set in full, or may not be read.
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


def load_arrays(paths: Sequence[Path], **split: Any) -> Dataset:
    """Load `.npy` files in the order of `find_arrays`; the images are mapped, and the labels read.

    Args:
        paths: images, labels, and perhaps test images and test labels.
        split: `test_fraction`, `seed` and `stratify` of `from_arrays`, which holds back the last of mapped rows.

    Raises:
        DataError: a file is malformed, or holds what `from_arrays` refuses.
        ConfigError: the options of the split are impossible.
    """
    arrays = [map_npy(path) if k % 2 == 0 else np.array(map_npy(path)) for k, path in enumerate(paths)]
    folder = paths[0].parent
    return from_files(folder, arrays, name=folder.resolve().name, **split)

"""One way to every data set: by name or by path."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ...backends.errors import ConfigError, DataError
from ..files.data_file import existing_path
from .dataset import Dataset
from .digits import load_digits
from .idx_folder import find_parts
from .mnist import FASHION_MNIST, MNIST, load_folder, load_source
from .npy_folder import find_arrays, load_arrays
from .table import load_csv, load_npz

# A new data set is one function of the data folder and one row.
NAMED: dict[str, Callable[[str | os.PathLike[str] | None], Dataset]] = {
    "mnist": lambda data_dir: load_source(MNIST, data_dir=data_dir),
    "fashion-mnist": lambda data_dir: load_source(FASHION_MNIST, data_dir=data_dir),
    "digits": lambda _: load_digits(),
}


def load_dataset(
    source: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    label_column: str = "label",
    test_fraction: float = 0.2,
    seed: int = 0,
    stratify: bool = False,
) -> Dataset:
    """Load a data set by its name, or from a file or folder.

    Args:
        source: `mnist`, `fashion-mnist` or `digits`; or a path to a folder with the four IDX files, to one with
            `images.npy` and `labels.npy` (or the other names of an `.npz`'s arrays), whose images are mapped and may be
            larger than the memory, to an `.npz` or to a `.csv`. A string that is a name is never taken as a path;
            `./mnist` is.
        data_dir: the folder of the files of `mnist` or `fashion-mnist`, or its parent; None looks into the folder
            that XPNN_DATA names and downloads what is not there.
        label_column: the header of the label's column in a `.csv`.
        test_fraction: share of the rows held back, in (0, 1), where the source has no test part of its own.
        seed: the same seed holds back the same rows.
        stratify: whether each class keeps its share among the held-back rows.

    Returns:
        Training and test rows: images (samples, features), labels (samples,) in [0, num_classes).

    Raises:
        ConfigError: there is no such name or kind of file, or an option is impossible.
        DataError: the data cannot be had or are not what they must be.
        MissingDependency: the data set needs a package that is not installed.
    """
    if isinstance(source, str) and source in NAMED:
        return NAMED[source](data_dir)
    path = existing_path(source)
    if path is None:
        _raise_not_found(source)
    split = {"test_fraction": test_fraction, "seed": seed, "stratify": stratify}
    if path.is_dir():
        arrays = None if find_parts(path) else find_arrays(path)
        if arrays is None:
            return load_folder(path)
        return load_arrays(arrays, **split)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return load_npz(path, **split)
    if suffix == ".csv":
        return load_csv(path, label_column=label_column, **split)
    raise ConfigError(
        f"a data file must be .npz or .csv, got {path}: convert it, or name the folder of IDX or .npy files"
    )


def _raise_not_found(source: str | os.PathLike[str]) -> NoReturn:
    """Tell a mistyped name from a mistyped path."""
    path = Path(source)
    if path.suffix or path.name != source:
        raise DataError(f"{str(path)!r:.300} is neither a file nor a folder: check the path")
    nearest = difflib.get_close_matches(str(source).lower().replace("_", "-"), NAMED, n=1, cutoff=0.0)[0]
    raise ConfigError(
        f"unknown data set {source!r}: the names are {', '.join(NAMED)} (nearest: {nearest!r}); "
        f"or give a path to a folder of IDX or .npy files, an .npz or a .csv"
    )

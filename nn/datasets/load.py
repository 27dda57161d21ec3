"""`load_dataset`: data sets by name or path."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ...backends.errors import ConfigError, DataError
from ...backends.lookup import did_you_mean
from ..files.data_file import existing_path
from ..inputs.inputs import Inputs, Pixels
from .dataset import Dataset
from .digits import load_digits
from .idx_folder import find_parts, idx_prefix
from .mnist import FASHION_MNIST, MNIST, load_folder, load_source
from .npy_folder import find_arrays, load_arrays
from .table import load_npz, load_table
from .table_file import SUFFIXES, TableOptions, is_table

# A new data set is one function of the data folder and one row, and one in `PIXELS` if it has pictures.
NAMED: dict[str, Callable[[str | os.PathLike[str] | None], Dataset]] = {
    "mnist": lambda data_dir: load_source(MNIST, data_dir=data_dir),
    "fashion-mnist": lambda data_dir: load_source(FASHION_MNIST, data_dir=data_dir),
    "digits": lambda _: load_digits(),
}
# Meaning of their rows, for what is said of them before they are there.
PIXELS: dict[str, Inputs] = {
    "mnist": Pixels(count=784, shape=(28, 28)),
    "fashion-mnist": Pixels(count=784, shape=(28, 28)),
    "digits": Pixels(count=64, largest=16, shape=(8, 8)),
}


def load_dataset(
    source: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    label_column: str | None = None,
    dialect: TableOptions | None = None,
    test_fraction: float | None = 0.2,
    seed: int = 0,
    stratify: bool = False,
    regression: bool | None = None,
    inputs: Inputs | None = None,
    **reading: Any,
) -> Dataset:
    """Load a data set by name, or from a file or folder.

    Args:
        source: `mnist`, `fashion-mnist` or `digits`; or the path of a folder with the four IDX files of MNIST, EMNIST,
            QMNIST, KMNIST or the like, of one of the four (if the folder has several data sets), of a folder with
            `images.npy` and `labels.npy` (or the other names of arrays in an `.npz`), whose images are mapped and may
            exceed memory, of an `.npz`, or of a table: `.csv`, `.tsv`, `.txt`, also in `.gz` or `.zip`, or `.parquet`.
            Names take precedence over paths; `./mnist` is a path.
        data_dir: folder of the files of `mnist` or `fashion-mnist`, or its parent; None for the folder in XPNN_DATA,
            with a download of missing files.
        label_column: label's column of a table; None for one called `label`, `target`, `class` or `y`, else the last.
        dialect: delimiter, decimal sign and header of a text table; None to find them.
        test_fraction: fraction of rows to hold out, in (0, 1), if the source has no test set; None for none.
        seed: seed of the split.
        stratify: whether to preserve class proportions in the split.
        regression: whether labels are numbers to predict; None: for a table, if they are many, see `are_measurements`.
        inputs: inputs of a trained network, by which rows and labels are read; None to learn them.
        reading: `pixels`, `image_shape`, `standardize`, and for tables `drop`, `categorical` and `id_column`, see
            `nn.from_arrays`.

    Returns:
        Training and test rows: images (samples, features), labels (samples,) in [0, num_classes).

    Raises:
        ConfigError: unknown name or kind of file, or an invalid option.
        DataError: the data are unavailable or invalid.
        MissingDependency: the data set needs a package that is not installed.
    """
    if isinstance(source, str) and source in NAMED:
        return NAMED[source](data_dir)
    path = existing_path(source)
    if path is None:
        _raise_not_found(source)
    options: dict[str, Any] = {
        "test_fraction": test_fraction, "seed": seed, "stratify": stratify, "regression": regression, "inputs": inputs,
        **reading,
    }  # fmt: skip
    if path.is_dir():
        arrays = None if find_parts(path) else find_arrays(path)
        if arrays is None:
            return load_folder(path)
        return load_arrays(arrays, **options)
    if (prefix := idx_prefix(path)) is not None:
        return load_folder(path.parent, prefix)
    if path.suffix.lower() == ".npz":
        return load_npz(path, **options)
    if is_table(path):
        return load_table(path, label_column=label_column, dialect=dialect or TableOptions(), **options)
    raise ConfigError(
        f"a data file must be .npz or one of {', '.join(SUFFIXES)}, got {path}: convert it, or name the folder of IDX "
        "or .npy files"
    )


def _raise_not_found(source: str | os.PathLike[str]) -> NoReturn:
    """Raise an error for a mistyped name or a mistyped path."""
    path = Path(source)
    if path.suffix or path.name != source:
        raise DataError(f"{str(path)!r:.300} is neither a file nor a folder: check the path")
    raise ConfigError(
        f"unknown data set {source!r}{did_you_mean(source, NAMED)}: the names are {', '.join(NAMED)}; "
        "or give a path to a folder of IDX or .npy files, an .npz or a table such as .csv"
    )

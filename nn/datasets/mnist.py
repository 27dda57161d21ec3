"""MNIST and Fashion-MNIST, from a local folder or a mirror.

Checksums: MNIST's are of the files served by both mirrors, Fashion-MNIST's are from tensorflow_datasets
(url_checksums/fashion_mnist.txt).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...backends.errors import DataError
from ..files.data_file import existing_path
from .dataset import Dataset
from .download import cache_folder, fetch
from .idx import read_idx
from .idx_folder import PARTS, find_parts, find_sets, idx_prefix, load_parts

ENVIRONMENT = "XPNN_DATA"


@dataclass(frozen=True)
class Source:
    """Origin of a named data set.

    Attributes:
        name: name of the data set and of its sub-folder.
        mirrors: addresses in the order to try, each ending in `/`.
        sha256: checksum of each compressed file by name, in the order of `PARTS`.
        class_names: one name per class.
        first_labels: first ten test labels, which tell the data sets apart: their files have the same names.
    """

    name: str
    mirrors: tuple[str, ...]
    sha256: Mapping[str, str]
    class_names: tuple[str, ...]
    first_labels: tuple[int, ...]


MNIST = Source(
    name="mnist",
    mirrors=("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
    sha256={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    class_names=tuple("0123456789"),
    first_labels=(7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
)

FASHIONS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_MNIST = Source(
    name="fashion-mnist",
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    sha256={
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    class_names=FASHIONS,
    first_labels=(9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
)

SOURCES = (MNIST, FASHION_MNIST)


def load_source(source: Source, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load MNIST or Fashion-MNIST.

    The files are read from `data_dir` if given; otherwise from the folder in XPNN_DATA, else downloaded to the cache
    folder. Each folder may contain the four files, or a folder `mnist` or `fashion-mnist` with them.

    Args:
        source: one of `SOURCES`.
        data_dir: folder of the files, or None.

    Returns:
        60,000 training and 10,000 test images, (samples, 784) uint8, with 10 classes.

    Raises:
        DataError: the files are malformed or do not match, `data_dir` does not contain the data set, or there are none
            and no mirror answers.
        MissingDependency: there are no local files and pooch is not installed.
    """
    parts = find_local(source, data_dir)
    if parts is None:
        try:
            parts = fetch(source.sha256, mirrors=source.mirrors, folder=cache_folder() / source.name)
        except DataError as error:
            raise DataError(
                f"{source.name} is in no local folder, and {error}: put {', '.join(PARTS)} (.gz or unpacked) into "
                f"a folder {source.name}, and name that folder or its parent by {ENVIRONMENT} or --data"
            ) from error
    return load_parts(parts, name=source.name, class_names=source.class_names)


def load_folder(folder: Path, prefix: str | None = None) -> Dataset:
    """Load the four IDX files of a folder: MNIST, Fashion-MNIST, or a data set named after the files or the folder.

    Args:
        folder: images in it are (samples, rows, columns) or (samples, features), labels (samples,).
        prefix: prefix of the files' names, see `find_sets`; None for the only one.

    Raises:
        DataError: a file is missing or malformed, the four do not match, or there are several data sets.
    """
    parts = find_parts(folder, None if prefix is None else [prefix])
    if parts is None:
        raise DataError(
            f"{folder} must hold the four IDX files {', '.join(PARTS)} (.gz or unpacked), or images.npy and "
            f"labels.npy, got {_found(folder)}: name the folder that has them"
        )
    source = _recognize(parts)
    if source is None:
        return load_parts(parts, name=idx_prefix(parts[0]) or folder.resolve().name)
    return load_parts(parts, name=source.name, class_names=source.class_names)


def find_local(source: Source, data_dir: str | os.PathLike[str] | None = None) -> list[Path] | None:
    """Find the four files of a named data set in `data_dir`, or else in the folder in XPNN_DATA.

    Names of the files may begin with the name of the data set, as in `fashion-mnist-train-images-idx3-ubyte`.

    Returns:
        The files in the order of `PARTS`; None if `data_dir` is None and XPNN_DATA does not contain them.

    Raises:
        DataError: `data_dir` does not contain the data set, `data_dir` or XPNN_DATA is not a folder, or a folder has
            only some of the four files.
    """
    origin, place = "data_dir (--data)", data_dir
    if place is None:
        origin, place = ENVIRONMENT, os.environ.get(ENVIRONMENT)
        if not place:
            return None
    folder = existing_path(place)
    if folder is None or not folder.is_dir():
        raise DataError(f"{origin} must name a folder, got {os.fspath(place)!r:.300}: check the path")
    for candidate in (folder / source.name, folder):
        parts = find_parts(candidate, ["", source.name])
        if parts is not None and (_recognize(parts) or source).name == source.name:
            return parts
    if data_dir is None:
        return None
    raise DataError(
        f"{folder} must hold {source.name}, got {_found(folder)}: name the folder with {', '.join(PARTS)} "
        f"(.gz or unpacked), or the parent of a folder {source.name} with them, or name no folder"
    )


def _recognize(parts: list[Path]) -> Source | None:
    """Identify a data set of `SOURCES` by its files' prefix or its first test labels; None for another data set."""
    if prefix := idx_prefix(parts[-1]):
        return next((source for source in SOURCES if source.name == prefix), None)
    first = tuple(read_idx(parts[-1]).ravel()[:10].tolist())  # test labels, (10,)
    return next((source for source in SOURCES if source.first_labels == first), None)


def _found(folder: Path) -> str:
    """Describe the data sets in a folder and in its sub-folders of known names."""
    names = []
    for place in (folder, *(folder / source.name for source in SOURCES)):
        for prefix in find_sets(place):
            if (parts := find_parts(place, [prefix])) is not None:
                source = _recognize(parts)
                names.append(f"{(prefix or 'another data set') if source is None else source.name} in {place}")
    return " and ".join(names) or "none of them"

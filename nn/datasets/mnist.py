"""MNIST and Fashion-MNIST by name: from a local folder, otherwise from a mirror.

Sums: those of MNIST are of the files that both mirrors serve, those of Fashion-MNIST stand in
tensorflow_datasets (url_checksums/fashion_mnist.txt).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...backends.errors import DataError
from .dataset import Dataset
from .download import cache_folder, fetch
from .idx import read_idx
from .idx_folder import PARTS, find_parts, load_parts

ENVIRONMENT = "XPNN_DATA"


@dataclass(frozen=True)
class Source:
    """Where a named data set comes from.

    Attributes:
        name: its name, and that of its sub-folder.
        mirrors: addresses in the order in which they are tried, each ending in `/`.
        sha256: the sum of each compressed file by its name, in the order of `PARTS`.
        class_names: one name a class.
        first_labels: the first ten test labels, which tell one data set from the other: their files share names.
    """

    name: str
    mirrors: tuple[str, ...]
    sha256: Mapping[str, str]
    class_names: tuple[str, ...]
    first_labels: tuple[int, ...]


MNIST = Source(
    name="mnist",
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    sha256={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    class_names=tuple("0123456789"),
    first_labels=(7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
)

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
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    first_labels=(9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
)

SOURCES = (MNIST, FASHION_MNIST)


def load_source(source: Source, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load MNIST or Fashion-MNIST.

    Looks into `data_dir`, then into the folder that XPNN_DATA names: each is either the folder of the four files
    or one that has a folder `mnist` or `fashion-mnist` with them. Otherwise downloads into the cache folder.

    Args:
        source: one of `SOURCES`.
        data_dir: the folder to look into first.

    Returns:
        60,000 training and 10,000 test images, (samples, 784) uint8, with 10 classes.

    Raises:
        DataError: the files are malformed or do not belong together, or there are none and no mirror answers.
        MissingDependency: a download is needed and pooch is not installed.
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


def find_local(source: Source, data_dir: str | os.PathLike[str] | None = None) -> list[Path] | None:
    """Find the four files of a named data set in `data_dir` or in the folder that XPNN_DATA names.

    Raises:
        DataError: `data_dir` or XPNN_DATA is no folder, or a folder has some of the four files, but not all.
    """
    places = {"data_dir (--data)": data_dir, ENVIRONMENT: os.environ.get(ENVIRONMENT)}
    for origin, place in places.items():
        if not place:
            continue
        folder = Path(place).expanduser()
        if not folder.is_dir():
            raise DataError(f"{origin} must name a folder, got {folder}: check the path")
        for candidate in (folder / source.name, folder):
            parts = find_parts(candidate)
            if parts is not None and not _belongs_to_another(parts, source):
                return parts
    return None


def _belongs_to_another(parts: list[Path], source: Source) -> bool:
    first = tuple(read_idx(parts[-1]).ravel()[:10].tolist())  # test labels, (10,)
    return any(first == other.first_labels for other in SOURCES if other.name != source.name)

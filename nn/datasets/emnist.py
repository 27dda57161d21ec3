"""EMNIST: the orientation of its images, and the characters of its classes.

Source: Cohen, Afshar, Tapson and van Schaik, "EMNIST: extending MNIST to handwritten letters", IJCNN 2017; the classes
are those of the files `emnist-<split>-mapping.txt` beside the data. That the images are transposed is said by
https://www.tensorflow.org/datasets/catalog/emnist.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError

PREFIX = "emnist"
MERGED = digits + ascii_uppercase + "abdefghnqrt"  # the other small letters are in the classes of the capitals


@dataclass(frozen=True)
class EmnistSplit:
    """Split of EMNIST.

    Attributes:
        characters: character of each class; empty if unknown, which leaves the numbers as names.
        first: number of the first class.
    """

    characters: str = ""
    first: int = 0

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class; None if unknown."""
        return tuple(self.characters) or None

    def upright(self, images: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
        """Return images, (samples, rows, columns), from images of a file, (samples, columns, rows).

        Raises:
            DataError: they have other dimensions.
        """
        if images.ndim != 3:
            raise DataError(f"{path} must have three dimensions, got shape {images.shape}: download it again")
        return np.ascontiguousarray(images.transpose(0, 2, 1))

    def from_zero(self, labels: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
        """Return labels, (samples,), that count the classes from 0.

        Raises:
            DataError: one of them is no class of the split.
        """
        if not self.characters or not labels.size:
            return labels
        last = self.first + len(self.characters) - 1
        least, most = int(labels.min()), int(labels.max())
        if least < self.first or most > last:
            raise DataError(
                f"{path} must have labels in [{self.first}, {last}], got {least if least < self.first else most}: "
                "check that the file is of the split in its name, or download it again"
            )
        return labels.astype(np.int64) - self.first


SPLITS = {
    "balanced": EmnistSplit(MERGED),
    "bymerge": EmnistSplit(MERGED),
    "byclass": EmnistSplit(digits + ascii_uppercase + ascii_lowercase),
    "letters": EmnistSplit(ascii_uppercase, first=1),
    "digits": EmnistSplit(digits),
    "mnist": EmnistSplit(digits),
}


def emnist_split(prefix: str) -> EmnistSplit | None:
    """Return the split of files with a prefix such as `emnist-letters`; None if they are not of EMNIST."""
    name, _, split = prefix.partition("-")
    return SPLITS.get(split, EmnistSplit()) if name == PREFIX else None

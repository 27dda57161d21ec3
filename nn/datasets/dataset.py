"""What a data set is: two splits of images and labels, and how integers become numbers in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Split:
    """Rows of a data set.

    Attributes:
        images: (samples, features), uint8 as it came from its file, or float32/float64.
        labels: (samples,), int64 in [0, num_classes).
    """

    images: npt.NDArray[Any]  # (samples, features)
    labels: npt.NDArray[np.int64]  # (samples,)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A named data set with its training and test rows.

    Attributes:
        name: what it is called in run folders and pictures.
        train: the rows that the network learns from.
        test: the rows that it is measured on.
        class_names: one name a class; class `k` is `class_names[k]`.
        scale: integer images are multiplied by this on their way into the first layer (1/255 for 8-bit pixels);
            floating images are taken as they are.
        image_shape: (rows, columns) of one image, or None where the features are no picture.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    scale: float = 1 / 255
    image_shape: tuple[int, int] | None = None

    @property
    def features(self) -> int:
        """Number of features of one row."""
        return int(self.train.images.shape[1])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

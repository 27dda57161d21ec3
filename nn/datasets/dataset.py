"""Data sets: two splits of images and labels, and the scale of integer images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..inputs.arrays import host_array
from ..inputs.facts import NO_FACTS, RowFacts


@dataclass(frozen=True)
class Split:
    """Rows of a data set; arrays of other libraries and frames are converted to NumPy, see `host_array`.

    Attributes:
        images: (samples, features), uint8, float32 or float64.
        labels: classes, (samples,), int64 in [0, num_classes); or targets, (samples, outputs), for losses other than
            softmax cross-entropy.
        weights: row weights for training, (samples,), float64, at least 0; None for 1 each.
        facts: range and checksum of the images; `dataclasses.replace` keeps them as long as the images stay.
    """

    images: npt.NDArray[Any]  # (samples, features)
    labels: npt.NDArray[Any]  # (samples,) or (samples, outputs)
    weights: npt.NDArray[np.float64] | None = None  # (samples,)
    facts: RowFacts = field(default=NO_FACTS, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        for name in ("images", "labels", "weights"):
            given = getattr(self, name)
            if given is not None and type(given) not in (np.ndarray, np.memmap):
                array = host_array(given, what=name, fix="pass one row of numbers for each sample")
                object.__setattr__(self, name, array)
        if self.facts.rows is not self.images:
            object.__setattr__(self, "facts", RowFacts(self.images))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        weighted = "" if self.weights is None else ", weighted"
        images, labels = (f"{array.dtype} {array.shape}" for array in (self.images, self.labels))
        return f"<Split: images {images}, labels {labels}{weighted}>"


@dataclass(frozen=True)
class Dataset:
    """Named data set of training and test rows.

    Attributes:
        name: name in run folders and plots.
        train: training rows.
        test: test rows.
        class_names: one name per class, empty if labels are not classes.
        scale: factor of integer images in the first layer (1/255 for 8-bit pixels); floating-point images are not
            scaled.
        image_shape: (rows, columns) of an image, or None if the features are not pixels.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    scale: float = 1 / 255
    image_shape: tuple[int, int] | None = None

    def __repr__(self) -> str:
        what = f"{self.num_classes} classes" if self.class_names else f"{self.num_outputs} outputs"
        return (
            f"<Dataset {self.name!r}: {len(self.train):,} training and {len(self.test):,} test rows of "
            f"{self.features} features, {what}>"
        )

    @property
    def features(self) -> int:
        """Number of features."""
        return int(self.train.images.shape[1])

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if labels are not classes."""
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a network for this data."""
        labels = self.train.labels
        return self.num_classes if labels.ndim == 1 else int(labels.shape[1])

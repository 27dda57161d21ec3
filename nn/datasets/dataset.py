"""Data sets: two splits of rows and labels, and the inputs that say what their numbers mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ..files.text import sub_unquoted
from ..inputs.arrays import host_array
from ..inputs.facts import NO_FACTS, RowFacts
from ..inputs.frames import as_table
from ..inputs.inputs import Inputs


@dataclass(frozen=True)
class Origin:
    """Places of rows in their source, which messages name.

    Attributes:
        numbers: index of each row in the arrays, or its line in the file, (rows,).
        file: the file; empty for arrays.
        word: what stands before a number in messages.
    """

    numbers: Sequence[int] | npt.NDArray[np.int64]
    file: str = ""
    word: str = "at row"

    def take(self, places: npt.NDArray[np.int64] | slice) -> Origin:
        """Return the origin of a subset of the rows, (part,)."""
        if isinstance(places, slice):
            return replace(self, numbers=self.numbers[places])  # of a range still one
        return replace(self, numbers=np.asarray(self.numbers, np.int64)[places])

    def locate(self, message: str) -> str:
        """Return a message that names a row by its index with the row's place in the source."""

        def place(found: re.Match[str]) -> str:
            row = int(found[1])
            return f"{self.word} {self.numbers[row]}" if row < len(self.numbers) else found[0]  # a word of the user's

        message = sub_unquoted(r"\bat row (\d+)", place, message)
        return f"{self.file}: {message}" if self.file else message

    @contextmanager
    def located(self) -> Iterator[None]:
        """Context manager: a `DataError` that names a row by its index names its place in the source."""
        try:
            yield
        except DataError as error:
            raise DataError(self.locate(str(error))) from error


@dataclass(frozen=True)
class Split:
    """Rows of a data set; dense arrays of other libraries and frames are converted to NumPy, see `host_array`.

    Attributes:
        images: (samples, columns), uint8, float32 or float64: pixels, numbers, or the cells of a table. Sparse
            arrays of SciPy become a `csr_array` with sorted, distinct indices and no stored zeros.
        labels: classes, (samples,), int64 in [0, num_classes); or targets, (samples, outputs), for losses other than
            softmax cross-entropy.
        weights: row weights for training, (samples,), float64, at least 0; None for 1 each.
        inputs: meaning of the rows; None for that of the network, or if it has none, of pixels for uint8, and of
            numbers as they are for other dtypes.
        facts: range and checksum of the images; `dataclasses.replace` keeps them as long as the images stay.
        names: columns of a frame that `images` is made of, by which a network that knows names finds them.
        origin: places of the rows before the split, for messages; None if they were not split.
    """

    images: npt.NDArray[Any]  # (samples, columns)
    labels: npt.NDArray[Any]  # (samples,) or (samples, outputs)
    weights: npt.NDArray[np.float64] | None = None  # (samples,)
    inputs: Inputs | None = field(default=None, kw_only=True, compare=False)
    facts: RowFacts = field(default=NO_FACTS, kw_only=True, compare=False)
    names: tuple[str, ...] = field(default=(), kw_only=True, compare=False)
    origin: Origin | None = field(default=None, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        if (frame := as_table(self.images)) is not None:
            object.__setattr__(self, "names", tuple(map(str, frame.columns)))
        for name in ("images", "labels", "weights"):
            given = getattr(self, name)
            if given is not None and given is not self.facts.rows and type(given) is not np.memmap:
                fix = "pass one row of numbers for each sample"
                array = host_array(given, what=name, fix=fix, keep_sparse=name == "images")
                object.__setattr__(self, name, array)
        if self.facts.rows is not self.images:
            object.__setattr__(self, "facts", RowFacts(self.images))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        weighted = "" if self.weights is None else ", weighted"
        images, labels = (f"{array.dtype} {array.shape}" for array in (self.images, self.labels))
        return f"<Split: images {images}, labels {labels}{weighted}>"

    def take(self, places: npt.NDArray[np.int64] | slice) -> Split:
        """Return a subset of the rows, (part,), with weights."""
        weights = None if self.weights is None else self.weights[places]
        return Split(self.images[places], self.labels[places], weights, inputs=self.inputs, names=self.names)


@dataclass(frozen=True)
class Dataset:
    """Named data set of training and test rows.

    Attributes:
        name: name in run folders and plots.
        train: training rows.
        test: test rows.
        inputs: meaning of the rows, and names of the classes.
        notes: how the rows were read, a sentence each.
    """

    name: str
    train: Split
    test: Split
    inputs: Inputs
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.train.images.ndim == 2:
            object.__setattr__(self, "inputs", self.inputs.of_width(int(self.train.images.shape[1])))
        for name in ("train", "test"):
            object.__setattr__(self, name, replace(getattr(self, name), inputs=self.inputs))

    def __repr__(self) -> str:
        what = f"{self.num_classes} classes" if self.class_names else f"{self.num_outputs} outputs"
        return (
            f"<Dataset {self.name!r}: {len(self.train):,} training and {len(self.test):,} test rows of "
            f"{self.features} features, {what}>"
        )

    @property
    def features(self) -> int:
        """Number of features of a network for this data."""
        return self.inputs.num_features or int(self.train.images.shape[1])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class; empty if labels are not classes."""
        return self.inputs.class_names

    @property
    def scale(self) -> float:
        """Factor of integer images in the first layer."""
        return self.inputs.scale

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Rows and columns of an image, or None if the rows are not pictures."""
        return self.inputs.image_shape

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if labels are not classes."""
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a network for this data."""
        labels = self.train.labels
        return self.num_classes if labels.ndim == 1 else int(labels.shape[1])

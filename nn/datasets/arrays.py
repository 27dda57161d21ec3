"""Data sets from arrays; every loader ends here, so checks exist once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import ConfigError, DataError
from ...backends.machine import memory_bytes
from ...backends.mapped import is_mapped
from ..inputs.arguments import refuse_not_finite
from ..inputs.arrays import categorical_codes, host_array
from ..inputs.facts import RowFacts
from ..inputs.frames import only_column
from .dataset import Dataset, Split
from .labels import check_labels, encode_labels
from .split import split_rows

MIN_SQUARE = 16  # fewer features are no picture, even where their number is a square


def from_arrays(
    images: Any,
    labels: Any,
    *,
    test_images: Any = None,
    test_labels: Any = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    stratify: bool = False,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Create a data set from arrays.

    Arrays may be of NumPy, PyTorch, JAX, CuPy or any library that supports DLPack or `__array__`; lists, and frames of
    pandas, polars and pyarrow with features as columns, work as well.

    Integers and booleans in 0..255 become uint8, with a scale of one over the largest training value, or 1/255 if that
    is above 127. float64 and float32 are kept; all other dtypes (wider integers, float16, longdouble) become float32,
    which represents integers exactly only up to 2**24. Floating-point features have scale 1.

    Memory-mapped images, such as `np.load("images.npy", mmap_mode="r")`, stay in their file if they are uint8, float32
    or float64 in C order, and may exceed memory. They are not shuffled before the split: the last rows are held out,
    so the file must not be sorted by class.

    Args:
        images: (samples, features), or (samples, rows, columns), which is flattened and kept as the image shape. uint8
            features whose number is a square of at least 16 are taken as square images.
        labels: (samples,), integers, strings or other hashable values, numbered in sorted order; with `class_names`,
            integers in [0, num_classes). Categorical labels of pandas and polars' `Enum` are numbered by category,
            including unused ones.
        test_images: like `images`; without it, rows are held out by `test_fraction`, `seed` and `stratify`.
        test_labels: like `labels`.
        test_fraction: fraction of rows to hold out, in (0, 1).
        seed: seed of the split.
        stratify: whether to preserve class proportions in the split.
        name: name of the data set.
        class_names: name of each class; None for the sorted distinct labels.

    Raises:
        DataError: dimensions, lengths, dtypes, values or labels are invalid.
        ConfigError: only one of `test_images` and `test_labels` is given, `class_names` is not a sequence, or the
            options of the split are invalid.
    """
    if (test_images is None) != (test_labels is None):
        missing = "test_labels" if test_labels is None else "test_images"
        raise ConfigError(f"test_images and test_labels belong together, got no {missing}: pass both or none")
    whats = ["images"] if test_images is None else ["images", "test_images"]
    given_images = [images] if test_images is None else [images, test_images]
    checked = [_check_images(given, what) for given, what in zip(given_images, whats, strict=True)]
    if checked[0].shape[1:] != checked[-1].shape[1:]:
        raise DataError(
            f"images and test_images must have the same features, got shapes {checked[0].shape} and "
            f"{checked[-1].shape}: cut or pad them alike"
        )
    pixels = _common_dtype(checked, whats)  # each (samples, features)

    label_whats = [what.replace("images", "labels") for what in whats]
    given_labels = [only_column(each) for each in ([labels] if test_labels is None else [labels, test_labels])]
    if class_names is None and (coded := categorical_codes(given_labels, whats=label_whats)):
        given_labels, class_names = list(coded[0]), coded[1]
    numbers, names = encode_labels(
        [
            check_labels(given, rows=len(part), what=what)
            for given, part, what in zip(given_labels, pixels, label_whats, strict=True)
        ],
        whats=label_whats,
        class_names=class_names,
    )
    if numbers[0].min() == numbers[0].max():
        raise DataError(
            f"labels must hold at least two classes, got only {names[numbers[0][0]]!r}: there is nothing to learn"
        )

    splits = [Split(part, number) for part, number in zip(pixels, numbers, strict=True)]
    if len(splits) == 1:
        train, test = split_rows(pixels[0], numbers[0], test_fraction=test_fraction, seed=seed, stratify=stratify)
    else:
        train, test = splits
    if not (train.facts.are_finite_in("float64") and test.facts.are_finite_in("float64")):
        for part, what in zip(pixels, whats, strict=True):  # in whose order the message says where
            refuse_not_finite(part, what=what)
    return Dataset(name, train, test, names, _scale(train), _image_shape(checked[0], train.images))


def from_files(place: Path, arrays: Sequence[npt.NDArray[Any]], **options: Any) -> Dataset:
    """Create a data set from the contents of a file or folder, which messages name.

    Args:
        place: the file or folder.
        arrays: images, labels, and perhaps test images and test labels.
        options: as for `from_arrays`.

    Raises:
        ConfigError, DataError: as for `from_arrays`.
    """
    names = ("images", "labels", "test_images", "test_labels")
    named: dict[str, Any] = dict(zip(names, arrays, strict=False))
    try:
        return from_arrays(**named, **options)
    except DataError as error:
        raise DataError(f"{place}: {error}") from error


def _check_images(given: Any, what: str) -> npt.NDArray[Any]:
    values = host_array(given, what=what, fix="pass equal rows of numbers")
    if values.ndim not in (2, 3):
        raise DataError(
            f"{what} must be (samples, features) or (samples, rows, columns), got shape {values.shape}: "
            f"pass {what}.reshape(len({what}), -1)"
        )
    if values.size == 0:
        raise DataError(f"{what} must hold at least one row and one feature, got shape {values.shape}: check the file")
    if values.dtype.kind not in "buif":
        raise DataError(f"{what} must be real numbers, got {values.dtype}: convert with {what}.astype('float32')")
    return values


def _common_dtype(parts: list[npt.NDArray[Any]], whats: list[str]) -> list[npt.NDArray[Any]]:
    """Flatten the parts to (samples, features) of a common dtype."""
    floating = [part.dtype.kind == "f" for part in parts]
    if any(floating) and not all(floating):
        raise DataError(
            f"images and test_images must both be integers or both be floating, got {parts[0].dtype} and "
            f"{parts[-1].dtype}: their scales would differ; convert one of them"
        )
    dtype: np.dtype[Any] = np.dtype(np.float32)
    if not any(floating) and all(RowFacts(part).are_within(0, 255) for part in parts):
        dtype = np.dtype(np.uint8)
    elif any(part.dtype.kind == "f" and part.dtype.itemsize == 8 for part in parts):
        dtype = np.dtype(np.float64)
    flat = []
    for part, what in zip(parts, whats, strict=True):
        _refuse_too_large(part, dtype, what)
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused later
            flat.append(np.ascontiguousarray(part.reshape(len(part), -1), dtype=dtype))  # (samples, features)
    return flat


def _refuse_too_large(part: npt.NDArray[Any], dtype: np.dtype[Any], what: str) -> None:
    """Reject memory-mapped rows whose conversion to another dtype or order would not fit into memory."""
    needed = part.size * dtype.itemsize
    if not (part.flags.c_contiguous and part.dtype == dtype) and is_mapped(part) and needed > memory_bytes() / 2:
        raise DataError(
            f"{what} are mapped from a file as {part.dtype} and would take {needed / 2**30:,.1f} GiB of memory as "
            f"{dtype}: write the file as uint8, float32 or float64 in C order, of which nothing is copied"
        )


def _scale(train: Split) -> float:
    if train.images.dtype != np.uint8:
        return 1.0
    largest = int(train.facts.range[1])
    return 1 / 255 if largest > 127 else 1 / max(largest, 1)


def _image_shape(given: npt.NDArray[Any], flat: npt.NDArray[Any]) -> tuple[int, int] | None:
    if given.ndim == 3:
        return int(given.shape[1]), int(given.shape[2])
    features = flat.shape[1]
    side = math.isqrt(features)
    if flat.dtype == np.uint8 and features >= MIN_SQUARE and side * side == features:
        return side, side
    return None

"""A data set out of arrays in memory; every loader ends here, so the checks live once."""

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
    """Check arrays and make a data set of them.

    They may be of NumPy, PyTorch, JAX, CuPy or any library that speaks DLPack or `__array__`, or lists, or frames of
    pandas, polars and pyarrow, whose columns are the features.

    Whole numbers and booleans in 0..255 become uint8, with a scale of one over the largest training value, or
    1/255 where that is above 127. float64 and float32 stay; every other number (wider integers, float16,
    longdouble) becomes float32, which holds integers exactly up to 2**24 only. Floating features get scale 1.

    Images that are mapped from a file, such as `np.load("images.npy", mmap_mode="r")`, stay there if they are uint8,
    float32 or float64 in C order, and may be larger than the memory. They are not shuffled into parts: the last rows
    are held back, so the file must not be sorted by class.

    Args:
        images: (samples, features), or (samples, rows, columns), which is flattened and remembered as the image
            shape. uint8 features whose number is a square of at least 16 count as a square picture.
        labels: (samples,), whole numbers, strings or other hashable values, numbered in sorted order; with
            `class_names`, numbers in [0, num_classes). Categorical labels of pandas, and those of polars' `Enum`, are
            numbered in the order of their categories, also of those that no row has.
        test_images: like `images`; without it, rows are held back by `test_fraction`, `seed` and `stratify`.
        test_labels: like `labels`.
        test_fraction: share of the held-back rows, in (0, 1).
        seed: the same seed holds back the same rows.
        stratify: whether each class keeps its share among the held-back rows.
        name: what the data set is called.
        class_names: the name of each class; None takes the sorted distinct labels.

    Raises:
        DataError: dimensions, lengths, types, values or labels are not what they must be.
        ConfigError: only one of `test_images` and `test_labels` came, `class_names` is no sequence, or the options of
            the split are impossible.
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
    """Make a data set of what was read from a file or folder, which messages name.

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
    values = host_array(given, what=what, mend="pass equal rows of numbers")
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
    """Flatten the parts to (samples, features) of one type that all of them fit."""
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
    """Refuse rows of a mapped file that would come into memory in another type or order, and be too many for it."""
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

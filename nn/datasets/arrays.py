"""Data sets from arrays and frames; every loader ends here, so checks exist once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import ConfigError, DataError
from ...backends.lookup import look_up
from ..files.mapped_files import with_files_named
from ..inputs.arrays import categorical_codes, host_array
from ..inputs.frames import only_column
from ..inputs.inputs import Inputs, Target
from ..inputs.table import Table
from .dataset import Dataset, Origin, Split
from .labels import (
    MANY_CLASSES,
    are_measurements,
    check_labels,
    check_targets,
    classes_note,
    encode_labels,
    labels_by_name,
)
from .raw_rows import Reading, read_rows
from .split import Places, last_places, split_places

LOGGER = logging.getLogger("xpnn")


def from_arrays(
    images: Any,
    labels: Any,
    *,
    test_images: Any = None,
    test_labels: Any = None,
    test_fraction: float | None = 0.2,
    seed: int = 0,
    stratify: bool = False,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    regression: bool | None = None,
    inputs: Inputs | None = None,
    **reading: Any,
) -> Dataset:
    """Create a data set from arrays or frames.

    Arrays may be of NumPy, PyTorch, JAX, CuPy or any library that supports DLPack or `__array__`; lists, frames of
    pandas, polars and pyarrow with features as columns, and sparse arrays of SciPy work as well.

    Pixels are images (samples, rows, columns), and rows that `pixels` or `image_shape` says to be images; one channel
    may be an axis of its own. Whole numbers in [0, 255] become uint8, of which the network scales the largest of the
    training rows, or 255 if that is above 127, to 1; numbers in [0, 1] are taken as scaled already.

    All other rows are tables. Numbers are standardized by the training rows. In frames, texts become categories, a
    missing number becomes the column's median and a flag, and columns that identify rows are left out. The network
    does this: the data set and the rows of a prediction have the numbers as they came.

    Sparse rows stay sparse, in csr format, and are taken as they are: standardized, they would have no zeros. Scale
    columns that differ much before, as `sklearn.preprocessing.MaxAbsScaler` does.

    Memory-mapped images, such as `np.load("images.npy", mmap_mode="r")`, stay in their file if they are uint8, float32
    or float64 in C order, and may exceed memory: uint8 as pixels, others as the features as they are. They are not
    shuffled before the split: the last rows are held out, so the file must not be sorted by class.

    Args:
        images: (samples, columns), or (samples, rows, columns), also with one channel behind the samples or at the end.
        labels: (samples,), integers, strings or other hashable values, numbered in sorted order; with `class_names`,
            integers in [0, num_classes). Categorical labels of pandas and polars' `Enum` are numbered by category,
            including unused ones. For regression numbers, (samples,) or (samples, outputs).
        test_images: like `images`; without it, rows are held out by `test_fraction`, `seed` and `stratify`.
        test_labels: like `labels`.
        test_fraction: fraction of rows to hold out, in (0, 1); None for none.
        seed: seed of the split.
        stratify: whether to preserve class proportions in the split.
        name: name of the data set.
        class_names: name of each class; None for the sorted distinct labels.
        regression: whether labels are numbers to predict; None: if one of them has a fraction.
        inputs: inputs of a trained network, `net.inputs`, by which rows and labels are read; None to learn them.
        reading: `pixels`, `image_shape`, `standardize`, `drop`, `categorical` and `id_column`, see `Reading`.

    Raises:
        DataError: dimensions, lengths, dtypes, values or labels are invalid.
        ConfigError: only one of `test_images` and `test_labels` is given, `class_names` is not a sequence, or the
            options of the split or the reading are invalid.
    """
    if (test_images is None) != (test_labels is None):
        missing = "test_labels" if test_labels is None else "test_images"
        raise ConfigError(f"test_images and test_labels belong together, got no {missing}: pass both or none")
    for option in reading:
        look_up("option of nn.from_arrays", option, {each.name: each for each in fields(Reading)})
    how = Reading(**reading)
    whats = ["images"] if test_images is None else ["images", "test_images"]
    given = [images] if test_images is None else [images, test_images]
    given_labels = [labels] if test_labels is None else [labels, test_labels]
    rows = read_rows(given, whats, how, inputs)
    numbers, names = _labels(given_labels, whats, rows.counts, class_names, regression, inputs)
    places: list[Places] = [slice(0, count) for count in rows.counts]
    if len(given) == 1 and test_fraction is None:
        places.append(slice(0, 0))
    elif len(given) == 1 and test_fraction is not None and rows.is_mapped:
        places = list(last_places(numbers[0], test_fraction=test_fraction, stratify=stratify))
    elif len(given) == 1 and test_fraction is not None:
        places = list(split_places(numbers[0], test_fraction=test_fraction, seed=seed, stratify=stratify, names=names))
    parts = list(zip((0, len(given) - 1), places, strict=True))
    raw = [rows.take(k, at) for k, at in parts]
    origins = [Origin(range(rows.counts[k])).take(at) for k, at in parts]
    notes: tuple[str, ...] = ()
    splits = []
    try:
        if inputs is None:
            target = None if names else Target.learn(numbers[0][places[0]])
            with origins[0].located():
                inputs = replace(rows.learn(raw[0]), class_names=names, target=target)
            notes = classes_note(names) if regression is None and isinstance(inputs, Table) else ()
        for part, (k, at), origin in zip(raw, parts, origins, strict=True):
            with origin.located():
                facts = rows.facts(part, inputs)
                if len(numbers[k][at]):
                    inputs.check(facts.rows, facts, "float64")
            splits.append(Split(facts.rows, numbers[k][at], inputs=inputs, facts=facts, origin=origin))
    except DataError:
        rows.refuse(inputs)
        raise
    train, test = splits
    return Dataset(name, train, test, inputs, (*notes, *rows.notes))


def _labels(
    given: list[Any],
    whats: list[str],
    counts: list[int],
    class_names: Sequence[str] | None,
    regression: bool | None,
    inputs: Inputs | None,
) -> tuple[list[npt.NDArray[Any]], tuple[str, ...]]:
    """Return the labels of each part, and the names of the classes; none for regression."""
    whats = [what.replace("images", "labels") for what in whats]
    given = [only_column(each) for each in given]
    is_chosen = regression is not None
    if regression is None:
        is_trained = inputs is not None and bool(inputs.class_names or inputs.target)
        regression = inputs.target is not None if is_trained and inputs else any(map(_has_fraction, given, whats))
    sized = list(zip(given, counts, whats, strict=True))
    if regression:
        return [check_targets(each, rows=count, what=what) for each, count, what in sized], ()
    known = () if inputs is None else inputs.class_names
    if class_names is None and not known and (coded := categorical_codes(given, whats=whats)):
        sized, class_names = list(zip(coded[0], counts, whats, strict=True)), coded[1]
    checked = [check_labels(each, rows=count, what=what) for each, count, what in sized]
    if known:
        return [labels_by_name(each, known, what) for each, what in zip(checked, whats, strict=True)], known
    encoded, names = encode_labels(checked, whats=whats, class_names=class_names)
    if not is_chosen and len(names) > MANY_CLASSES and are_measurements(checked[0]):
        LOGGER.warning(
            "labels are taken as %d classes: pass regression=True if they are numbers to predict, on the command line "
            "--loss squared_error",
            len(names),
        )
    return encoded, names


def _has_fraction(labels: Any, what: str) -> bool:
    """Return whether labels are floating numbers of which one has a fraction."""
    values = host_array(labels, what=what, fix="pass one label a row")
    is_floating = values.dtype.kind == "f" and bool(np.isfinite(values).all())
    return is_floating and not bool((np.floor(values) == values).all())


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
        return with_files_named(arrays, partial(from_arrays, **named, **options))
    except DataError as error:
        raise DataError(f"{place}: {error}") from error

"""Encoding of class labels of any kind as integers from 0 and class names."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import ConfigError, DataError
from ..files.text import UNPRINTABLE
from ..inputs.arguments import refuse_not_finite
from ..inputs.arrays import host_array
from ..inputs.frames import only_column

FOR_NUMBERS = "classes are needed, not measurements; those take regression=True"
FEW_CLASSES, MANY_CLASSES, ROWS_PER_CLASS = 10, 100, 20  # see `are_measurements`
SILENT_CLASSES = 5  # up to which numbers are most likely numbers of classes


def check_labels(labels: Any, *, rows: int, what: str = "labels") -> npt.NDArray[Any]:
    """Check labels of one split.

    Args:
        labels: (samples,), integers, booleans, strings, or hashable objects; of any library.
        rows: number of samples.
        what: name in messages.

    Returns:
        (samples,), as int64, bool, str or object.

    Raises:
        DataError: wrong dimensions or length, or a missing or invalid label.
    """
    values = host_array(only_column(labels), what=what, fix="pass one label a row")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # (samples,)
    if values.ndim != 1:
        fix = f"pass {what}.ravel()"
        if values.ndim == 2 and values.shape[1] > 1:
            fix = (
                f"pass {what}.argmax(axis=1) if they are one-hot; for several labels a row, nn.Split(images, {what}) "
                'and nn.MLP(..., loss="sigmoid_cross_entropy")'
            )
        raise DataError(f"{what} must have one dimension (samples,), got shape {values.shape}: {fix}")
    if len(values) != rows:
        raise DataError(f"{what} must be as many as the images, got {len(values)} for {rows} images: check both files")
    if values.dtype.kind == "f":
        return _whole_numbers(values, what)
    if values.dtype.kind in "iu":
        numbers = values.astype(np.int64)  # (samples,)
        _refuse_first(values != numbers, values, what, "must fit into 64 bits: number the classes from 0")
        return numbers
    if values.dtype.kind == "S":
        values = _decoded(values, what)  # (samples,)
    if values.dtype.kind == "U":
        _refuse_first(_no_text(values), np.full(rows, "a number"), what, "must be text in each character")
        _refuse_first(values == "", values, what, "must not be empty: fill or drop the row")
    elif values.dtype.kind == "O":
        _refuse_first(
            np.array([not _is_label(value) for value in values]), values, what, "must be hashable and present"
        )
    elif values.dtype.kind != "b":
        raise DataError(f"{what} must be whole numbers or strings, got {values.dtype}: convert with {what}.astype(str)")
    return values


def encode_labels(
    parts: Sequence[npt.NDArray[Any]], *, whats: Sequence[str], class_names: Sequence[str] | None = None
) -> tuple[list[npt.NDArray[np.int64]], tuple[str, ...]]:
    """Encode the labels of several splits together.

    Args:
        parts: each (samples,), from `check_labels`.
        whats: name of each part in messages.
        class_names: names of classes 0, 1, ...; None for the sorted distinct labels.

    Returns:
        Each part as int64 in [0, num_classes), and one name per class.

    Raises:
        DataError: the parts differ in kind, a label is out of range, or class names are not distinct plain text.
        ConfigError: `class_names` is not a sequence.
    """
    if len({part.dtype.kind for part in parts}) > 1:
        kinds = ", ".join(f"{what} {part.dtype}" for what, part in zip(whats, parts, strict=True))
        raise DataError(f"all labels must be of one kind, got {kinds}: convert them with astype(str)")
    if class_names is not None:
        if isinstance(class_names, Set | Mapping):
            raise ConfigError(f"class_names must be in order, got a {type(class_names).__name__}: pass a list")
        try:
            names = tuple(_text(name) for name in class_names)
        except TypeError as error:
            raise ConfigError(
                f"class_names must be a sequence of names, got {type(class_names).__name__}: pass a list"
            ) from error
        encoded = [_in_range(part, len(names), what) for part, what in zip(parts, whats, strict=True)]
    elif parts[0].dtype.kind == "O":
        distinct = _sorted_objects(set(chain.from_iterable(parts)))
        names = tuple(_text(value) for value in distinct)
        number = {value: index for index, value in enumerate(distinct)}
        encoded = [np.array([number[value] for value in part], dtype=np.int64) for part in parts]
    else:
        values, encoded = _numbered(parts)
        names = tuple(str(value) for value in values)
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"class names must differ, got {name!r:.80} twice: rename one of the classes")
        if UNPRINTABLE.search(name):
            raise DataError(f"class names must be plain text in one line, got {name!a:.80}: rename the class")
    return encoded, names


def labels_by_name(values: npt.NDArray[Any], names: Sequence[str], what: str) -> npt.NDArray[np.int64]:
    """Return the classes of labels, (samples,), by their names, as a network numbers them.

    Args:
        values: (samples,), from `check_labels`.
        names: name of each class.
        what: name in messages.

    Raises:
        DataError: a label is no class.
    """
    number = {name: k for k, name in enumerate(names)}
    distinct, places = np.unique(values.astype(str) if values.dtype.kind in "Ob" else values, return_inverse=True)
    classes = np.array([number.get(_text(value), -1) for value in distinct.tolist()], dtype=np.int64)  # (distinct,)
    labels: npt.NDArray[np.int64] = classes[places.reshape(-1)]  # (samples,)
    if (wrong := labels < 0).any():
        row = int(wrong.argmax())
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError(
            f"{what} must be among the classes of the network, {shown:.200}, got {_shown(values[row])!r} at row {row}: "
            "correct the label or drop the row"
        )
    return labels


def check_targets(labels: Any, *, rows: int, what: str = "labels") -> npt.NDArray[np.float64]:
    """Check the numbers that a regression predicts.

    Args:
        labels: (samples,) or (samples, outputs), of any library.
        rows: number of samples.
        what: name in messages.

    Returns:
        (samples, outputs).

    Raises:
        DataError: they are not finite numbers, or not as many as the rows.
    """
    values = host_array(only_column(labels), what=what, fix="pass one number a row")
    if values.dtype.kind not in "buif" or values.ndim not in (1, 2):
        raise DataError(
            f"{what} must be numbers, (samples,) or (samples, outputs), for a regression, got {values.dtype} of shape "
            f"{values.shape}: for classes leave out regression=True"
        )
    if len(values) != rows:
        raise DataError(f"{what} must be as many as the images, got {len(values)} for {rows} images: check both files")
    numbers = values.reshape(rows, -1).astype(np.float64)  # (samples, outputs)
    refuse_not_finite(numbers, "float32", what=what)
    return numbers


def are_measurements(labels: npt.NDArray[Any]) -> bool:
    """Return whether labels, (samples,), are numbers to predict rather than classes.

    They are if one has a fraction, or if they are many: more than 10 that have fewer than 20 rows each, or more than
    100.
    """
    if labels.dtype.kind not in "uif" or not len(labels):
        return False
    if labels.dtype.kind == "f" and not (np.floor(labels) == labels).all():
        return True
    distinct = len(np.unique(labels))
    return distinct > MANY_CLASSES or (distinct > FEW_CLASSES and len(labels) < ROWS_PER_CLASS * distinct)


def classes_note(names: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence on classes whose names are many numbers; of still more `from_arrays` warns."""
    if not SILENT_CLASSES < len(names) <= MANY_CLASSES or not all(name.lstrip("-").isdecimal() for name in names):
        return ()
    return (
        f"labels are {len(names)} different whole numbers, taken as classes: --loss squared_error or poisson to "
        "predict numbers",
    )


def _numbered(parts: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], list[npt.NDArray[np.int64]]]:
    """Return the sorted distinct labels, (num_classes,), and the labels of each part as indices, (samples,)."""
    labels = np.concatenate(parts)  # (all samples,)
    if labels.dtype.kind == "i" and int(labels.max()) - (least := int(labels.min())) < len(labels):
        is_class = np.bincount(labels - least) > 0  # (span,); a table is several times faster than a search
        numbers = np.cumsum(is_class) - 1  # (span,)
        return np.flatnonzero(is_class) + least, [numbers[part - least] for part in parts]
    values = np.unique(labels)
    return values, [np.searchsorted(values, part).astype(np.int64) for part in parts]


def _text(label: object) -> str:
    try:
        return str(label)
    except Exception as error:  # an object or a huge number that cannot be written
        raise DataError(f"labels must have a name, got a {type(label).__name__} without ({error!s:.200})") from error


def _decoded(values: npt.NDArray[np.bytes_], what: str) -> npt.NDArray[np.str_]:
    """Decode labels from UTF-8, rejecting invalid ones, which would become equal."""
    try:
        return np.char.decode(values, "utf-8")  # (samples,)
    except UnicodeDecodeError as error:
        row = int((values == error.object).argmax())
        raise DataError(f"{what} must be in UTF-8, got {values[row]!s:.80} at row {row}: decode them") from error


def _no_text(values: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """Mask of rows with invalid code points, which Python cannot convert to a string, (samples,)."""
    codes = np.ascontiguousarray(values).view(np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
    wrong: npt.NDArray[np.bool_] = np.any(codes.reshape(len(values), -1) > sys.maxunicode, axis=1)
    return wrong


def _whole_numbers(values: npt.NDArray[Any], what: str) -> npt.NDArray[np.int64]:
    """Convert integral floats to class numbers; beyond 2**53 neighbours would become equal."""
    with np.errstate(invalid="ignore"):
        is_class = (np.abs(values) <= 2**53) & (np.floor(values) == values)  # (samples,), false for NaN
    _refuse_first(~is_class, values, what, f"must be whole numbers or strings: {FOR_NUMBERS}")
    return values.astype(np.int64)


def _in_range(part: npt.NDArray[Any], num_classes: int, what: str) -> npt.NDArray[np.int64]:
    if part.dtype.kind not in "ib":
        raise DataError(f"{what} must be class numbers where class_names are given, got {part.dtype}: number them")
    numbers = part.astype(np.int64)  # (samples,)
    outside = (numbers < 0) | (numbers >= num_classes)
    _refuse_first(outside, numbers, what, f"must be in [0, {num_classes})")
    return numbers


def _refuse_first(wrong: npt.NDArray[np.bool_], values: npt.NDArray[Any], what: str, rule: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        rule, _, fix = rule.partition(": ")
        fix = fix or "correct or drop the row"
        raise DataError(f"{what} {rule}, got {_shown(values[row])} at row {row}: {fix}")


def _shown(value: object) -> str:
    try:
        return f"{value!s:.80}"
    except Exception:  # an object or a huge number that cannot be written
        return f"a {type(value).__name__}"


def _is_label(value: object) -> bool:
    try:
        hash(value)
        return value is not None and bool(value == value)  # NaN differs from itself, pandas' NA has no answer
    except Exception:  # objects raise what they like
        return False


def _sorted_objects(values: set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except Exception:  # kinds that do not compare, such as 1 and "a"
        return sorted(values, key=lambda value: (type(value).__name__, _shown(value)))

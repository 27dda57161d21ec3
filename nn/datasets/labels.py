"""Class labels of any kind, turned into numbers from 0 and the names that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError


def check_labels(labels: npt.ArrayLike, *, rows: int, what: str = "labels") -> npt.NDArray[Any]:
    """Check one row of labels by itself.

    Args:
        labels: (samples,), whole numbers, booleans, strings, or any hashable objects.
        rows: number of samples that they belong to.
        what: how messages call them.

    Returns:
        (samples,), as int64, bool, str or object.

    Raises:
        DataError: wrong dimensions or length, a missing label, or one that is no class.
    """
    try:
        values = np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} cannot become a NumPy array ({error}): pass one label a row") from error
    if values.ndim != 1:
        mend = f"pass {what}.ravel()"
        if values.ndim == 2 and values.shape[1] > 1:
            mend = f"pass {what}.argmax(axis=1) if they are one-hot"
        raise DataError(f"{what} must have one dimension (samples,), got shape {values.shape}: {mend}")
    if len(values) != rows:
        raise DataError(f"{what} must be as many as the images, got {len(values)} for {rows} images: check both files")
    if values.dtype.kind == "f":
        return _whole_numbers(values, what)
    if values.dtype.kind in "iu":
        numbers = values.astype(np.int64)  # (samples,)
        _refuse_first(values != numbers, values, what, "must fit into 64 bits: number the classes from 0")
        return numbers
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")  # (samples,)
    if values.dtype.kind == "U":
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
    """Number the classes of several checked parts together.

    Args:
        parts: each (samples,), from `check_labels`.
        whats: how messages call each part.
        class_names: the names of classes 0, 1, ...; None takes the sorted distinct labels.

    Returns:
        Each part as int64 in [0, num_classes), and one name a class.

    Raises:
        DataError: the parts differ in kind, a label is out of range, or two classes share a name.
    """
    if len({part.dtype.kind for part in parts}) > 1:
        kinds = ", ".join(f"{what} {part.dtype}" for what, part in zip(whats, parts, strict=True))
        raise DataError(f"all labels must be of one kind, got {kinds}: convert them with astype(str)")
    if class_names is not None:
        names = tuple(str(name) for name in class_names)
        encoded = [_in_range(part, len(names), what) for part, what in zip(parts, whats, strict=True)]
    elif parts[0].dtype.kind == "O":
        distinct = _sorted_objects(set(chain.from_iterable(parts)))
        names = tuple(str(value) for value in distinct)
        number = {value: index for index, value in enumerate(distinct)}
        encoded = [np.array([number[value] for value in part], dtype=np.int64) for part in parts]
    else:
        values = np.unique(np.concatenate(parts))  # (num_classes,)
        names = tuple(str(value) for value in values)
        encoded = [np.searchsorted(values, part).astype(np.int64) for part in parts]
    if len(set(names)) < len(names):
        shared = next(name for name in names if names.count(name) > 1)
        raise DataError(f"class names must differ, got {shared!r} twice: rename one of the classes")
    return encoded, names


def _whole_numbers(values: npt.NDArray[Any], what: str) -> npt.NDArray[np.int64]:
    """Take whole floats as class numbers; beyond 2**53 neighbours would fall together."""
    with np.errstate(invalid="ignore"):
        is_class = (np.abs(values) <= 2**53) & (np.floor(values) == values)  # (samples,), false for NaN
    _refuse_first(~is_class, values, what, "must be whole numbers or strings: classes are needed, not measurements")
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
        rule, _, mend = rule.partition(": ")
        mend = mend or "correct or drop the row"
        raise DataError(f"{what} {rule}, got {values[row]!s:.80} at row {row}: {mend}")


def _is_label(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return value is not None and value == value  # only NaN differs from itself


def _sorted_objects(values: set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # kinds that do not compare, such as 1 and "a"
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))

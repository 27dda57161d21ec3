"""Rows as they are given, as arrays or frames, and what training rows say of their meaning."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...backends.errors import ConfigError, DataError
from ...backends.machine import memory_bytes
from ...backends.mapped import is_mapped
from ...backends.override import override
from ...backends.sparse_rows import dense, is_sparse
from ..inputs.arguments import refuse_not_finite
from ..inputs.arrays import host_array, shape_of_images
from ..inputs.facts import NO_FACTS, RowFacts
from ..inputs.frames import as_table, frame_values, with_text_names
from ..inputs.inputs import BYTE, Inputs, Numbers, Pixels, first_fraction, largest_pixel
from ..inputs.table import Table, table_of_numbers
from ..inputs.table_columns import cells_of, choose_columns, learn_table
from .split import Places

if TYPE_CHECKING:
    from ..inputs.frames import Frame

MIN_SQUARE = 16  # fewer features are no picture, even where their number is a square
PIXEL_COLUMN = re.compile(r"pixel[ _.]?\d+|\d+x\d+", re.IGNORECASE)
EXACT = 2  # bytes of the widest integers that float32 holds exactly
FLOAT32_WHOLE = 2**24  # up to which float32 holds all whole numbers


@dataclass(frozen=True)
class Reading:
    """Reading of rows as pixels or as a table.

    Attributes:
        pixels: whether the numbers are pixels; None: if images have three dimensions or `image_shape` is given, or if
            the columns of a frame are called `pixel0`, `pixel1`, ... or `1x1`, `1x2`, ...
        image_shape: (rows, columns) of an image; None for that of the images, or a square.
        standardize: whether to standardize numbers that are not pixels.
        drop: columns of a frame to leave out.
        categorical: columns of a frame that are categories, such as numbers of a code.
        id_column: column of a frame that identifies the rows; None to find it, "none" if there is none.
        label: name of the label's column.
    """

    pixels: bool | None = None
    image_shape: tuple[int, int] | None = None
    standardize: bool = True
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    id_column: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        for name in ("drop", "categorical"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))


class RawRows(ABC):
    """Rows of one or two parts as they are given.

    Attributes:
        counts: rows of each part.
        is_mapped: whether they are memory-mapped.
        notes: how they are read, a sentence each.
    """

    counts: list[int]
    is_mapped: bool = False
    notes: tuple[str, ...] = ()

    @abstractmethod
    def take(self, k: int, places: Places) -> Any:
        """Return rows of part k."""

    @abstractmethod
    def learn(self, part: Any) -> Inputs:
        """Return the meaning of the rows, learned from the training rows."""

    @abstractmethod
    def facts(self, part: Any, inputs: Inputs) -> RowFacts:
        """Return the rows of a part, (rows, columns), in the meaning of `inputs`."""

    def refuse(self, inputs: Inputs | None) -> None:  # noqa: B027 - columns with names say more than their part
        """Raise the error of a number that is not finite, with the name of its part, if columns have no names."""


class FrameRows(RawRows):
    """Rows of frames, whose columns have names."""

    def __init__(self, frames: list[Frame], how: Reading, inputs: Inputs | None) -> None:
        self._frames, self._how = frames, how
        self._cells: list[npt.NDArray[np.float64]] = []  # by the inputs of a trained network
        self.counts = [len(frame) for frame in frames]
        self._learned: tuple[Frame | None, RowFacts] = (None, NO_FACTS)  # training rows and their cells
        if inputs is None:
            self._chosen = choose_columns(
                frames[0], drop=how.drop, categorical=how.categorical, id_column=how.id_column
            )
            self.notes = self._chosen.words
            return
        assert isinstance(inputs, Table)  # see `read_rows`
        self._cells = [cells_of(frame, inputs) for frame in frames]  # each (rows, columns)
        for cells in self._cells:
            inputs.check(cells, RowFacts(cells), "float64")

    @override
    def take(self, k: int, places: Places) -> Frame | RowFacts:
        if self._cells:
            return RowFacts(self._cells[k][places])
        frame = self._frames[k]
        return frame[places.start : places.stop] if isinstance(places, slice) else frame[places.tolist()]

    @override
    def learn(self, part: Frame) -> Inputs:
        table, cells = learn_table(part, self._chosen, label=self._how.label)
        self._learned = part, RowFacts(cells)
        return table

    @override
    def facts(self, part: Frame | RowFacts, inputs: Inputs) -> RowFacts:
        if isinstance(part, RowFacts):
            return part
        assert isinstance(inputs, Table)  # of `learn`
        return self._learned[1] if part is self._learned[0] else RowFacts(cells_of(part, inputs))


class ArrayRows(RawRows):
    """Rows of arrays, flattened to (samples, columns) of one dtype."""

    def __init__(self, arrays: list[npt.NDArray[Any]], whats: list[str], how: Reading) -> None:
        self.counts = [array.shape[0] for array in arrays]
        self.is_mapped = is_mapped(arrays[0])
        self._how, self._whats, self._shape = how, whats, how.image_shape
        if arrays[0].ndim == 3 and self._shape is None:
            self._shape = int(arrays[0].shape[1]), int(arrays[0].shape[2])
        flat = [array.reshape(array.shape[0], math.prod(array.shape[1:])) for array in arrays]
        self._pixels = _pixel_kind(flat, whats, how.pixels) if self._may_be_pixels(flat[0].dtype) else None
        dtype = _table_dtype(flat) if self._pixels is None else self._pixels.dtype
        self._flat = [_converted(array, dtype, what) for array, what in zip(flat, whats, strict=True)]

    def _may_be_pixels(self, dtype: np.dtype[Any]) -> bool:
        """Return what `Reading.pixels` says, or if it is None, what the dimensions and the file do."""
        if self._how.pixels is not None:
            return self._how.pixels
        return self._shape is not None or (self.is_mapped and dtype == np.uint8)

    @override
    def take(self, k: int, places: Places) -> RowFacts:
        return RowFacts(self._flat[k][places])

    @override
    def learn(self, part: RowFacts) -> Inputs:
        count = int(part.rows.shape[1])
        if self._pixels is not None:
            largest = self._pixels.largest or largest_pixel(int(part.range[1]))
            return Pixels(count=count, largest=largest, shape=self._shape or _square(count))
        is_raw = self.is_mapped or is_sparse(part.rows) or not self._how.standardize
        if is_raw or self._shape is not None:
            if is_sparse(part.rows):
                self.notes = ("sparse rows are taken as they are: standardized, they would have no zeros",)
            return Numbers(count=count)
        return table_of_numbers(part.rows)

    @override
    def facts(self, part: RowFacts, inputs: Inputs) -> RowFacts:
        return part if inputs.TAKES_SPARSE else RowFacts(dense(part.rows, what="images"))

    @override
    def refuse(self, inputs: Inputs | None) -> None:
        if isinstance(inputs, Table) and inputs.is_named:  # whose values may be missing
            return
        for rows, what in zip(self._flat, self._whats, strict=True):
            refuse_not_finite(rows, None if isinstance(inputs, Numbers | Pixels) else "float32", what=what)


class PixelKind(NamedTuple):
    """Dtype of pixels, and the one of full intensity; None for that of the training rows."""

    dtype: np.dtype[Any]
    largest: float | None = None


def _pixel_kind(arrays: list[npt.NDArray[Any]], whats: list[str], is_said: bool | None) -> PixelKind | None:
    """Return the kind of pixels; None if some are below 0, or above 1 and not whole.

    Args:
        arrays: each (samples, columns).
        whats: name of each in messages.
        is_said: whether the caller says that they are pixels.

    Raises:
        DataError: they are none, and the caller says so.
    """
    if all(array.dtype == np.uint8 for array in arrays):
        return PixelKind(np.dtype(np.uint8))
    ranges = [RowFacts(array).range for array in arrays]
    least, most = (end(each[k] for each in ranges) for k, end in enumerate((min, max)))
    if least >= 0 and most <= 1 and any(array.dtype.kind == "f" for array in arrays):
        return PixelKind(_table_dtype(arrays), float(BYTE))  # scaled already
    if least >= 0 and np.isfinite(most) and all(first_fraction(array) is None for array in arrays):
        if most <= BYTE:
            return PixelKind(np.dtype(np.uint8))
        return PixelKind(np.dtype(np.float32 if most <= FLOAT32_WHOLE else np.float64), float(most))
    if is_said:
        for array, what in zip(arrays, whats, strict=True):
            refuse_not_finite(array, what=what)
        raise DataError(
            f"pixels must be whole numbers >= 0, or scaled to [0, 1], got numbers from {least:g} to {most:g}: scale "
            "them, or leave out pixels=True"
        )
    return None


def read_rows(given: Sequence[Any], whats: list[str], how: Reading, inputs: Inputs | None) -> RawRows:
    """Read rows of any library.

    Args:
        given: the rows of each part.
        whats: name of each part in messages.
        how: their reading.
        inputs: inputs of a trained network, or None.

    Raises:
        DataError: they have the wrong dimensions, or are no numbers.
        ConfigError: options of frames are given for arrays.
    """
    frames = [frame for each in given if (frame := as_table(each)) is not None]
    if len(frames) == len(given):
        is_table = isinstance(inputs, Table) and inputs.is_named if inputs else not _holds_pixels(frames[0], how)
        if is_table:
            _refuse_empty_frames(frames, whats)
            return FrameRows([with_text_names(frame) for frame in frames], how, inputs)
        if how.pixels is None and inputs is None:
            how = replace(how, pixels=True)
        given = [frame_values(frame, what=what) for frame, what in zip(frames, whats, strict=True)]
    elif options := [name for name in ("drop", "categorical", "id_column") if getattr(how, name)]:
        raise ConfigError(f"{options[0]} names columns of a frame, got an array without names: pass a frame")
    arrays = [_check_images(each, what) for each, what in zip(given, whats, strict=True)]
    if arrays[0].shape[1:] != arrays[-1].shape[1:]:
        raise DataError(
            f"images and test_images must have the same features, got shapes {arrays[0].shape} and "
            f"{arrays[-1].shape}: cut or pad them alike"
        )
    width = math.prod(arrays[0].shape[1:])
    if inputs is not None and inputs.width not in (None, width):
        raise DataError(
            f"the rows must have {inputs.width} columns as those of the training, got {width}: pass the same columns "
            "in the same order"
        )
    return ArrayRows(arrays, whats, how)


def _holds_pixels(frame: Any, how: Reading) -> bool:
    """Return whether a frame has pixels, by what is said of it or by the names of its columns."""
    if how.pixels is not None:
        return how.pixels
    names = [str(name).strip() for name in frame.columns]
    return how.image_shape is not None or (
        len(names) >= MIN_SQUARE and all(PIXEL_COLUMN.fullmatch(name) for name in names)
    )


def _refuse_empty_frames(frames: list[Any], whats: list[str]) -> None:
    for frame, what in zip(frames, whats, strict=True):
        if not len(frame) or not frame.columns:
            raise DataError(f"{what} must hold at least one row and one column, got {frame.shape}: check the file")


def _check_images(given: Any, what: str) -> npt.NDArray[Any]:
    values = host_array(given, what=what, fix="pass equal rows of numbers", keep_sparse=True)
    values = values.reshape(shape_of_images(values, what=what))
    if values.ndim not in (2, 3):
        raise DataError(
            f"{what} must be (samples, features) or (samples, rows, columns), got shape {values.shape}: "
            f"pass {what}.reshape(len({what}), -1)"
        )
    if math.prod(values.shape) == 0:
        raise DataError(f"{what} must hold at least one row and one feature, got shape {values.shape}: check the file")
    if values.dtype.kind not in "buif":
        raise DataError(f"{what} must be real numbers, got {values.dtype}: convert with {what}.astype('float32')")
    return values


def _table_dtype(arrays: list[npt.NDArray[Any]]) -> np.dtype[Any]:
    """Return the dtype that holds the numbers of a table: uint8, float32 or float64."""
    dtypes = [array.dtype for array in arrays]
    if all(dtype == np.uint8 for dtype in dtypes):
        return np.dtype(np.uint8)
    is_exact = [
        dtype.itemsize <= EXACT if dtype.kind in "iub" else dtype.itemsize <= np.dtype(np.float32).itemsize
        for dtype in dtypes
    ]
    return np.dtype(np.float32 if all(is_exact) else np.float64)


def _square(count: int) -> tuple[int, int] | None:
    """Return the shape of square images of `count` pixels."""
    side = math.isqrt(count)
    return (side, side) if count >= MIN_SQUARE and side * side == count else None


def _converted(array: npt.NDArray[Any], dtype: np.dtype[Any], what: str) -> npt.NDArray[Any]:
    """Return an array, (samples, columns), in C order and another dtype."""
    if is_sparse(array):
        return array.astype(dtype, copy=False)
    _refuse_too_large(array, dtype, what)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused later
        return np.ascontiguousarray(array, dtype=dtype)


def _refuse_too_large(part: npt.NDArray[Any], dtype: np.dtype[Any], what: str) -> None:
    """Reject memory-mapped rows whose conversion to another dtype or order would not fit into memory."""
    needed = part.size * dtype.itemsize
    if not (part.flags.c_contiguous and part.dtype == dtype) and is_mapped(part) and needed > memory_bytes() / 2:
        raise DataError(
            f"{what} are mapped from a file as {part.dtype} and would take {needed / 2**30:,.1f} GiB of memory as "
            f"{dtype}: write the file as uint8, float32 or float64 in C order, of which nothing is copied"
        )

"""Inputs of a network: the meaning of the numbers in its rows, and of its outputs.

A network keeps its inputs in model files and exports, so that the same number gives the same answer in whatever array
it comes. `table` has the third kind, the columns of a table.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ...backends.constraints import is_finite_number, is_whole
from ...backends.errors import ConfigError, DataError
from ...backends.override import override
from ...backends.sparse_rows import cell_of
from ..files.text import is_plain
from .arguments import refuse_not_finite, row_blocks
from .facts import RowFacts

BYTE = 255  # largest 8-bit pixel
FAR = 2  # times the largest pixel of the training rows: beyond, rows are on another scale


@dataclass(frozen=True)
class Target:
    """Standardization of regression labels: a network predicts `(label - mean) / std`.

    Attributes:
        mean: mean of each output's training labels, (outputs,); 0 for the loss "poisson".
        std: their standard deviation, (outputs,), 1 for a constant; their mean for the loss "poisson".
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def learn(cls, labels: npt.NDArray[Any]) -> Target:
        """Return the standardization of training labels, (samples, outputs)."""
        mean, std = moments(labels)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def unshifted(self) -> Target:
        """Return the scaling by the mean alone, under which labels of at least 0 stay so."""
        return Target((0.0,) * len(self.mean), tuple(mean if mean > 0 else 1.0 for mean in self.mean))

    def standardized(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return standardized labels, (samples, outputs)."""
        scaled: npt.NDArray[Any] = (labels - np.array(self.mean)) / np.array(self.std)
        return scaled

    def in_units(self, xp: Any, outputs: Any) -> Any:
        """Return outputs, (samples, outputs), in the labels' units."""
        std, mean = (xp.asarray(each, dtype=outputs.dtype) for each in (self.std, self.mean))  # (outputs,) each
        return outputs * std + mean


@dataclass(frozen=True, kw_only=True)
class Inputs(ABC):
    """Meaning of a network's rows and outputs.

    Attributes:
        class_names: name of each class; empty without names.
        target: standardization of regression labels, or None.
        TAKES_SPARSE: whether `check` and `features` take rows in csr format.
    """

    KIND: ClassVar[str]
    TAKES_SPARSE: ClassVar[bool] = True

    class_names: tuple[str, ...] = ()
    target: Target | None = None

    @property
    def scale(self) -> float:
        """Factor of integers in the first layer."""
        return 1.0

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Rows and columns of an image, or None."""
        return None

    @property
    @abstractmethod
    def width(self) -> int | None:
        """Numbers in a row; None for any."""

    @property
    def num_features(self) -> int | None:
        """Features that a row has in the network; None for any."""
        return self.width

    def of_width(self, width: int) -> Inputs:  # noqa: ARG002
        """Return the inputs for rows of `width` numbers, if they do not know it yet."""
        return self

    @abstractmethod
    def check(self, rows: npt.NDArray[Any], facts: RowFacts, dtype: str) -> None:
        """Check the numbers of rows, (samples, width).

        Raises:
            DataError: a number has no meaning, or is not finite in `dtype`.
        """

    def features(self, rows: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
        """Return the features, (samples, features), of checked rows: floating, or uint8 that are yet to be scaled."""
        return rows if rows.dtype.kind == "f" else rows.astype(dtype)

    @abstractmethod
    def describe(self) -> str:
        """Describe the reading of the rows in a line."""

    def settings(self) -> dict[str, Any]:
        """Return the attributes as JSON, with the kind; see `inputs_from_json`."""
        target = None if self.target is None else {"mean": list(self.target.mean), "std": list(self.target.std)}
        return {"kind": self.KIND, "class_names": list(self.class_names), "target": target}

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return inputs from the attributes of their own kind.

        Raises:
            KeyError, TypeError, ValueError: they are invalid.
        """


@dataclass(frozen=True, kw_only=True)
class Counted(Inputs):
    """Rows without names of columns.

    Attributes:
        count: numbers in a row; None for any.
    """

    count: int | None = None

    @property
    @override
    def width(self) -> int | None:
        return self.count

    @override
    def of_width(self, width: int) -> Inputs:
        return self if self.count is not None else replace(self, count=width)

    @override
    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "count": self.count}

    @classmethod
    @override
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        count = settings["count"]
        if not (count is None or is_whole(count, least=1)):
            raise ValueError(f"count must be a whole number >= 1, got {count!r:.80}")
        return cls(count=count)


@dataclass(frozen=True, kw_only=True)
class Numbers(Counted):
    """Rows of numbers that are the features as they are."""

    KIND: ClassVar[str] = "numbers"

    @override
    def check(self, rows: npt.NDArray[Any], facts: RowFacts, dtype: str) -> None:
        if not facts.are_finite_in(dtype):
            refuse_not_finite(rows, dtype)

    @override
    def describe(self) -> str:
        return "numbers, taken as they are"


@dataclass(frozen=True, kw_only=True)
class Pixels(Counted):
    """Pixels of images: whole numbers in [0, `largest`], or numbers in [0, 1] that are scaled already.

    Attributes:
        largest: pixel of full intensity.
        shape: (rows, columns) of an image, or None if unknown.

    Raises:
        ConfigError: an attribute is invalid.
    """

    KIND: ClassVar[str] = "pixels"

    largest: float = BYTE
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not (is_finite_number(self.largest, least=1e-300) and math.isfinite(1 / self.largest)):
            raise ConfigError(f"the largest pixel must be a finite number > 0, got {self.largest!r:.80}")
        sides = self.shape or ()
        if self.shape is not None and not (len(sides) == 2 and all(is_whole(side, least=1) for side in sides)):
            raise ConfigError(f"image_shape must be two whole numbers >= 1, (rows, columns), got {self.shape!r:.80}")
        if self.shape is not None and self.count is not None and math.prod(sides) != self.count:
            raise ConfigError(f"image_shape must have the product {self.count}, the features, got {self.shape}")

    @property
    def takes_bytes(self) -> bool:
        """Whether any byte is a pixel."""
        return self.largest * FAR >= BYTE

    @property
    @override
    def scale(self) -> float:
        return 1 / self.largest

    @property
    @override
    def image_shape(self) -> tuple[int, int] | None:
        return self.shape

    @override
    def check(self, rows: npt.NDArray[Any], facts: RowFacts, dtype: str) -> None:
        # Whole numbers of which one is above 1 are pixels; numbers that are all in [0, 1] are scaled already.
        if (rows.dtype == np.uint8 and self.takes_bytes) or facts.are_within(0, 1):
            return
        if rows.dtype.kind == "f":
            refuse_not_finite(rows, dtype)
        least, most = facts.range
        if least < 0 or most > FAR * self.largest:
            raise DataError(
                f"pixels must be whole numbers in [0, {self.largest:g}], or scaled to [0, 1], got numbers from "
                f"{least:g} to {most:g}: scale them as the images of the training were"
            )
        if (place := first_fraction(rows)) is not None:
            row, column = place
            raise DataError(
                f"pixels must be whole numbers in [0, {self.largest:g}], or all scaled to [0, 1], got "
                f"{rows[row, column]:g} at row {row}, column {column}, and up to {most:g}: scale them by 1/{most:g}"
            )

    @override
    def features(self, rows: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
        if rows.dtype == np.uint8:
            return rows
        if rows.dtype.kind == "b":
            return rows.astype(dtype)  # (samples, features)
        most = RowFacts(rows).range[1] if rows.shape[0] else 0
        if rows.dtype.kind == "f" and most <= 1:
            return rows
        # Of one type, so that the same pixels give the same bits.
        return rows.astype(np.uint8) if most <= BYTE else (rows * np.float64(self.scale)).astype(dtype)

    @override
    def describe(self) -> str:
        shape = "" if self.shape is None else " of {} x {} images".format(*self.shape)
        return f"pixels{shape} from 0 to {self.largest:g}, scaled to [0, 1]"

    @override
    def settings(self) -> dict[str, Any]:
        shape = None if self.shape is None else [int(side) for side in self.shape]
        return {**super().settings(), "largest": float(self.largest), "shape": shape}

    @classmethod
    @override
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        shape = settings["shape"]
        given = super().from_settings(settings)
        return replace(given, largest=settings["largest"], shape=None if shape is None else tuple(shape))


def largest_pixel(most: float) -> float:
    """Return the pixel of full intensity of rows whose largest is `most`: 255 above 127, else that pixel."""
    return most if most > BYTE else BYTE if most > BYTE // 2 else max(most, 1)


def bare_inputs(rows: npt.NDArray[Any], facts: RowFacts) -> Inputs:
    """Return the inputs of rows, (samples, features), of which nothing else is known: uint8 are pixels."""
    count = int(rows.shape[1])
    if rows.dtype == np.uint8:
        return Pixels(count=count, largest=largest_pixel(int(facts.range[1])))
    return Numbers(count=count)


def moments(rows: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation of each column, (columns,) each; a constant column has 1.

    Source: Chan, Golub and LeVeque 1983, equation 2.1, for the combination of blocks.
    """
    count, mean, squares = 0, np.zeros(rows.shape[1]), np.zeros(rows.shape[1])  # (columns,) each
    for _, block in row_blocks(rows):
        values = block.astype(np.float64)  # (block, columns)
        block_mean = values.mean(axis=0)  # (columns,)
        delta, total = block_mean - mean, count + len(values)
        squares += np.square(values - block_mean).sum(axis=0) + delta**2 * (count * len(values) / total)
        mean += delta * (len(values) / total)
        count = total
    std = np.sqrt(squares / max(count, 1))  # (columns,)
    return mean, np.where(std > np.abs(mean) * 1e-13, std, 1.0)  # what is smaller is rounding


def check_names(names: Any, outputs: int) -> tuple[str, ...]:
    """Check class names of a file and return them.

    Raises:
        TypeError, ValueError: they are invalid.
    """
    if names and (len(names) != outputs or len({str(name) for name in names}) != outputs):
        raise ValueError(f"there must be {outputs} different class names, got {names!r:.200}")
    if not all(isinstance(name, str) and is_plain(name) for name in names):
        raise ValueError("class names must be texts without control characters")
    return tuple(names)


def check_target(target: Any, outputs: int) -> Target | None:
    """Check the target of a file and return it.

    Raises:
        KeyError, TypeError, ValueError: it is invalid.
    """
    if target is None:
        return None
    mean, std = (tuple(target[name]) for name in ("mean", "std"))
    if len(mean) != outputs or len(std) != outputs or not all(is_finite_number(x, least=-np.inf) for x in mean + std):
        raise ValueError(f"mean and std of the target must be {outputs} finite numbers each, got {target!r:.200}")
    if min(std) <= 0 or not math.isfinite(1 / min(std)):
        raise ValueError(f"std of the target must be > 0, got {min(std)!r:.80}")
    return Target(mean, std)


def first_fraction(rows: npt.NDArray[Any]) -> tuple[int, int] | None:
    """Return row and column of the first number of (samples, features) that is not whole; None if all are."""
    for start, block in row_blocks(rows) if rows.dtype.kind == "f" else ():
        is_whole_number = np.floor(block) == block  # (block, ...)
        if not is_whole_number.all():
            return cell_of(rows, start * block[0].size + int(is_whole_number.argmin()))
    return None

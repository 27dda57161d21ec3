"""Checks of arguments: Python's and NumPy's numbers are accepted alike, booleans are not numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DataError
from ...backends.constraints import is_whole, shown
from ...backends.sparse_rows import cell_of, numbers_of

BLOCK_BYTES = 2**20  # of rows that are looked at together: what a core's cache holds


def are_whole(numbers: Any, *, least: int) -> bool:
    """Return whether it is a sequence of integers of at least `least`."""
    return isinstance(numbers, Sequence | np.ndarray) and all(is_whole(number, least=least) for number in numbers)


def are_instances(values: Any, kind: type) -> bool:
    """Return whether it is a sequence of instances of a class (not an iterator, which can be consumed only once)."""
    return isinstance(values, Sequence) and all(isinstance(value, kind) for value in values)


def refuse_not_finite(rows: npt.NDArray[Any], dtype: str | None = None, *, what: str = "images") -> None:
    """Check that all numbers are finite, also after conversion.

    Args:
        rows: (samples, features) of any dtype, dense or sparse.
        dtype: dtype of the computation; None for their own.
        what: name in the message.

    Raises:
        DataError: a number is not finite; the message names its row and column.
    """
    if rows.dtype.kind != "f":
        return
    kept = np.dtype(rows.dtype if dtype is None else dtype)
    is_narrower = kept.itemsize < rows.dtype.itemsize
    for start, block in row_blocks(rows):
        finite = np.abs(block) <= np.finfo(kept).max if is_narrower else np.isfinite(block)  # (block, ...)
        if not finite.all():
            at = int(finite.argmin())
            row, column = cell_of(rows, start * block[0].size + at)
            raise DataError(
                f"{what} must be finite in {kept}, got {block.flat[at]} at row {row}, column {column}: "
                "fill the cell or drop its row"
            )


def row_blocks(rows: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield blocks of rows (samples, ...), to avoid temporaries of their size.

    Each is a view of about `BLOCK_BYTES`, with the index of its first row. Blocks of sparse rows have their entries,
    (block,), with the index of the first.
    """
    rows = np.asarray(numbers_of(rows))  # of which a view costs less than of NumPy's class of mapped arrays
    size = max(1, BLOCK_BYTES // max(1, rows.nbytes // max(1, len(rows))))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def make_generator(seed: int | np.random.Generator, *, stream: int | None = None) -> np.random.Generator:
    """Return a generator from a seed, or the generator itself.

    Args:
        seed: an integer >= 0, or a generator.
        stream: generators of one seed and different streams are independent of each other.

    Raises:
        ConfigError: the seed is invalid.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if not is_whole(seed, least=0):
        raise ConfigError(f"seed must be a whole number >= 0 or a numpy.random.Generator, got {shown(seed)}")
    return np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=() if stream is None else (stream,)))

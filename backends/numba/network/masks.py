"""Dropout masks of a tile: bits that each thread draws for the rows and units that it needs.

The masks are those of `backends/dropout.py`, bit for bit. The draws of a batch are one stream, row after row, and eight
of them are one call of the generator and one byte here, so that a byte is the same whoever draws it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...dropout import BLOCK_ROWS
from ..compiler.compile import chosen_by_kind
from ..compiler.lanes import like, put
from ..compiler.philox import draws_above


class NoMasks(NamedTuple):
    """Training without dropout, and prediction: the functions below do nothing."""


class Masks(NamedTuple):
    """Masks of the hidden layers for the rows of a tile.

    Attributes:
        bits: 1 for a unit that is kept, eight to a byte, (threads, bytes), or (bytes,) of one thread.
        first_bytes: where each layer's begin, (hidden layers,).
        units: units of each layer without padding, (hidden layers,).
        bound: the largest draw of 32 bits that drops.
        factor: what the units that are kept are multiplied by.
        seed: of the masks.
        step: number of the step, from 1.
        row: the tile's first row, counted within the batch.
    """

    bits: Any
    first_bytes: Any
    units: Any
    bound: int
    factor: float
    seed: int
    step: int
    row: int


AnyMasks = NoMasks | Masks


@chosen_by_kind({
    NoMasks: lambda masks, me: masks,
    Masks: lambda masks, me: Masks(
        masks.bits[me], masks.first_bytes, masks.units, masks.bound, masks.factor, masks.seed, masks.step, masks.row
    ),
})  # fmt: skip
def masks_of(masks: AnyMasks, me: int) -> AnyMasks:
    """Return one thread's masks."""
    raise NotImplementedError


@chosen_by_kind({
    NoMasks: lambda masks, step, row: masks,
    Masks: lambda masks, step, row: Masks(
        masks.bits, masks.first_bytes, masks.units, masks.bound, masks.factor, masks.seed, step, row
    ),
})  # fmt: skip
def masks_at(masks: AnyMasks, step: int, row: int) -> AnyMasks:
    """Return the masks of another tile, by its step and its first row within the batch."""
    raise NotImplementedError


def _draw(masks: Masks, k: int, first_unit: int, end_unit: int, start: int, stop: int) -> None:
    units = masks.units[k]
    end_unit, block_bytes = min(end_unit, units), BLOCK_ROWS // 8 * units
    first_row, end_row = masks.row + start, masks.row + stop
    for block in range(first_row // BLOCK_ROWS, -(-end_row // BLOCK_ROWS)):
        first = max(first_row - block * BLOCK_ROWS, 0)
        last = min(end_row - block * BLOCK_ROWS, BLOCK_ROWS)
        at = masks.first_bytes[k] - masks.row * units // 8 + block * block_bytes  # of the block's first byte
        rows, count = last - first, end_unit - first_unit
        if count == units:  # neighbouring rows are one stretch
            rows, count = 1, rows * units
        for row in range(rows):
            draw = (first + row) * units + first_unit
            for number in range(draw // 8, (draw + count + 7) // 8):
                put(masks.bits, at + number, draws_above(number, block, masks.step, masks.seed, k, masks.bound))


@chosen_by_kind({NoMasks: lambda *args: None, Masks: _draw})
def draw(masks: AnyMasks, k: int, first_unit: int, end_unit: int, start: int, stop: int) -> None:
    """Draw hidden layer k's masks of some units for rows start to stop of the tile."""


@chosen_by_kind({NoMasks: lambda masks, y: y, Masks: lambda masks, y: y * like(y, 1 / masks.factor)})
def before_dropout(masks: AnyMasks, y: Any) -> Any:
    """Return outputs without the factor of dropout, for the units that were kept."""
    raise NotImplementedError

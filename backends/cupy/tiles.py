"""Tile sizes of the matrix products in the CUDA kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

THREADS = 256  # of a block
SCALAR_DEPTH = 32  # of a scalar tile, in shared memory at a time
MOST_DEPTH = 896  # of a tile of the tensor cores, which has 130 KB of shared memory then


class ScalarTile(NamedTuple):
    """`ScalarTile` of scalar_tile.cuh: 256 threads with 4 x 4 results each."""

    rows: int
    columns: int

    @property
    def macro(self) -> str:
        """Template arguments."""
        return f"{self.rows},{self.columns}"

    def shared_bytes(self, itemsize: int, parts: int) -> int:  # noqa: ARG002
        """Return the shared memory of a block in bytes, for numbers of `itemsize` bytes or `parts` bf16 parts."""
        groups = THREADS * 16 // (self.rows * self.columns)
        return itemsize * max(SCALAR_DEPTH * (self.rows + self.columns + 8), groups * self.rows * self.columns)


class TensorTile(NamedTuple):
    """`TensorTile` of tensor_tile.cuh: 8 warps over rows, columns and depth."""

    rows: int
    columns: int
    depth: int
    warps: tuple[int, int, int]

    @property
    def macro(self) -> str:
        """Template arguments."""
        return ",".join(map(str, (self.rows, self.columns, self.depth, *self.warps)))

    def shared_bytes(self, itemsize: int, parts: int) -> int:  # noqa: ARG002
        """Return the shared memory of a block in bytes: the maximum over both layouts of `a`."""
        a = max(self.rows * (self.depth + 8), self.depth * (self.rows + 8))
        return max(2 * (a + parts * self.columns * (self.depth + 8)), 4 * self.warps[2] * self.rows * self.columns)


Tile = ScalarTile | TensorTile  # of a matrix product; a template in the CUDA sources

# The larger a tile, the less is read; but there must be enough of them. Their times have not been measured yet.
SCALAR_TILES = (ScalarTile(64, 64), ScalarTile(32, 32))
TENSOR_TILES = (
    TensorTile(64, 64, 64, (2, 4, 1)),
    TensorTile(32, 32, 64, (2, 2, 2)),
    TensorTile(16, 16, 128, (1, 1, 8)),
)


def count(tile: Tile, rows: int, columns: int) -> int:
    """Return the number of tiles of a result (rows, columns)."""
    return -(-rows // tile.rows) * -(-columns // tile.columns)


def choose_tile(tiles: Sequence[Tile], rows: int, columns: int, multiprocessors: int) -> Tile:
    """Return the first tile that keeps three quarters of the multiprocessors busy, else the last."""
    enough = (tile for tile in tiles if 4 * count(tile, rows, columns) >= 3 * multiprocessors)
    return next(enough, tiles[-1])


def deepened(tile: Tile, depth: int, room: int) -> Tile:
    """Return the smallest tensor-core tile with its full depth in shared memory, if it fits into `room` bytes.

    With few rows and columns a block is bound by memory latency, which it then pays once.
    """
    smallest = TENSOR_TILES[-1]
    if tile != smallest:
        return tile
    whole = smallest._replace(depth=min(-(-depth // smallest.depth) * smallest.depth, MOST_DEPTH))
    return whole if whole.shared_bytes(4, 3) <= room else tile

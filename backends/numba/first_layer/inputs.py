"""Rows as the first layer reads them, sparse or dense, and tiles of them.

The kernels that follow are the same for each kind of rows: the compiler chooses what differs by the type.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compiler.compile import chosen_by_kind
from ..compiler.lanes import item, put
from ..network.layers import gather_rows
from ..network.network import Matrix, Network
from .columns import columns_of
from .sparse import Sparse


class SparseInput(NamedTuple):
    """Sparse rows.

    Attributes:
        rows: of all samples.
        columns: lists by feature: room for those of each thread's tile, (threads, ...) arrays, or those of all tiles.
        bounds: the first feature of each chunk, then the number of features, (chunks + 1,).
    """

    rows: Sparse
    columns: Any
    bounds: Any


class UnlistedInput(NamedTuple):
    """Rows that are mostly zeros, and room for each thread to make sparse rows of a tile.

    Attributes:
        images: (samples, features).
        rows: sparse rows of a tile, whose arrays have the threads as their first axis.
        positions: 0, 1, 2, ..., (tile rows,).
    """

    images: Any
    rows: Sparse
    positions: Any


class DenseInput(NamedTuple):
    """Dense rows, and room for each thread to make numbers of the network's type of a tile.

    Attributes:
        images: (samples, features).
        scale: what they are multiplied by.
        x: in blocks of one register, (threads, tile rows * features with padding).
        bounds: the first feature of each chunk, whole registers of them, then the number of features, (chunks + 1,).
    """

    images: Any
    scale: float
    x: Any
    bounds: Any


class SparseTile(NamedTuple):
    """A tile of sparse rows.

    Attributes:
        rows: sparse rows.
        index: which of them the tile has, (rows in use,).
        scale: what products are multiplied by.
        bounds: as in `SparseInput`.
        features: their entries as lists by feature.
    """

    rows: Sparse
    index: Any
    scale: float
    bounds: Any
    features: Any


class DenseTile(NamedTuple):
    """A tile of dense rows.

    Attributes:
        features: their numbers, (rows, features with padding).
        index: which samples they are, (rows in use,).
        scale: what products are multiplied by: 1, since the numbers have been.
        bounds: as in `DenseInput`.
    """

    features: Matrix
    index: Any
    scale: float
    bounds: Any


Input = SparseInput | UnlistedInput | DenseInput
Tile = SparseTile | DenseTile


def _sparse_tile(inputs: SparseInput, network: Network, index: Any, me: int, number: int, rows: int) -> SparseTile:
    columns = columns_of(inputs.columns, me, number)
    return SparseTile(inputs.rows, index, inputs.rows.scale, inputs.bounds, columns)


def _unlisted_tile(inputs: UnlistedInput, network: Network, index: Any, me: int, number: int, rows: int) -> SparseTile:
    images, bounds, used, at = inputs.images, inputs.rows.bounds, index.shape[0], 0
    sparse = Sparse(inputs.rows.starts[me], inputs.rows.index[me], inputs.rows.value[me], inputs.rows.scale, bounds)
    features, pitch, zero = images.shape[1], bounds.shape[0], images.dtype.type(0)
    for row in range(used):
        image_at = index[row] * features
        for chunk in range(pitch - 1):
            sparse.starts[row * pitch + chunk] = at
            for i in range(bounds[chunk], bounds[chunk + 1]):
                number = item(images, image_at + i)
                put(sparse.index, at, i)  # a zero is overwritten by what comes next: no branch is taken on the images
                put(sparse.value, at, number)
                at += number != zero
        sparse.starts[row * pitch + pitch - 1] = at
    return SparseTile(sparse, inputs.positions[:used], sparse.scale, bounds, ())


def _dense_tile(inputs: DenseInput, network: Network, index: Any, me: int, number: int, rows: int) -> DenseTile:
    x = Matrix(inputs.x[me], 0, rows, network.widths[0], network.inputs[0])
    gather_rows(inputs.images, inputs.scale, index, x, network.compiled.lanes)
    return DenseTile(x, index, 1.0, inputs.bounds)


@chosen_by_kind({SparseInput: _sparse_tile, UnlistedInput: _unlisted_tile, DenseInput: _dense_tile})
def tile_of(inputs: Input, network: Network, index: Any, me: int, number: int, rows: int) -> Tile:
    """Return a tile, ready to be taken forward.

    Every thread makes its own: what one writes and all read would travel between the cores with every tile, which takes
    longer.

    Args:
        inputs: rows of all samples.
        network: sizes and places.
        index: the samples of the tile, (rows in use,).
        me: number of the thread.
        number: of the tile in the batch, from 0.
        rows: rows that there is room for.
    """
    raise NotImplementedError

"""First layer by chunks of features: a chunk is taken forward and backward with all units, which are few."""

from __future__ import annotations

from typing import Any

from ..compiler.compile import chosen_by_kind, inner_kernel
from ..compiler.lanes import load, store, zeros
from ..network.layers import Area, products_of_blocks
from ..network.network import Matrix, Network, weight_of
from ..network.optimizers import DESCENT, Update, take_step
from .blocks import features_backward, finish_block
from .columns import ByteColumns, Columns, KeptColumns
from .inputs import DenseTile, SparseTile, Tile
from .sparse import add_gradient_of_chunk, products_of_chunk


def _chunk_forward_sparse(tile: SparseTile, network: Network, parameters: Any, chunk: int, sums: Matrix) -> None:
    weight = weight_of(network, 0, parameters)
    products_of_chunk(tile.rows, tile.index, chunk, weight, sums, network.compiled.block)


def _chunk_forward_dense(tile: DenseTile, network: Network, parameters: Any, chunk: int, sums: Matrix) -> None:
    x, weight, used = tile.features, weight_of(network, 0, parameters), tile.index.shape[0]
    first, last = tile.bounds[chunk] // x.width, tile.bounds[chunk + 1] // x.width
    products_of_blocks(x, weight, first, last, sums, used, network.compiled)


@chosen_by_kind({SparseTile: _chunk_forward_sparse, DenseTile: _chunk_forward_dense})
def chunk_forward(tile: Tile, network: Network, parameters: Any, chunk: int, sums: Matrix) -> None:
    """Write one chunk's part of the unscaled `x @ weight`, (rows, units)."""


@inner_kernel
def finish_chunks(tile: Tile, network: Network, parameters: Any, sums: Matrix, y: Matrix) -> None:
    """Write the first layer's output `y`, (rows, units), out of the sums of all chunks; see `finish_block`."""
    for block in range(y.columns // y.width):
        finish_block(tile, network, parameters, block, sums, tile.bounds.shape[0] - 1, y)


def _by_row(features: Columns, tile: SparseTile, network: Network, update: Update, chunk: int, grad: Matrix) -> None:
    width, state, step = network.compiled.block, update.state, update.step
    if step.rule.kind == DESCENT and update.l2 == 0 and update.is_first and update.is_last:
        # w - rate * (g_1 + g_2 + ...): each row's part is taken off at once, and there need be no sum of them
        weight, factor = weight_of(network, 0, state.parameters), -step.learning_rate * tile.scale
        add_gradient_of_chunk(tile.rows, tile.index, chunk, weight, grad, factor, width)
        return
    weight = weight_of(network, 0, state.grads)
    start = weight.at + tile.bounds[chunk] * weight.width
    stop = weight.at + tile.bounds[chunk + 1] * weight.width
    if update.is_first:
        for at in range(start, stop, weight.width):
            store(state.grads, at, zeros(state.grads, width))
    add_gradient_of_chunk(tile.rows, tile.index, chunk, weight, grad, tile.scale, width)
    if update.is_last:
        for at in range(start, stop, weight.width):
            take_step(step, state, at, load(state.grads, at, width), update.l2, width)


def _by_feature(features: Any, tile: Tile, network: Network, update: Update, chunk: int, grad: Matrix) -> None:
    area = Area(0, tile.bounds[chunk], tile.bounds[chunk + 1], 0, grad.columns // grad.width)
    features_backward(tile, network, update, area, grad)


@chosen_by_kind({Columns: _by_row, ByteColumns: _by_row, KeptColumns: _by_feature, Matrix: _by_feature})
def chunk_backward(features: Any, tile: Tile, network: Network, update: Update, chunk: int, grad: Matrix) -> None:
    """Accumulate, or step with, the gradients of one chunk's weights; `features` are those of the tile.

    Lists that are not kept are not made either: their entries are added row by row. `grad` is the gradient of the
    activation's input, (rows, units).
    """

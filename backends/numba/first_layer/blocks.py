"""First layer by blocks of units: a block is taken forward and backward with all features."""

from __future__ import annotations

from typing import Any

from ..compiler.compile import chosen_by_kind, inner_kernel
from ..compiler.lane_types import Width
from ..compiler.lanes import like, load, store
from ..network.functions import activated
from ..network.layers import LayerParameters, Matrix, forward_panel, gradient_of_bias, gradient_of_panel
from ..network.network import Network, layer_of, weight_of
from ..network.optimizers import Update, accumulate_or_step
from .columns import gradient_of_feature
from .inputs import DenseTile, SparseTile, Tile
from .sparse import products_of_block


@inner_kernel
def finish_block(
    tile: Tile, layer: LayerParameters, block: int, sums: Matrix, chunks: int, y: Matrix, width: Width
) -> None:
    """Write one block of units of the layer's output `y`, (rows, units), out of unscaled products `x @ weight`.

    Those of each chunk of features are a matrix like `y`, and follow each other from `sums` on: they are added in their
    order. Where there is one, `sums` may be `y`.
    """
    bias = load(layer.weight.buffer, layer.bias_at + block * y.width, width)
    for row in range(tile.index.shape[0]):
        at = (block * y.rows + row) * y.width
        z = load(sums.buffer, sums.at + at, width)
        for chunk in range(1, chunks):
            z = z + load(sums.buffer, sums.at + at + chunk * y.rows * y.columns, width)
        store(y.buffer, y.at + at, activated(z * like(z, tile.scale) + bias, layer.activation))


def _block_forward_sparse(tile: SparseTile, network: Network, parameters: Any, block: int, y: Matrix) -> None:
    layer, width = layer_of(network, 0, parameters), network.compiled.block
    products_of_block(tile.rows, tile.index, layer.weight, block, y, width)
    finish_block(tile, layer, block, y, 1, y, width)


def _block_forward_dense(tile: DenseTile, network: Network, parameters: Any, block: int, y: Matrix) -> None:
    layer, used = layer_of(network, 0, parameters), tile.index.shape[0]
    forward_panel(tile.features, layer, block, y, 0, used, network.compiled)


@chosen_by_kind({SparseTile: _block_forward_sparse, DenseTile: _block_forward_dense})
def block_forward(tile: Tile, network: Network, parameters: Any, block: int, y: Matrix) -> None:
    """Write one block of units of the first layer's output `y`, (rows, units)."""


def _features_backward_sparse(
    tile: SparseTile, network: Network, update: Update, block: int, first: int, last: int, grad: Matrix
) -> None:
    weight, width = weight_of(network, 0, update.state.grads), network.compiled.block
    grad_at = grad.at + block * grad.rows * grad.width
    at = weight.at + (block * weight.rows + first) * weight.width
    for feature in range(first, last):
        g = gradient_of_feature(tile.features, feature, grad.rows, grad.buffer, grad_at, width)
        accumulate_or_step(update, at, g * like(g, tile.scale), update.l2, width)
        at += weight.width


def _features_backward_dense(
    tile: DenseTile, network: Network, update: Update, block: int, first: int, last: int, grad: Matrix
) -> None:
    weight = weight_of(network, 0, update.state.grads)
    gradient_of_panel(tile.features, grad, block, weight, first, last, update, network.compiled)


@chosen_by_kind({SparseTile: _features_backward_sparse, DenseTile: _features_backward_dense})
def features_backward(
    tile: Tile, network: Network, update: Update, block: int, first: int, last: int, grad: Matrix
) -> None:
    """Accumulate, or step with, the gradients of one block's weights for features first to last.

    Args:
        tile: rows, listed by feature.
        network: sizes and places.
        update: what becomes of the gradients.
        block: which units.
        first: first feature, of dense rows in eights.
        last: the feature after the last.
        grad: gradient with respect to what goes into the first layer's activation, (rows, units).
    """


@inner_kernel
def block_backward(tile: Tile, network: Network, update: Update, block: int, grad: Matrix) -> None:
    """Accumulate, or step with, the gradients of one block's weights and biases; see `features_backward`."""
    features_backward(tile, network, update, block, 0, network.inputs[0], grad)
    gradient_of_bias(grad, block, network.bias_at[0], update, network.compiled.block)

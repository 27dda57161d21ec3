"""First layer by blocks of units: a block is taken forward and backward with all features."""

from __future__ import annotations

from typing import Any

from ..compiler.compile import chosen_by_kind, inner_kernel
from ..compiler.lanes import like, load, store
from ..network.functions import activated
from ..network.layers import forward_panel, gradient_of_bias, gradient_of_panel
from ..network.network import Matrix, Network, weight_of
from ..network.optimizers import Update, accumulate_or_step
from .columns import gradient_of_feature
from .inputs import DenseTile, SparseTile, Tile
from .sparse import products_of_block


@inner_kernel
def finish_block(
    tile: Tile, network: Network, parameters: Any, block: int, sums: Matrix, chunks: int, y: Matrix
) -> None:
    """Write one block of units of the layer's output `y`, (rows, units), out of unscaled products `x @ weight`.

    Those of each chunk of features are a matrix like `y`, and follow each other from `sums` on: they are added in their
    order. Where there is one, `sums` may be `y`.
    """
    width = network.compiled.block
    bias = load(parameters, network.bias_at[0] + block * y.width, width)
    for row in range(tile.index.shape[0]):
        at = (block * y.rows + row) * y.width
        z = load(sums.buffer, sums.at + at, width)
        for chunk in range(1, chunks):
            z = z + load(sums.buffer, sums.at + at + chunk * y.rows * y.columns, width)
        store(y.buffer, y.at + at, activated(z * like(z, tile.scale) + bias, network.activations[0]))


def _block_forward_sparse(tile: SparseTile, network: Network, parameters: Any, block: int, y: Matrix) -> None:
    products_of_block(tile.rows, tile.index, weight_of(network, 0, parameters), block, y, network.compiled.block)
    finish_block(tile, network, parameters, block, y, 1, y)


def _block_forward_dense(tile: DenseTile, network: Network, parameters: Any, block: int, y: Matrix) -> None:
    forward_panel(network, 0, parameters, tile.features, y, block, 0, tile.index.shape[0])


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
    gradient_of_panel(network, 0, tile.features, grad, block, first, last, update)


@chosen_by_kind({SparseTile: _features_backward_sparse, DenseTile: _features_backward_dense})
def features_backward(
    tile: Tile, network: Network, update: Update, block: int, first: int, last: int, grad: Matrix
) -> None:
    """Accumulate, or step with, the gradients of one block's weights for features first to last, in eights if dense.

    The rows of `tile` are listed by feature; `grad` is the gradient of the activation's input, (rows, units).
    """


@inner_kernel
def block_backward(tile: Tile, network: Network, update: Update, block: int, grad: Matrix) -> None:
    """Accumulate, or step with, the gradients of one block's weights and biases; see `features_backward`."""
    features_backward(tile, network, update, block, 0, network.inputs[0], grad)
    gradient_of_bias(grad, block, network.bias_at[0], update, network.compiled.block)

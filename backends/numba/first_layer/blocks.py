"""First layer by blocks of units: a block is taken forward and backward with all features."""

from __future__ import annotations

from typing import Any

from ..compiler.compile import chosen_by_kind, inner_kernel
from ..compiler.lanes import like, load, store
from ..network.functions import activated
from ..network.layers import Area, forward_panels, gradient_of_bias, gradient_of_panels
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


def _blocks_forward_sparse(
    tile: SparseTile, network: Network, parameters: Any, first: int, end: int, y: Matrix
) -> None:
    for block in range(first, end):
        products_of_block(tile.rows, tile.index, weight_of(network, 0, parameters), block, y, network.compiled.block)
        finish_block(tile, network, parameters, block, y, 1, y)


def _blocks_forward_dense(tile: DenseTile, network: Network, parameters: Any, first: int, end: int, y: Matrix) -> None:
    forward_panels(network, parameters, tile.features, y, Area(0, 0, tile.index.shape[0], first, end))


@chosen_by_kind({SparseTile: _blocks_forward_sparse, DenseTile: _blocks_forward_dense})
def blocks_forward(tile: Tile, network: Network, parameters: Any, first: int, end: int, y: Matrix) -> None:
    """Write the blocks first to end of the first layer's output `y`, (rows, units)."""


def _features_backward_sparse(tile: SparseTile, network: Network, update: Update, area: Area, grad: Matrix) -> None:
    weight, width = weight_of(network, 0, update.state.grads), network.compiled.block
    for block in range(area.first, area.end):
        grad_at = grad.at + block * grad.rows * grad.width
        at = weight.at + (block * weight.rows + area.start) * weight.width
        for feature in range(area.start, area.stop):
            g = gradient_of_feature(tile.features, feature, grad.rows, grad.buffer, grad_at, width)
            accumulate_or_step(update, at, g * like(g, tile.scale), update.l2, width)
            at += weight.width


def _features_backward_dense(tile: DenseTile, network: Network, update: Update, area: Area, grad: Matrix) -> None:
    gradient_of_panels(network, tile.features, grad, area, update)


@chosen_by_kind({SparseTile: _features_backward_sparse, DenseTile: _features_backward_dense})
def features_backward(tile: Tile, network: Network, update: Update, area: Area, grad: Matrix) -> None:
    """Accumulate, or step with, the gradients of the weights of some features and blocks, rows and panels of `area`.

    The rows of `tile` are listed by feature; `grad` is the gradient of the activation's input, (rows, units).
    """


@inner_kernel
def blocks_backward(tile: Tile, network: Network, update: Update, first: int, end: int, grad: Matrix) -> None:
    """Accumulate, or step with, the gradients of some blocks' weights and biases; see `features_backward`."""
    features_backward(tile, network, update, Area(0, 0, network.inputs[0], first, end), grad)
    for block in range(first, end):
        gradient_of_bias(grad, block, network.bias_at[0], update, network.compiled.block)

"""A tile of a network whose first layer is narrow, through all layers on one thread: its features go by chunks."""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel
from ..compiler.team import Side
from ..first_layer.chunks import chunk_backward, chunk_forward, finish_chunks
from ..first_layer.inputs import Tile
from ..network.layers import drop, gradient_of_bias
from ..network.masks import draw
from ..network.network import Matrix, Network, Work, following, output_of
from ..network.optimizers import Update
from .later_layers import later_layers_backward, through_layers
from .room import Problem


@inner_kernel
def narrow_forward(
    network: Network, tile: Tile, parameters: Any, products: Matrix, first_chunk: int, end_chunk: int
) -> None:
    """Write the unscaled `x @ weight` of some chunks, each a matrix, (rows, units): chunk 0's is `products`."""
    for chunk in range(first_chunk, end_chunk):
        chunk_forward(tile, network, parameters, chunk, following(products, chunk))


@inner_kernel
def narrow_backward(
    problem: Problem,
    tile: Tile,
    update: Update,
    work: Work,
    products: Matrix,
    first_chunk: int,
    end_chunk: int,
    alone: Side,
) -> None:
    """Go on from the products of all chunks to the loss and back, and accumulate, or step with, the gradients.

    Of the first layer's weights only those of the chunks first to end have theirs taken, of the other parameters all.
    The rows' losses are left in `work`; `alone` is a team of this thread only.
    """
    network, grad = problem.network, output_of(problem.network, 0, work.grads, work.rows)
    first_output = output_of(network, 0, work.outputs, work.rows)
    finish_chunks(tile, network, update.state.parameters, products, first_output)
    draw(work.masks, 0, 0, grad.columns, 0, update.rows)
    drop(work.masks, 0, first_output, 0, grad.columns, 0, update.rows, network.compiled.lanes)
    through_layers(problem, update, work, tile.index, 0, update.rows)
    later_layers_backward(network, update, work, alone)
    for block in range(grad.columns // grad.width):
        gradient_of_bias(grad, block, network.bias_at[0], update, network.compiled.block)
    for chunk in range(first_chunk, end_chunk):
        chunk_backward(tile.features, tile, network, update, chunk, grad)

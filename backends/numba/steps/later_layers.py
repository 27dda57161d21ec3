"""Layers after the first: forward to the loss, back to the first layer, and the gradients of their weights."""

from __future__ import annotations

from typing import Any

from ..compiler.compile import inner_kernel
from ..compiler.team import Side, share
from ..network.layers import Area, backward_panels, drop, forward_panels, gradient_of_bias, gradient_of_panels
from ..network.masks import draw
from ..network.network import Matrix, Network, Work, output_of, transpose
from ..network.optimizers import Update
from ..network.targets import loss_of_row
from .room import Problem


@inner_kernel
def transpose_all(network: Network, parameters: Any, work: Work, side: Side) -> None:
    """Write the transposes of the weights after the first; a thread of `side` takes some rows of each."""
    for k in range(1, network.inputs.shape[0]):
        start, stop = share(side, network.inputs[k], network.widths[k])
        transpose(network, k, parameters, work.transposed, start, stop)


@inner_kernel
def logits_of(network: Network, parameters: Any, work: Work, start: int, stop: int) -> Matrix:
    """Take rows start to stop through the layers after the first; return where the logits are, (rows, classes)."""
    x = output_of(network, 0, work.outputs, work.rows)
    for k in range(1, network.inputs.shape[0]):
        y = output_of(network, k, work.outputs, work.rows)
        forward_panels(network, parameters, x, y, Area(k, start, stop, 0, y.columns // y.width))
        if k + 1 < network.inputs.shape[0]:
            draw(work.masks, k, 0, y.columns, start, stop)
            drop(work.masks, k, y, 0, y.columns, start, stop, network.compiled.lanes)
        x = y
    return x


@inner_kernel
def loss_of_rows(problem: Problem, work: Work, index: Any, size: float, start: int, stop: int) -> None:
    """Write the loss of rows start to stop, whether each is right, and the gradient of its logits, to `work`.

    `index` has the sample of each row of the tile, (rows in use,), and `size` is what the mean of the batch is over.
    """
    network, last = problem.network, problem.network.inputs.shape[0] - 1
    logits, grad = output_of(network, last, work.outputs, work.rows), output_of(network, last, work.grads, work.rows)
    for row in range(start, stop):
        work.losses[row], work.correct[row] = loss_of_row(
            problem.targets, index[row], logits, grad, row, network.classes, size, network.compiled.lanes
        )


@inner_kernel
def through_layers(problem: Problem, update: Update, work: Work, index: Any, start: int, stop: int) -> None:
    """Go forward from the first layer's output and back to it, for rows start to stop of a tile, in eights.

    Losses, correct rows and the gradients of all layers, the first one's too, go to `work`; see `loss_of_rows`.
    """
    network, layers = problem.network, problem.network.inputs.shape[0]
    logits_of(network, update.state.parameters, work, start, stop)
    loss_of_rows(problem, work, index, update.size, start, stop)
    for k in range(layers - 2, -1, -1):
        panels = network.units[k] // network.widths[k + 1]
        backward_panels(network, work, Area(k, start, stop, 0, panels))


@inner_kernel
def later_layers_backward(network: Network, update: Update, work: Work, side: Side) -> None:
    """Accumulate, or step with, the gradients of the layers after the first, and keep the transposes up to date.

    Each layer's is `grad_weight = x.T @ grad`, (inputs, units), with its input and its output's gradient of the rows
    in use in `work`, (tile rows, inputs) and (tile rows, units); a thread of `side` takes some rows of it.
    """
    for k in range(1, network.inputs.shape[0]):
        x = output_of(network, k - 1, work.outputs, work.rows)
        grad = output_of(network, k, work.grads, work.rows)
        start, stop = share(side, network.inputs[k], grad.width)
        gradient_of_panels(network, x, grad, Area(k, start, stop, 0, grad.columns // grad.width), update)
        if update.is_last:
            transpose(network, k, update.state.parameters, work.transposed, start, stop)
        start, stop = share(side, grad.columns // grad.width, 1)
        for panel in range(start, stop):
            gradient_of_bias(grad, panel, network.bias_at[k], update, network.compiled.lanes)

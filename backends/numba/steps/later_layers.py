"""What rows of a batch go through one by one: the layers after the first, the loss, and back to the first layer."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compiler.compile import inner_kernel
from ..compiler.team import Side, share
from ..network.layers import Matrix, Widths, backward_panel, forward, gradient_of_bias, gradient_of_panel
from ..network.network import Network, output_of, transpose, transposed_of, weight_of
from ..network.optimizers import Position, State
from ..network.targets import Targets, loss_of_row


class Work(NamedTuple):
    """Room for a tile of rows.

    Attributes:
        outputs: of the layers after the first, one layer after the other, (rows * units of all layers,).
        grads: gradients with respect to what goes into each layer's activation, alike.
        transposed: transposes of the weights after the first.
        losses: of each row, nats, (rows,).
        correct: whether each row is classified correctly, (rows,).
    """

    outputs: Any
    grads: Any
    transposed: Any
    losses: Any
    correct: Any


@inner_kernel
def work_of(works: Work, me: int) -> Work:
    """Return one thread's room, of arrays whose first axis is the threads."""
    return Work(works.outputs[me], works.grads[me], works.transposed[me], works.losses[me], works.correct[me])


@inner_kernel
def logits_of(
    network: Network, parameters: Any, outputs: Any, first: Matrix, start: int, stop: int, widths: Widths
) -> Matrix:
    """Take rows start to stop through the layers after the first; return where the logits are, (rows, classes)."""
    x = first
    for k in range(1, network.inputs.shape[0]):
        y = output_of(network, k, outputs, first.rows)
        weight, bias_at = weight_of(network, k, parameters), network.bias_at[k]
        forward(x, weight, parameters, bias_at, y, network.activations[k], start, stop, widths)
        x = y
    return x


@inner_kernel
def through_layers(
    network: Network,
    parameters: Any,
    work: Work,
    first: Matrix,
    targets: Targets,
    index: Any,
    start: int,
    stop: int,
    size: float,
    widths: Widths,
) -> None:
    """Go forward from the first layer's output and back to it, for rows start to stop of a tile, in eights.

    Losses, correct rows and the gradients of all layers, the first one's too, go to `work`.

    Args:
        network: sizes and places.
        parameters: weights and biases.
        work: room for the tile's rows.
        first: the first layer's output, (rows, units).
        targets: of all samples.
        index: which sample each row of the tile is, (rows in use,).
        start: first row.
        stop: the row after the last, at most the rows in use.
        size: rows that the mean of the gradient is over, or the sum of their weights.
        widths: of the kernels.
    """
    last = network.inputs.shape[0] - 1
    logits = logits_of(network, parameters, work.outputs, first, start, stop, widths)
    grad = output_of(network, last, work.grads, first.rows)
    for row in range(start, stop):
        work.losses[row], work.correct[row] = loss_of_row(
            targets, index[row], logits, grad, row, network.classes, size, widths.lanes
        )
    for k in range(last, 0, -1):
        x = first if k == 1 else output_of(network, k - 1, work.outputs, first.rows)
        grad_x = output_of(network, k - 1, work.grads, first.rows)
        transposed = transposed_of(network, k, work.transposed, network.widths[last])
        for panel in range(transposed.columns // transposed.width):
            backward_panel(grad, transposed, panel, x, grad_x, network.activations[k - 1], start, stop, widths)
        grad = grad_x


@inner_kernel
def later_layers_backward(
    network: Network,
    state: State,
    grads: Any,
    work: Work,
    first: Matrix,
    used: int,
    position: Position,
    side: Side,
    widths: Widths,
) -> None:
    """Settle the gradients of the layers after the first, and keep the transposes of their weights up to date.

    Each layer's is `grad_weight = x.T @ grad`, (inputs, units), with its input and its output's gradient of the `used`
    rows in `work`, (tile rows, inputs) and (tile rows, units); a thread of `side` takes some rows of it.
    """
    for k in range(1, network.inputs.shape[0]):
        x = first if k == 1 else output_of(network, k - 1, work.outputs, first.rows)
        grad = output_of(network, k, work.grads, first.rows)
        start, stop = share(side, network.inputs[k], grad.width)
        for panel in range(grad.columns // grad.width):
            gradient_of_panel(x, grad, panel, used, weight_of(network, k, grads), start, stop, state, position, widths)
        if position.is_last:
            transpose(network, k, state.parameters, work.transposed, grad.width, start, stop)
        start, stop = share(side, grad.columns // grad.width, 1)
        for panel in range(start, stop):
            gradient_of_bias(grad, panel, used, grads, network.bias_at[k], state, position, widths.lanes)

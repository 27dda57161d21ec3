"""The steps of a run as one compiled call: gather, forward, loss, backward and update of every batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .numba_compile import inner_kernel, kernel
from .numba_operations import activate, activate_backward, gather_images, softmax_cross_entropy
from .numba_optimizers import Rule, update


class Network(NamedTuple):
    """Where the layers' parameters and outputs lie in the flat buffers: first all weights, then all biases.

    Attributes:
        sizes: features, then units of each layer, (layers + 1,).
        activations: what the kernels call each layer's activation, (layers,).
        weight_at: start of each layer's weights, then the start of the biases, (layers + 1,).
        unit_at: number of units in the layers before, then in all, (layers + 1,).
    """

    sizes: Any
    activations: Any
    weight_at: Any
    unit_at: Any


class Buffers(NamedTuple):
    """What the steps change.

    Attributes:
        parameters: (parameters,).
        grads: gradient of a batch, (parameters,).
        tile_grads: gradient of one of the batch's tiles, (parameters,), or (0,) where every batch is one tile.
        first: the optimizer's first slot, (parameters,) or (0,).
        second: its second slot, (parameters,) or (0,).
        x: a tile's images, (tile_rows * features,).
        outputs: the layers' outputs, one layer after the other, (tile_rows * units of all layers,).
        grad_outputs: their gradients, alike.
    """

    parameters: Any
    grads: Any
    tile_grads: Any
    first: Any
    second: Any
    x: Any
    outputs: Any
    grad_outputs: Any


class Data(NamedTuple):
    """The training rows: images (samples, features), labels (samples,), and what the images are multiplied by."""

    images: Any
    labels: Any
    scale: float


@inner_kernel
def matrix(buffer: Any, start: int, rows: int, columns: int) -> Any:
    """View of a part of a flat buffer, (rows, columns)."""
    return buffer[start : start + rows * columns].reshape(rows, columns)


@inner_kernel
def tile_gradients(
    network: Network, buffers: Buffers, data: Data, index: Any, batch_size: int, grads: Any
) -> tuple[float, int]:
    """Go forward and backward through some rows, index (rows,); their share of the batch's gradient goes to `grads`."""
    sizes, weight_at, unit_at = network.sizes, network.weight_at, network.unit_at
    rows, layers = index.shape[0], network.activations.shape[0]
    parameters, outputs, grad_outputs = buffers.parameters, buffers.outputs, buffers.grad_outputs

    images = matrix(buffers.x, 0, rows, sizes[0])  # (rows, features)
    gather_images(data.images, index, data.scale, images)
    x = images
    for k in range(layers):
        n, m = sizes[k], sizes[k + 1]
        weight = matrix(parameters, weight_at[k], n, m)  # (n, m)
        bias_at = weight_at[layers] + unit_at[k]
        y = matrix(outputs, unit_at[k] * rows, rows, m)  # (rows, m)
        np.dot(x, weight, y)
        activate(y, parameters[bias_at : bias_at + m], network.activations[k])
        x = y

    grad = matrix(grad_outputs, unit_at[layers - 1] * rows, rows, sizes[layers])  # (rows, classes)
    loss_sum, correct = softmax_cross_entropy(x, data.labels[index], batch_size, grad)

    for k in range(layers - 1, -1, -1):
        n, m = sizes[k], sizes[k + 1]
        bias_at = weight_at[layers] + unit_at[k]
        y = matrix(outputs, unit_at[k] * rows, rows, m)  # (rows, m)
        activate_backward(grad, y, grads[bias_at : bias_at + m], network.activations[k])
        x = images if k == 0 else matrix(outputs, unit_at[k - 1] * rows, rows, n)  # (rows, n)
        np.dot(x.T, grad, matrix(grads, weight_at[k], n, m))  # (n, rows) @ (rows, m)
        if k > 0:
            grad_x = matrix(grad_outputs, unit_at[k - 1] * rows, rows, n)  # (rows, n)
            np.dot(grad, matrix(parameters, weight_at[k], n, m).T, grad_x)  # (rows, m) @ (m, n)
            grad = grad_x
    return loss_sum, correct


@inner_kernel
def batch_gradients(network: Network, buffers: Buffers, data: Data, batch: Any, tile_rows: int) -> tuple[float, int]:
    """Write the gradient of the mean loss over `batch`, (rows,), to `buffers.grads`, one tile after the other."""
    rows, grads = batch.shape[0], buffers.grads
    loss_sum, correct = tile_gradients(network, buffers, data, batch[:tile_rows], rows, grads)
    for start in range(tile_rows, rows, tile_rows):
        tile = batch[start : start + tile_rows]
        tile_loss, tile_correct = tile_gradients(network, buffers, data, tile, rows, buffers.tile_grads)
        loss_sum += tile_loss
        correct += tile_correct
        for i in range(grads.shape[0]):
            grads[i] += buffers.tile_grads[i]
    return loss_sum, correct


@kernel
def train(
    network: Network,
    buffers: Buffers,
    data: Data,
    rule: Rule,
    order: Any,
    learning_rates: Any,
    first_step: int,
    batch_size: int,
    tile_rows: int,
    l2: float,
    loss_sum: float,
    correct: int,
) -> tuple[float, int]:
    """Take a step for every batch of `order`, (rows,), at the learning rates (steps,); return the sums gone on with."""
    weights = network.weight_at[-1]
    for k in range(learning_rates.shape[0]):
        batch = order[k * batch_size : (k + 1) * batch_size]  # (batch,)
        batch_loss, batch_correct = batch_gradients(network, buffers, data, batch, tile_rows)
        # `buffers.grads` is complete here: a sum over processes has its place between these two lines.
        for start, stop, penalty in ((0, weights, l2), (weights, buffers.grads.shape[0], 0.0)):  # weights, then biases
            update(
                rule,
                buffers.parameters[start:stop],
                buffers.grads[start:stop],
                buffers.first[start:stop],
                buffers.second[start:stop],
                first_step + k,
                learning_rates[k],
                penalty,
            )
        loss_sum += batch_loss
        correct += batch_correct
    return loss_sum, correct

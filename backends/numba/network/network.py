"""Network as the kernels see it: matrices in blocks of columns, and their places in the buffers.

A matrix of (rows, units) with blocks of `width` units is an array of (units / width, rows, width): a block's rows
follow each other without a gap, so that a block fills the first-level cache evenly and a row of it is a few registers.
Weights (in_features, out_features) lie alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compiler.compile import inner_kernel
from ..compiler.lane_types import Shape, Width
from ..compiler.microtiles import transpose_square
from .masks import masks_of


class Widths(NamedTuple):
    """Numbers of lanes that kernels are compiled for.

    Attributes:
        lanes: one panel.
        part: rows of one panel that are worked on at once after a product: as many as a wide microtile has.
        eight: 8 panels.
        block: units of a block of the first layer.
        wide: shape of most microtiles.
        tall: shape of a microtile of one panel, for those left over.
    """

    lanes: Width
    part: Width
    eight: Width
    block: Width
    wide: Shape
    tall: Shape


class Matrix(NamedTuple):
    """A matrix in blocks of columns, somewhere in a buffer.

    Attributes:
        buffer: what it lies in.
        at: where it begins.
        rows: rows of each block; not all of them need be in use.
        width: columns of a block.
        columns: how many there are, whole blocks of them.
    """

    buffer: Any
    at: int
    rows: int
    width: int
    columns: int


class Network(NamedTuple):
    """Sizes and places of the layers; every array is (layers,).

    Attributes:
        inputs: rows of each weight: features, or units of the layer before; with padding.
        units: columns of each weight, with padding to whole blocks.
        widths: columns of a block.
        activations: what the kernels call each layer's activation.
        weight_at: where its weight begins in a buffer of parameters.
        bias_at: where its bias begins there; all biases come after all weights.
        transposed_at: where its weight's transpose begins in the buffer of transposes; the first layer needs none.
        output_at: how many units the layers before have.
        classes: units of the last layer without padding.
        compiled: the numbers of lanes that the kernels are compiled for.
    """

    inputs: Any
    units: Any
    widths: Any
    activations: Any
    weight_at: Any
    bias_at: Any
    transposed_at: Any
    output_at: Any
    classes: int
    compiled: Widths


class Work(NamedTuple):
    """Room for a tile.

    Attributes:
        rows: rows that there is room for.
        outputs: of all layers, one layer after the other, (rows * units of all layers,).
        grads: gradients with respect to what goes into each layer's activation, alike.
        transposed: transposes of the weights after the first.
        losses: of each row, nats, (rows,).
        correct: whether each row is classified correctly, (rows,).
        masks: of the hidden layers' outputs, `Masks` or `NoMasks`.
    """

    rows: int
    outputs: Any
    grads: Any
    transposed: Any
    losses: Any
    correct: Any
    masks: Any


@inner_kernel
def place_of(matrix: Matrix, row: int, column: int) -> int:
    """Return where in the buffer an element of the matrix is."""
    if column < matrix.width:  # most are in the first block, and a division takes long
        return matrix.at + row * matrix.width + column
    block = column // matrix.width
    return matrix.at + (block * matrix.rows + row) * matrix.width + (column - block * matrix.width)


@inner_kernel
def following(matrix: Matrix, k: int) -> Matrix:
    """Return number `k` of matrices of one shape that follow each other in a buffer, of which `matrix` is number 0."""
    at = matrix.at + k * matrix.rows * matrix.columns
    return Matrix(matrix.buffer, at, matrix.rows, matrix.width, matrix.columns)


@inner_kernel
def weight_of(network: Network, k: int, buffer: Any) -> Matrix:
    """Return layer k's weight, (inputs, units), or its gradient or slot, in a buffer of parameters."""
    return Matrix(buffer, network.weight_at[k], network.inputs[k], network.widths[k], network.units[k])


@inner_kernel
def transposed_of(network: Network, k: int, buffer: Any, width: int) -> Matrix:
    """Return the transpose of layer k's weight, (units, inputs)."""
    return Matrix(buffer, network.transposed_at[k], network.units[k], width, network.inputs[k])


@inner_kernel
def output_of(network: Network, k: int, buffer: Any, rows: int) -> Matrix:
    """Return layer k's output, (rows, units), in a buffer of all layers' outputs."""
    return Matrix(buffer, network.output_at[k] * rows, rows, network.widths[k], network.units[k])


@inner_kernel
def transpose(network: Network, k: int, parameters: Any, buffer: Any, start: int, stop: int) -> None:
    """Write rows start to stop of layer k's weight, whole panels of them, into the buffer of transposes.

    The layer is not the first: blocks of the weight and of its transpose have one panel.
    """
    weight, lanes = weight_of(network, k, parameters), network.compiled.lanes
    result = transposed_of(network, k, buffer, weight.width)
    for i in range(start, stop, weight.width):
        for panel in range(weight.columns // weight.width):
            w_at = weight.at + (panel * weight.rows + i) * weight.width
            t_at = result.at + (i // weight.width * result.rows + panel * weight.width) * weight.width
            transpose_square(parameters, w_at, buffer, t_at, lanes)


@inner_kernel
def work_of(works: Work, me: int) -> Work:
    """Return one thread's room, of arrays whose first axis is the threads."""
    outputs, grads, transposed = works.outputs[me], works.grads[me], works.transposed[me]
    masks = masks_of(works.masks, me)
    return Work(works.rows, outputs, grads, transposed, works.losses[me], works.correct[me], masks)

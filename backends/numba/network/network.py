"""Network as the kernels see it: places of its matrices in the buffers."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..compiler.compile import inner_kernel
from .layers import LayerParameters, Matrix, Widths


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


@inner_kernel
def weight_of(network: Network, k: int, buffer: Any) -> Matrix:
    """Return layer k's weight, (inputs, units), or its gradient or slot, in a buffer of parameters."""
    return Matrix(buffer, network.weight_at[k], network.inputs[k], network.widths[k], network.units[k])


@inner_kernel
def layer_of(network: Network, k: int, parameters: Any) -> LayerParameters:
    """Return layer k's parameters in their buffer."""
    return LayerParameters(weight_of(network, k, parameters), network.bias_at[k], network.activations[k])


@inner_kernel
def transposed_of(network: Network, k: int, buffer: Any, width: int) -> Matrix:
    """Return the transpose of layer k's weight, (units, inputs)."""
    return Matrix(buffer, network.transposed_at[k], network.units[k], width, network.inputs[k])


@inner_kernel
def output_of(network: Network, k: int, buffer: Any, rows: int) -> Matrix:
    """Return layer k's output, (rows, units), in a buffer of all layers' outputs."""
    return Matrix(buffer, network.output_at[k] * rows, rows, network.widths[k], network.units[k])


@inner_kernel
def transpose(network: Network, k: int, parameters: Any, buffer: Any, width: int, start: int, stop: int) -> None:
    """Write rows start to stop of layer k's weight, whole blocks of them, into the buffer of transposes."""
    weight, result = weight_of(network, k, parameters), transposed_of(network, k, buffer, width)
    for i in range(start, stop):
        block = i // width
        for panel in range(weight.columns // weight.width):
            w_at = weight.at + (panel * weight.rows + i) * weight.width
            t_at = result.at + (block * result.rows + panel * weight.width) * width + i - block * width
            for j in range(weight.width):
                buffer[t_at + j * width] = parameters[w_at + j]

"""Layout of parameters and optimizer slots in the plan's flat buffers, with copies in and out."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ...plan import Layer
from ..compiler.lane_types import Width
from ..compiler.vector_unit import VECTOR_UNIT
from .functions import FLOATS, IDENTITY, SIGMOID, activation_code
from .network import Network, Widths

CACHE_LINE = 64  # bytes
SILENT = -1e30  # a bias whose sigmoid is 0


def aligned(count: int, dtype: Any) -> npt.NDArray[Any]:
    """Return zeros, (count,), that begin on a cache line: no register's load touches two."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(count * size + CACHE_LINE, dtype=np.uint8)
    offset = -raw.ctypes.data % CACHE_LINE
    return raw[offset : offset + count * size].view(dtype)


def padded(count: int, unit: int) -> int:
    """Return the least multiple of `unit` that is not below `count`."""
    return -(-count // unit) * unit


def are_layers(layers: list[Layer], images: npt.NDArray[Any]) -> bool:
    """Whether the kernels know all layers, and the types and shapes of their arrays and of `images`, (samples, ...)."""
    dtype = layers[0].weight.dtype
    outputs = [images.shape[1:], *((layer.weight.shape[-1],) for layer in layers)]  # (features,), (units,)...
    return (
        dtype in FLOATS
        and all(array.dtype == dtype for layer in layers for array in (layer.weight, layer.bias))
        and all(activation_code(layer.activation) is not None for layer in layers)
        and activation_code(layers[-1].activation) == IDENTITY
        and (images.dtype.kind in "iu" or images.dtype in FLOATS)
        and images.dtype.isnative
        and all(layer.weight.shape == (*n, *m) for layer, (n, m) in zip(layers, pairwise(outputs), strict=True))
        and all(layer.bias.shape == y for layer, y in zip(layers, outputs[1:], strict=True))
    )


class Layout:
    """One flat buffer for all weights and then all biases, in blocks of units with padding.

    Attributes:
        network: the layout as the kernels know it.
        count: numbers in a buffer of parameters.
        transposed_count: numbers in a buffer of transposes.
        output_units: units of all layers, with padding.
        hidden_units: units of each hidden layer, without padding.
    """

    def __init__(self, layers: list[Layer], *, lanes: int, block: int, pad_features: bool) -> None:
        """Lay out `layers`.

        Args:
            layers: the network.
            lanes: numbers in a register.
            block: units of a block of the first layer; the others' blocks have one register.
            pad_features: whether the features are padded to whole registers, as the layers' units are.
        """
        self._shapes = [layer.weight.shape for layer in layers]  # (in_features, out_features) each
        widths = [block] + [lanes] * (len(layers) - 1)
        units = [padded(m, width) for (_, m), width in zip(self._shapes, widths, strict=True)]
        features = self._shapes[0][0]
        inputs = [padded(features, lanes) if pad_features else features, *units[:-1]]
        sizes = [n * m for n, m in zip(inputs, units, strict=True)]
        weight_at = list(accumulate(sizes, initial=0))
        bias_at = [weight_at[-1] + at for at in accumulate(units, initial=0)]
        transposed_at = [0, *accumulate(sizes[1:], initial=0)]
        self.count = padded(bias_at[-1], 2 * CACHE_LINE // 4)
        self.transposed_count, self.output_units = transposed_at[-1], sum(units)
        self.hidden_units = [m for _, m in self._shapes[:-1]]
        codes = [activation_code(layer.activation) for layer in layers]
        self._padding_of_sigmoids = [
            slice(at + shape[1], at + count)
            for at, shape, count, code in zip(bias_at, self._shapes, units, codes, strict=False)
            if code == SIGMOID
        ]
        output_at = list(accumulate(units, initial=0))
        places = (inputs, units, widths, codes, weight_at[:-1], bias_at[:-1], transposed_at[:-1], output_at[:-1])
        arrays: list[Any] = [np.array(each, dtype=np.int64) for each in places]
        wide, tall = VECTOR_UNIT.shapes(layers[0].weight.dtype, lanes)
        compiled = Widths(Width(lanes), Width(lanes * wide.rows), Width(8 * lanes), Width(block), wide, tall)
        self.network = Network._make([*arrays, self._shapes[-1][1], compiled])

    def pack(self, arrays: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]], buffer: npt.NDArray[Any]) -> None:
        """Write each layer's weight (in_features, out_features) and bias (out_features,) into a buffer, (count,)."""
        for part, place in self.places(arrays, buffer):
            place[...] = part

    def pack_parameters(self, layers: list[Layer], buffer: npt.NDArray[Any]) -> None:
        """Write the layers' parameters into a buffer, and silence the units that are padding.

        Padding is 0 and stays 0, unless an activation turns 0 into something else: sigmoid(0) is 1/2, which the next
        layer would learn from. A bias far below 0 makes it 0, and its derivative too.
        """
        self.pack([(layer.weight, layer.bias) for layer in layers], buffer)
        self.silence(buffer)

    def silence(self, buffer: npt.NDArray[Any]) -> None:
        """See `pack_parameters`."""
        for padding in self._padding_of_sigmoids:
            buffer[padding] = SILENT

    def unpack(self, buffer: npt.NDArray[Any], arrays: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> None:
        """Write a buffer's weights and biases into arrays of the layers' shapes."""
        for part, place in self.places(arrays, buffer):
            part[...] = place

    def places(
        self, arrays: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]], buffer: npt.NDArray[Any]
    ) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Return views of all parts of each layer's weight and bias, each with its place in a buffer, (count,)."""
        places, network = [], self.network
        for k, (weight, bias) in enumerate(arrays):
            in_features, out_features = weight.shape
            inputs, units, width = int(network.inputs[k]), int(network.units[k]), int(network.widths[k])
            weight_at, bias_at = int(network.weight_at[k]), int(network.bias_at[k])
            blocks = buffer[weight_at : weight_at + inputs * units].reshape(units // width, inputs, width)
            full, rest = divmod(out_features, width)
            if full:
                parts = weight[:, : full * width].reshape(in_features, full, width)  # no copy: one axis becomes two
                places.append((parts.transpose(1, 0, 2), blocks[:full, :in_features]))
            if rest:
                places.append((weight[:, full * width :], blocks[full, :in_features, :rest]))
            places.append((bias, buffer[bias_at : bias_at + out_features]))
        return places

    def empty_arrays(self, dtype: Any) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Return arrays of the layers' shapes: weight (in_features, out_features), bias (out_features,)."""
        return [(np.empty(shape, dtype=dtype), np.empty(shape[1], dtype=dtype)) for shape in self._shapes]


def rows_of(rows: int, count: int, dtype: Any) -> Any:
    """Return zeros, (rows, count or a few more), each row of which begins on cache lines of its own."""
    size = padded(count, 2 * CACHE_LINE // np.dtype(dtype).itemsize)
    return aligned(rows * size, dtype).reshape(rows, size)

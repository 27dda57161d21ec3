"""Logits without training: every thread takes some rows through all layers, with the kernels of the training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..mapped import is_mapped
from ..plan import Layer
from .compiler.compile import announced, chosen_by_kind, inner_kernel, kernel
from .compiler.lane_types import lanes_of
from .compiler.lanes import item, put
from .compiler.team import Side, Team, share
from .first_layer.blocks import finish_block
from .first_layer.compress import chunk_bounds
from .first_layer.sparse import Sparse, products_of_block
from .network.functions import IDENTITY, activation_code
from .network.layers import Matrix, Widths, forward_panel, gather_tile, place_of, widths_of
from .network.layout import Layout, aligned, rows_of
from .network.network import Network, weight_of
from .steps.later_layers import Work, logits_of, work_of
from .steps.schedules import CHUNK_FEATURES, WIDE_TILE, block_registers, new_works

# To list a row's entries costs about as much as 64 units' products: only a sparser one is worth it.
FORWARD_SPARSE_DENSITY = 0.3
SAMPLE_ROWS = 1000


class SparseTiles(NamedTuple):
    """Images that are mostly zeros, and room for each thread to list a tile of them.

    Attributes:
        images: (samples, features).
        scale: what they are multiplied by.
        samples: 0, 1, 2, ..., (samples,).
        bounds: the first feature of each chunk, then the number of features, (chunks + 1,).
        starts: as in `Sparse`, (threads, tile rows * (chunks + 1)).
        index: alike, (threads, tile rows * features + 1).
        value: alike.
    """

    images: Any
    scale: float
    samples: Any
    bounds: Any
    starts: Any
    index: Any
    value: Any


class DenseTiles(NamedTuple):
    """Images that are mostly not zero, and room for each thread to make numbers of a tile of them.

    Attributes:
        images: (samples, features).
        scale: what they are multiplied by.
        samples: 0, 1, 2, ..., (samples,).
        x: in blocks of one register, (threads, tile rows * features with padding).
    """

    images: Any
    scale: float
    samples: Any
    x: Any


@inner_kernel
def list_tile(images: Any, first: int, sparse: Sparse, used: int) -> None:
    """List the entries of the images (samples, features) from number `first` on, as many as are in use."""
    features, pitch, zero, at = images.shape[1], sparse.bounds.shape[0], images.dtype.type(0), 0
    for row in range(used):
        image_at = (first + row) * features
        for chunk in range(pitch - 1):
            sparse.starts[row * pitch + chunk] = at
            for i in range(sparse.bounds[chunk], sparse.bounds[chunk + 1]):
                number = item(images, image_at + i)
                put(sparse.index, at, i)  # a zero is overwritten by what comes next: no branch is taken on the images
                put(sparse.value, at, number)
                at += number != zero
        sparse.starts[row * pitch + pitch - 1] = at


def _first_layer_sparse(
    inputs: SparseTiles, start: int, used: int, me: int, network: Network, parameters: Any, y: Matrix, widths: Widths
) -> None:
    rows = Sparse(inputs.starts[me], inputs.index[me], inputs.value[me], inputs.scale, inputs.bounds)
    list_tile(inputs.images, start, rows, used)
    for block in range(y.columns // y.width):
        products_of_block(rows, inputs.samples[:used], weight_of(network, 0, parameters), block, y, widths.block)
        finish_block(network, parameters, block, y, used, inputs.scale, widths)


def _first_layer_dense(
    inputs: DenseTiles, start: int, used: int, me: int, network: Network, parameters: Any, y: Matrix, widths: Widths
) -> None:
    x = Matrix(inputs.x[me], 0, y.rows, y.width, network.inputs[0])
    gather_tile(inputs.images, inputs.scale, inputs.samples[start : start + used], x, widths.lanes)
    weight, code = weight_of(network, 0, parameters), network.activations[0]
    for block in range(y.columns // y.width):
        forward_panel(x, weight, parameters, network.bias_at[0], y, block, code, 0, used, widths)


first_layer = chosen_by_kind({SparseTiles: _first_layer_sparse, DenseTiles: _first_layer_dense})


@kernel
def forward_tiles(
    side: Side,
    network: Network,
    inputs: Any,
    parameters: Any,
    first_outputs: Any,
    works: Work,
    tile_rows: int,
    logits: Any,
    widths: Widths,
) -> None:
    """Write the logits, (samples, classes), of this thread's share of the samples."""
    me = side.me
    first, work = Matrix(first_outputs[me], 0, tile_rows, network.widths[0], network.units[0]), work_of(works, me)
    begin, end = share(side, logits.shape[0], tile_rows)
    for start in range(begin, end, tile_rows):
        used = min(tile_rows, end - start)
        first_layer(inputs, start, used, me, network, parameters, first, widths)
        result = logits_of(network, parameters, work.outputs, first, 0, used, widths)
        for row in range(used):
            for c in range(network.classes):
                logits[start + row, c] = item(result.buffer, place_of(result, row, c))


def supports_forward(layers: list[Layer], images: npt.NDArray[Any], floats: tuple[Any, ...]) -> bool:
    """Whether the kernels know all layers and the types of their arrays."""
    dtype = layers[0].weight.dtype
    return (
        dtype in floats
        and all(array.dtype == dtype for layer in layers for array in (layer.weight, layer.bias))
        and all(activation_code(layer.activation) is not None for layer in layers)
        and activation_code(layers[-1].activation) == IDENTITY
        and (images.dtype.kind in "iu" or images.dtype in floats)
        and images.dtype.isnative
        and images.shape[1:] == layers[0].weight.shape[:1]
    )


def forward_logits(team: Team, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
    """Return the logits, (samples, classes), of images (samples, features), integers times `scale`."""
    images = np.ascontiguousarray(images)
    dtype, lanes, features = layers[0].weight.dtype, lanes_of(layers[0].weight.dtype), images.shape[1]
    scale = scale if images.dtype.kind in "iu" else 1.0
    is_sparse = density_of(images) < FORWARD_SPARSE_DENSITY
    units = [layer.weight.shape[1] for layer in layers]
    block = lanes * (block_registers(units, features, lanes) if is_sparse else 1)
    layout, widths = Layout(layers, lanes=lanes, block=block, pad_features=not is_sparse), widths_of(dtype, block)
    tile, threads = WIDE_TILE, team.threads
    bounds = chunk_bounds(features, max(-(-features // CHUNK_FEATURES), 1), 1 if is_sparse else lanes)
    samples = np.arange(len(images), dtype=np.int64)
    inputs: SparseTiles | DenseTiles
    if is_sparse:
        room = tile * features + 1
        index = rows_of(threads, room, np.uint16 if features <= 1 << 16 else np.uint32)
        value = rows_of(threads, room, np.uint8 if images.dtype == np.uint8 else dtype)
        starts = rows_of(threads, tile * len(bounds), np.int32)
        inputs = SparseTiles(images, scale, samples, bounds, starts, index, value)
    else:
        x = rows_of(threads, tile * int(layout.network.inputs[0]), dtype)
        inputs = DenseTiles(images, scale, samples, x)
    parameters = aligned(layout.count, dtype)
    layout.pack_parameters(layers, parameters)
    logits = np.empty((len(images), layout.network.classes), dtype=dtype)
    first_outputs = rows_of(threads, tile * int(layout.network.units[0]), dtype)
    works = new_works(layout, tile, threads, dtype)
    with announced("compiling the numba forward pass; cached for the next process"):
        team.run(forward_tiles, layout.network, inputs, parameters, first_outputs, works, tile, logits, widths)
    return logits


def density_of(images: npt.NDArray[Any]) -> float:
    """Return the share of numbers that are not zero in some thousand rows, of all parts of `images`, (samples, ...).

    It is 1 for images that are mapped from a file: their zeros are not skipped.
    """
    if is_mapped(images):
        return 1.0
    sample = images[:: max(len(images) // SAMPLE_ROWS, 1)]  # 1000 to 1999 rows, or all
    return float(np.count_nonzero(sample) / max(sample.size, 1))

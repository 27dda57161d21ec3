"""Logits without training: every thread takes some rows through all layers, with the kernels of the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .numba_compile import kernel
from .numba_compress import chunk_bounds, compressed, entry_counts
from .numba_functions import activation_code
from .numba_inputs import DenseInput, SparseInput, block_forward, prepare
from .numba_lane_types import lanes_of
from .numba_lanes import item
from .numba_layers import Matrix, Widths, place_of, widths_of
from .numba_layout import Layout, aligned
from .numba_network import Network
from .numba_rows import Work, logits_of, work_of
from .numba_schedules import CHUNK_FEATURES, WIDE_TILE, block_registers, new_works, rows_of
from .numba_sparse import Columns
from .numba_team import Side, Team, share
from .plan import Layer

# To list a row's entries costs about as much as 64 units' products: only a sparser one is worth it.
SPARSE_DENSITY = 0.3
# Rows out of which the density is estimated.
SAMPLE = 1000


@kernel
def forward_tiles(
    side: Side,
    network: Network,
    inputs: Any,
    samples: Any,
    parameters: Any,
    first_outputs: Any,
    works: Work,
    tile_rows: int,
    logits: Any,
    widths: Widths,
) -> None:
    """Write the logits, (samples, classes), of this thread's share of the samples, (samples,)."""
    me, units, width = side.me, network.units[0], network.widths[0]
    first, work = Matrix(first_outputs[me], 0, tile_rows, width, units), work_of(works, me)
    start, stop = share(side, samples.shape[0], tile_rows)
    for row in range(start, stop, tile_rows):
        index = samples[row : min(row + tile_rows, stop)]
        used = index.shape[0]
        prepare(inputs, index, me, network, tile_rows, widths)
        for block in range(units // width):
            block_forward(inputs, index, me, network, parameters, block, first, widths)
        result = logits_of(network, parameters, work.outputs, first, 0, used, widths)
        for i in range(used):
            for c in range(network.classes):
                logits[row + i, c] = item(result.buffer, place_of(result, i, c))


def supports_forward(layers: list[Layer], images: npt.NDArray[Any], floats: tuple[Any, ...]) -> bool:
    """Whether the kernels know all layers and the types of their arrays."""
    dtype = layers[0].weight.dtype
    return (
        dtype in floats
        and all(array.dtype == dtype for layer in layers for array in (layer.weight, layer.bias))
        and all(activation_code(layer.activation) is not None for layer in layers)
        and activation_code(layers[-1].activation) == 0
        and (images.dtype.kind in "iu" or images.dtype in floats)
        and images.dtype.isnative
        and images.shape[1:] == layers[0].weight.shape[:1]
    )


def forward_logits(team: Team, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
    """Return the logits, (samples, classes), of images (samples, features), integers times `scale`."""
    images = np.ascontiguousarray(images)
    dtype, lanes, features = layers[0].weight.dtype, lanes_of(layers[0].weight.dtype), images.shape[1]
    scale = scale if images.dtype.kind in "iu" else 1.0
    sample = images[:: max(len(images) // SAMPLE, 1)]
    is_sparse = np.count_nonzero(sample) < SPARSE_DENSITY * sample.size
    block = lanes * (block_registers(-(-layers[0].weight.shape[1] // lanes)) if is_sparse else 1)
    layout, widths = Layout(layers, lanes=lanes, block=block, pad_features=not is_sparse), widths_of(dtype, block)
    tile, threads = WIDE_TILE, team.threads
    bounds = chunk_bounds(features, max(-(-features // CHUNK_FEATURES), 1), 1 if is_sparse else lanes)
    inputs: SparseInput | DenseInput
    if is_sparse:
        rows = compressed(team, images, scale, bounds, entry_counts(team, images, bounds), dtype)
        nothing = (rows_of(threads, 0, kind) for kind in (np.int32, np.uint16, rows.value.dtype))
        inputs = SparseInput(rows, Columns(*nothing), bounds)
    else:
        inputs = DenseInput(images, scale, rows_of(threads, tile * int(layout.network.inputs[0]), dtype), bounds)
    parameters = aligned(layout.count, dtype)
    layout.pack_parameters(layers, parameters)
    logits = np.empty((len(images), layout.network.classes), dtype=dtype)
    first_outputs = rows_of(threads, tile * int(layout.network.units[0]), dtype)
    works = new_works(layout, tile, threads, dtype)
    samples = np.arange(len(images), dtype=np.int64)
    team.run(forward_tiles, layout.network, inputs, samples, parameters, first_outputs, works, tile, logits, widths)
    return logits

"""Logits without training: every thread takes some rows through all layers, with the kernels of the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..mapped import is_mapped
from ..plan import Layer
from .compiler.compile import announced, kernel
from .compiler.lanes import item
from .compiler.team import Side, Team, share
from .compiler.vector_unit import VECTOR_UNIT
from .first_layer.blocks import blocks_forward
from .first_layer.compress import chunk_bounds
from .first_layer.inputs import DenseInput, UnlistedInput, tile_of
from .first_layer.sparse import Sparse
from .network.layout import Layout, aligned, rows_of
from .network.network import Network, Work, output_of, place_of, work_of
from .steps.later_layers import logits_of
from .steps.room import new_works
from .steps.schedules import CHUNK_FEATURES, WIDE_TILE, block_registers

# To list a row's entries costs about as much as 64 units' products: only a sparser one is worth it.
FORWARD_SPARSE_DENSITY = 0.3
SAMPLE_ROWS = 1000


@kernel
def forward_tiles(
    side: Side, network: Network, inputs: Any, samples: Any, parameters: Any, works: Work, logits: Any
) -> None:
    """Write the logits, (samples, classes), of this thread's share of the samples 0, 1, 2, ..., (samples,)."""
    rows, work = works.rows, work_of(works, side.me)
    y = output_of(network, 0, work.outputs, rows)
    begin, end = share(side, logits.shape[0], rows)
    for start in range(begin, end, rows):
        used = min(rows, end - start)
        tile = tile_of(inputs, network, samples[start : start + used], side.me, start // rows, rows)
        blocks_forward(tile, network, parameters, 0, y.columns // y.width, y)
        result = logits_of(network, parameters, work, 0, used)
        for row in range(used):
            for c in range(network.classes):
                logits[start + row, c] = item(result.buffer, place_of(result, row, c))


def forward_logits(team: Team, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
    """Return the logits, (samples, classes), of images (samples, features), integers times `scale`."""
    images = np.ascontiguousarray(images)
    dtype, features = layers[0].weight.dtype, images.shape[1]
    lanes = VECTOR_UNIT.lanes(dtype)
    scale = scale if images.dtype.kind in "iu" else 1.0
    is_sparse = density_of(images) < FORWARD_SPARSE_DENSITY
    units = [layer.weight.shape[1] for layer in layers]
    block = lanes * (block_registers(units, features, lanes) if is_sparse else 1)
    layout = Layout(layers, lanes=lanes, block=block, pad_features=not is_sparse)
    tile, threads = WIDE_TILE, team.threads
    bounds = chunk_bounds(features, max(-(-features // CHUNK_FEATURES), 1), 1 if is_sparse else lanes)
    inputs: UnlistedInput | DenseInput
    if is_sparse:
        entries = tile * features + 1
        index = rows_of(threads, entries, np.uint16 if features <= 1 << 16 else np.uint32)
        value = rows_of(threads, entries, np.uint8 if images.dtype == np.uint8 else dtype)
        rows = Sparse(rows_of(threads, tile * len(bounds), np.int32), index, value, scale, bounds)
        inputs = UnlistedInput(images, rows, np.arange(tile))
    else:
        inputs = DenseInput(images, scale, rows_of(threads, tile * int(layout.network.inputs[0]), dtype), bounds)
    parameters = aligned(layout.count, dtype)
    layout.pack_parameters(layers, parameters)
    logits = np.empty((len(images), layout.network.classes), dtype=dtype)
    works, samples = new_works(layout, tile, threads, dtype), np.arange(len(images), dtype=np.int64)
    with announced("compiling the numba forward pass; cached for the next process"):
        team.run(forward_tiles, layout.network, inputs, samples, parameters, works, logits)
    return logits


def density_of(images: npt.NDArray[Any]) -> float:
    """Return the share of numbers that are not zero in some thousand rows, of all parts of `images`, (samples, ...).

    It is 1 for images that are mapped from a file: their zeros are not skipped.
    """
    if is_mapped(images):
        return 1.0
    sample = images[:: max(len(images) // SAMPLE_ROWS, 1)]  # 1000 to 1999 rows, or all
    return float(np.count_nonzero(sample) / max(sample.size, 1))

"""Compression of images to sparse rows, and the numbers of their entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...mapped import unlocked
from ...sparse_rows import is_sparse
from ..compiler.compile import kernel
from ..compiler.team import Side, Team, share
from .sparse import Sparse


@kernel
def count_entries(side: Side, images: Any, bounds: Any, counts: Any) -> None:
    """Count what is not zero in each chunk of each row: images (samples, features), counts (samples, chunks)."""
    start, stop = share(side, images.shape[0], 1)
    zero = images.dtype.type(0)
    for row in range(start, stop):
        for chunk in range(counts.shape[1]):
            count = 0
            for i in range(bounds[chunk], bounds[chunk + 1]):
                count += images[row, i] != zero
            counts[row, chunk] = count


@kernel
def list_entries(side: Side, images: Any, starts: Any, pitch: int, index: Any, value: Any) -> None:
    """Write each row's features that are not zero, and their values, from where `starts` says."""
    start, stop = share(side, images.shape[0], 1)
    zero = images.dtype.type(0)
    for row in range(start, stop):
        at, end, image = starts[row * pitch], starts[row * pitch + pitch - 1], images[row]  # (features,)
        for i in range(image.shape[0]):
            if at == end:
                break
            index[at] = i  # a zero is overwritten by what comes next: no branch is taken on the images
            value[at] = image[i]
            at += image[i] != zero


def chunk_bounds(features: int, chunks: int, unit: int = 1) -> npt.NDArray[np.int64]:
    """Return the first feature of each chunk, whole units of them and about as many in each, then their number."""
    units = -(-features // unit)
    return np.array([units * chunk // chunks * unit for chunk in range(chunks + 1)])


def compressed(team: Team, images: Any, scale: float, bounds: npt.NDArray[np.int64], dtype: Any) -> Sparse:
    """Return the rows of images (samples, features) as lists of entries.

    Args:
        team: threads that do it.
        images: the rows, dense or in csr format with sorted indices.
        scale: what values are multiplied by.
        bounds: see `chunk_bounds`.
        dtype: type of the values, unless the images are bytes, which they stay.
    """
    (samples, features), chunks = images.shape, len(bounds) - 1
    if is_sparse(images):
        row = np.repeat(np.arange(samples), np.diff(images.indptr))  # (entries,)
        chunk = np.searchsorted(bounds[1:], images.indices, side="right")  # (entries,)
        counts = np.bincount(row * chunks + chunk, minlength=samples * chunks)
    else:
        counts = np.empty((samples, chunks), dtype=np.int32)
        team.run(count_entries, unlocked(images), bounds, counts)
    ends = np.cumsum(counts, dtype=np.int64)
    entries = int(ends[-1]) if ends.size else 0
    starts = np.zeros((samples, chunks + 1), dtype=np.int64 if entries > np.iinfo(np.int32).max else np.int32)
    flat = np.concatenate([np.zeros(1, dtype=starts.dtype), ends.astype(starts.dtype)])
    starts[:, :chunks] = flat[:-1].reshape(samples, chunks)
    starts[:, chunks] = flat[chunks::chunks]
    index_type = np.uint16 if features <= 1 << 16 else np.uint32
    value_type = np.uint8 if images.dtype == np.uint8 else dtype
    if is_sparse(images):
        index, value = images.indices.astype(index_type), images.data.astype(value_type)  # (entries,) each
    else:
        index, value = np.empty(entries, dtype=index_type), np.empty(entries, dtype=value_type)
        team.run(list_entries, unlocked(images), starts.reshape(-1), chunks + 1, index, value)
    return Sparse(starts.reshape(-1), index, value, float(scale), bounds)

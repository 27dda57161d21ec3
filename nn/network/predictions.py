"""Prediction for rows of any library, on the device if they are there, else through the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...backends import DataError
from ...backends.activations import Array
from ..datasets.dataset import Split
from ..datasets.hold import hold_rows
from ..inputs.arguments import refuse_not_finite
from ..inputs.arrays import answer_like, host_array, shape_of_images
from ..inputs.facts import RowFacts
from ..inputs.frames import as_table, with_text_names
from ..inputs.inputs import BYTE, Inputs, Numbers, Pixels
from ..inputs.table import Table
from ..inputs.table_columns import cells_of

if TYPE_CHECKING:
    from .mlp import MLP

LOGGER = logging.getLogger("xpnn")


def answer(net: MLP, images: Any, read: Callable[[Any, Array], Array]) -> Any:
    """Predict for some rows, in the caller's library and on its device.

    Args:
        net: the network.
        images: (samples, columns), (samples, rows, columns) or with one channel more, of any library, or an `nn.Split`.
        read: function from namespace and outputs, (samples, outputs), to the predictions.

    Raises:
        DataError: the images have the wrong shape, or numbers without a meaning.
    """
    backend, inputs = net.backend, (net.inputs or Numbers()).of_width(net.features)
    if isinstance(images, Split):
        images = hold_rows(images, inputs).images  # (samples, columns)
    own = None if isinstance(inputs, Table) else backend.own(images)
    if own is None:
        rows = _host_rows(inputs, images, net)
        return answer_like(images, np.asarray(read(np, backend.logits(net.layers, rows, inputs.scale))))
    with backend.scope():
        rows_there = _own_rows(inputs, own, net)
        result = read(backend.xp, backend.logits_on_device(net.layers, rows_there, inputs.scale))
    return answer_like(images, result)


def _host_rows(inputs: Inputs, images: Any, net: MLP) -> Any:
    """Return the features of rows, (samples, features), sparse or dense."""
    frame = as_table(images)
    if isinstance(inputs, Table) and inputs.is_named and frame is not None:
        rows: Any = cells_of(with_text_names(frame), inputs)  # (samples, columns)
    else:
        rows = host_array(images, what="images", fix="pass equal rows of numbers", keep_sparse=inputs.TAKES_SPARSE)
        if rows.dtype.kind not in "buif":
            raise DataError(f"images must be numbers, got dtype {rows.dtype}{_hint_of(images, '')}")
        rows = _flat(inputs, rows, _hint_of(images))  # (samples, columns)
    if rows.dtype.kind == "f" and rows.dtype.itemsize > 8:  # NumPy's longdouble, which no other library has
        refuse_not_finite(rows, net.dtype)
        rows = rows.astype(np.float64)
    if rows.shape[0]:
        inputs.check(rows, RowFacts(rows), net.dtype)
    for name, count in inputs.unseen(rows).items() if isinstance(inputs, Table) else ():
        LOGGER.warning(
            "column %r has %d cells of a category that no training row had: they are 0 in all its features", name, count
        )
    return inputs.features(rows, net.dtype)


def _own_rows(inputs: Inputs, images: Array, net: MLP) -> Array:
    """Return the features of rows on the device, (samples, features)."""
    backend, xp = net.backend, net.backend.xp
    if not xp.isdtype(images.dtype, ("bool", "integral", "real floating")):
        raise DataError(f"images must be numbers, got dtype {images.dtype}")
    rows = _flat(inputs, images)  # (samples, features)
    dtype = net.layers[0].weight.dtype
    is_byte = isinstance(inputs, Pixels) and rows.dtype == xp.uint8 and inputs.takes_bytes
    if isinstance(inputs, Pixels) and int(rows.shape[0]) and not is_byte and rows.dtype != xp.bool:
        least, most = float(xp.min(rows)), float(xp.max(rows))
        if not (least >= 0 and most <= 1):  # else they are scaled
            host = host_array(rows, what="images", fix="")
            inputs.check(host, RowFacts(host), net.dtype)
        elif xp.isdtype(rows.dtype, "real floating"):
            return xp.astype(rows, dtype)
        return xp.astype(rows, xp.uint8) if most <= BYTE else xp.astype(rows, dtype) * inputs.scale
    if xp.isdtype(rows.dtype, "real floating"):
        rows = xp.astype(rows, dtype, copy=False)
        if not backend.all_finite([rows]):
            refuse_not_finite(host_array(_flat(inputs, images), what="images", fix=""), net.dtype)
    is_scaled_later = isinstance(inputs, Pixels) and rows.dtype == xp.uint8
    return rows if is_scaled_later else xp.astype(rows, dtype, copy=False)


def _hint_of(rows: Any, other: str = "; for one row pass images[None, :]") -> str:
    """Return a hint for a single row: of a frame if it is a series, as `frame.iloc[0]` is, else `other`."""
    return "; for one row of a frame pass frame.iloc[[0]]" if hasattr(rows, "to_frame") else other


def _flat(inputs: Inputs, images: Any, hint: str = "") -> Any:
    """Flatten images to rows of as many numbers as those of the training."""
    shape = shape_of_images(images, what="images")
    if len(shape) == 3:
        shape = shape[0], shape[1] * shape[2]
    if len(shape) != 2 or shape[1] != inputs.width:
        hint = (hint or _hint_of(images)) if len(shape) == 1 else ""
        raise DataError(f"images must have shape (samples, {inputs.width}), got {tuple(map(int, images.shape))}{hint}")
    return images.reshape(shape)  # (samples, columns)

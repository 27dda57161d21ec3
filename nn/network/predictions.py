"""Prediction for rows of any library, on the device if they are there, else through the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...backends import DataError
from ...backends.activations import Array
from ..inputs.arguments import refuse_not_finite
from ..inputs.arrays import answer_like, host_array

if TYPE_CHECKING:
    from .mlp import MLP


def answer(net: MLP, images: Any, read: Callable[[Any, Array], Array]) -> Any:
    """Predict for some rows, in the caller's library and on its device.

    Args:
        net: the network.
        images: (samples, features) or (samples, rows, columns), of any library; see `host_array`.
        read: function from namespace and outputs, (samples, outputs), to the predictions.

    Raises:
        DataError: the images have the wrong shape, or are not finite numbers.
    """
    backend = net.backend
    own = backend.own(images)
    if own is None:
        rows = _host_rows(net, images)
        return answer_like(images, np.asarray(read(np, backend.logits(net.layers, rows, net.input_scale))))
    with backend.scope():
        rows_there = _own_rows(net, own)
        result = read(backend.xp, backend.logits_on_device(net.layers, rows_there, net.input_scale))
    return answer_like(images, result)


def _host_rows(net: MLP, images: Any) -> npt.NDArray[Any]:
    """Check images and flatten pictures to (samples, features)."""
    rows = host_array(images, what="images", fix="pass equal rows of numbers")
    if rows.dtype.kind not in "uif":
        raise DataError(f"images must be numbers, got dtype {rows.dtype}")
    rows = np.asarray(_flat(net, rows))  # (samples, features)
    refuse_not_finite(rows, net.dtype)
    # The longdouble of NumPy is a type that no other library has.
    return rows.astype(np.float64) if rows.dtype.kind == "f" and rows.dtype.itemsize > 8 else rows


def _own_rows(net: MLP, images: Array) -> Array:
    """Check images on the device and flatten pictures to (samples, features)."""
    backend, xp = net.backend, net.backend.xp
    if not xp.isdtype(images.dtype, ("integral", "real floating")):
        raise DataError(f"images must be numbers, got dtype {images.dtype}")
    rows = _flat(net, images)  # (samples, features)
    if xp.isdtype(rows.dtype, "real floating"):
        rows = xp.astype(rows, net.layers[0].weight.dtype, copy=False)
        if not backend.all_finite([rows]):
            refuse_not_finite(host_array(_flat(net, images), what="images", fix=""), net.dtype)
    return rows


def _flat(net: MLP, rows: Any) -> Any:
    """Flatten images to rows of the network's number of features."""
    shape = tuple(map(int, rows.shape))
    if len(shape) == 3:
        shape = shape[0], shape[1] * shape[2]
    if len(shape) != 2 or shape[1] != net.features:
        hint = "; for one row pass images[None, :]" if len(shape) == 1 else ""
        raise DataError(f"images must have shape (samples, {net.features}), got {tuple(map(int, rows.shape))}{hint}")
    return rows.reshape(shape)  # (samples, features)

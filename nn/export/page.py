"""Export to an HTML page that classifies drawings."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DataError
from ...backends.activations import LEAKY_SLOPE
from ..files import limits
from ..files.atomic import write_atomically
from ..inputs.inputs import Pixels
from ..inputs.table import Table
from ..network.mlp import MLP
from ..network.model_file import as_network
from ..pictures import digit_images
from .contents import as_path, describe, finite_parameters

SCRIPTS = ("network.js", "centring.js", "framing.js", "sheet.js", "cells.js", "page.js")  # one after the other
STYLES = ("theme.css", "answer.css", "page.css")
LARGEST = 128 * limits.MIB  # bytes of weights; a browser holds the page's text several times
SHEET_SIDE = 280  # pixels of the sheet's longer side, where the network's own do not ask for more
NARROWEST = 8  # times as high as wide, or as wide as high
SHEET_LIMITS = (120, 1024)  # pixels of either side: room for a finger, and what one frame's time suffices for


def to_html(net: MLP, path: str | os.PathLike[str]) -> None:
    """Export a network to a page on which drawings are centred as by `xpnn predict` and classified immediately.

    The page is a single file that loads and sends nothing, enforced by its Content-Security-Policy. It shows the
    probabilities, the preprocessed input, and the activations of each layer. Scripts can call
    `window.xpnn.predict(pixels)`, with `pixels` (features,) integers as in the training images, for probabilities
    (classes,); `xpnn.layers(pixels)` for the activations; and `xpnn.centre({data, rows, columns})` to preprocess a
    drawing of light ink on black, `data` (rows * columns,) in [0, 255].

    Args:
        net: a network of pixels, on any backend.
        path: the file, replaced atomically.

    Raises:
        DataError: the inputs are not images, their shape is not known, or they are too narrow.
        DivergenceError: a weight is not a finite number.
        StorageError: the file cannot be written; an existing file is left unchanged.
        ConfigError: the network is too large for a page, has no probabilities, or a class name cannot be written.
    """
    write_atomically(as_path(path), html_bytes(net))


def html_bytes(net: MLP) -> bytes:
    """Return the content of the file; see `to_html`."""
    net = as_network(net)
    # In JSON a "<" may be written so too: no name of a class can end the element that holds it.
    data = json.dumps(_network(net)).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    folder = files(__package__)
    scripts = [folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS]
    script = '\n"use strict";\n{\n' + "\n".join(scripts) + "}\n"
    style = "\n" + "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in STYLES)
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = Template(folder.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        policy=policy,
        title="Draw a digit" if sorted(net.names) == list("0123456789") else "Draw a picture",
        sizes=html.escape("-".join(map(str, net.sizes))),
        style=style,
        data=data,
        script=script,
    )
    return page.encode()


def _network(net: MLP) -> dict[str, Any]:
    """Return the network as read by `network.js`."""
    inputs = net.inputs
    if not isinstance(inputs, Pixels):
        rows = f"a table of {inputs.width} columns" if isinstance(inputs, Table) else f"rows of {net.features} features"
        raise DataError(
            f"the network was not trained on images, but on {rows}, which cannot be drawn: export it as .onnx or .npz"
        )
    if inputs.shape is None:
        raise DataError(
            f"the shape of the network's images of {net.features} pixels is not known: train it on data with "
            "image_shape=(rows, columns), or export it as .onnx or .npz"
        )
    if max(inputs.shape) > NARROWEST * min(inputs.shape):
        raise DataError(
            f"images of {inputs.shape[0]} x {inputs.shape[1]} pixels are too narrow to draw: export the network "
            "as .onnx or .npz"
        )
    largest = round(inputs.largest)  # the value of full ink in the training images
    digit_images.scale_to(np.zeros(1, dtype=np.uint8), largest)  # a wrong one is told as by `xpnn predict`
    if not net.outputs.has_probabilities:
        raise ConfigError(
            f"a page shows probabilities, and a network of loss {net.loss} has none: export it as .onnx or .npz"
        )
    if (size := net.num_parameters * np.dtype(net.dtype).itemsize) > LARGEST:
        raise ConfigError(
            f"the network has {size:,} bytes of weights, more than the {LARGEST:,} that a page holds: "
            "export it as .onnx or .npz"
        )
    parameters = finite_parameters(net)
    return {
        **describe(net),
        "names": list(net.names),
        "leaky_slope": LEAKY_SLOPE,
        "largest": largest,
        "sheet_shape": sheet_shape(inputs.shape),
        "centring": {
            "box": digit_images.content_box(inputs.shape),
            "min_contrast": digit_images.MIN_CONTRAST,
            "edge": digit_images.EDGE,
            "dust": digit_images.DUST,
            "thin_stroke": digit_images.THIN_STROKE,
            "pen_width": digit_images.PEN_WIDTH,
            "small_side": digit_images.SMALL_SIDE,
        },
        "layers": [
            {part: _base64(parameters[f"layers.{k}.{part}"]) for part in ("weight", "bias")}
            for k in range(len(net.layers))
        ],
    }


def sheet_shape(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of the drawing sheet, in the image's proportions and a higher resolution if possible."""
    longest, shortest = max(image_shape), min(image_shape)
    scale = max(SHEET_SIDE / longest, 2 * longest / shortest)  # `centring.js` has enough of twice the longest side
    rows, columns = (min(max(round(side * scale), SHEET_LIMITS[0]), SHEET_LIMITS[1]) for side in image_shape)
    return rows, columns


def _base64(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _digest(text: str) -> str:
    """Return the hash of an inline script or style for the page's policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")

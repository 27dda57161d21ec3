"""Export to `.npz`, for programs with NumPy alone."""

from __future__ import annotations

import io
import json
import os

import numpy as np

from ..files.atomic import write_atomically
from ..network.mlp import MLP
from .contents import as_path, check_network, describe, finite_parameters


def to_npz(net: MLP, path: str | os.PathLike[str]) -> None:
    """Export a network to `.npz`: weights by name and a JSON `description`, without pickled objects.

    The arrays are `layers.<k>.weight` (in_features, out_features) and `layers.<k>.bias` (out_features,). The
    description has `sizes`, `activation` of the hidden layers, `output` (softmax, sigmoid or identity, of the last
    layer's outputs), `dtype`, `input_scale`, `class_names`, `image_shape` and `xpnn_version`. The forward pass of a
    network 784-256-10 with relu, in plain NumPy, for `images` (samples, 784)::

        file = np.load("net.npz")
        about = json.loads(str(file["description"]))
        x = images * about["input_scale"]  # integers; floating images are taken as they are
        hidden = np.maximum(x @ file["layers.0.weight"] + file["layers.0.bias"], 0)  # (samples, 256)
        logits = hidden @ file["layers.1.weight"] + file["layers.1.bias"]  # (samples, 10)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))  # (samples, 10)
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)  # (samples, 10)

    Args:
        net: the network, on any backend.
        path: the file, replaced atomically.

    Raises:
        DivergenceError: a weight is not a finite number.
        StorageError: the file cannot be written; an existing file is left unchanged.
        ConfigError: the network or the path is invalid, or a class name cannot be written.
    """
    write_atomically(as_path(path), npz_bytes(net))


def npz_bytes(net: MLP) -> bytes:
    """Return the content of the file; see `to_npz`."""
    about = json.dumps(describe(check_network(net)), ensure_ascii=False)
    content = io.BytesIO()
    # the names are one text: an array of texts would give each the room of the longest
    np.savez(content, **finite_parameters(net), description=np.array(about))  # type: ignore[arg-type]
    return content.getvalue()

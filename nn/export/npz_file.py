"""Export to `.npz`, for programs with NumPy alone."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import numpy.typing as npt

from ..files.atomic import write_atomically
from ..inputs.table import Table
from ..network.mlp import MLP
from ..network.model_file import Estimator, as_network
from .contents import as_path, describe, finite_parameters


def to_npz(net: MLP | Estimator, path: str | os.PathLike[str]) -> None:
    """Export a network to `.npz`: weights by name and a JSON `description`, without pickled objects.

    The arrays are `layers.<k>.weight` (in_features, out_features) and `layers.<k>.bias` (out_features,). The
    description has `sizes`, `activation` of the hidden layers, `output` (softmax, sigmoid, identity or exp, of the last
    layer's outputs), `dtype`, `inputs`, `class_names`, `image_shape` and `xpnn_version`. `inputs` has the `kind` of
    the rows:

    - "pixels": whole numbers that are multiplied by the description's `input_scale`;
    - "table": `columns` in their order, each with `name`, `kind` ("truth", "category", or a number if it has none),
      the `levels` of a category, and `has_flag` if a last feature is 1 where the value is missing. The arrays
      `columns.mean`, `columns.std` and `columns.fill`, (columns,), have what numbers are standardized by, and what
      stands for a missing value (NaN: nothing does). A category has a feature for each level, 1 for its own. The
      description's `feature_names` are the names of all features;
    - "numbers": taken as they are.

    The forward pass of a network 784-256-10 with relu, in plain NumPy, for `images` (samples, 784)::

        file = np.load("net.npz")
        about = json.loads(str(file["description"]))
        x = images * about["input_scale"]  # integers; floating images are taken as they are
        hidden = np.maximum(x @ file["layers.0.weight"] + file["layers.0.bias"], 0)  # (samples, 256)
        logits = hidden @ file["layers.1.weight"] + file["layers.1.bias"]  # (samples, 10)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))  # (samples, 10)
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)  # (samples, 10)

    That of a network 8-16-1 for the squared error, for the `cells` (samples, 8) of a table of numbers. The arrays
    `target.mean` and `target.std`, (outputs,), are there if `inputs` has a `target`, for the labels' units::

        file = np.load("table.npz")
        cells = np.where(np.isnan(cells), file["columns.fill"], cells)  # (samples, 8)
        x = (cells - file["columns.mean"]) / file["columns.std"]  # (samples, 8)
        hidden = np.maximum(x @ file["layers.0.weight"] + file["layers.0.bias"], 0)  # (samples, 16)
        outputs = hidden @ file["layers.1.weight"] + file["layers.1.bias"]  # (samples, 1)
        predictions = outputs * file["target.std"] + file["target.mean"]  # (samples, 1)

    Args:
        net: the network, on any backend, or a fitted estimator of `xpnn.nn.estimator`.
        path: the file, replaced atomically.

    Raises:
        DivergenceError: a weight is not a finite number.
        StorageError: the file cannot be written; an existing file is left unchanged.
        ConfigError: the network or the path is invalid, or a class name cannot be written.
    """
    write_atomically(as_path(path), npz_bytes(net))


def npz_bytes(net: MLP | Estimator) -> bytes:
    """Return the content of the file; see `to_npz`."""
    net = as_network(net)
    about = json.dumps(describe(net), ensure_ascii=False)
    content = io.BytesIO()
    # the names are one text: an array of texts would give each the room of the longest
    np.savez(content, **finite_parameters(net), **_preparation(net), description=np.array(about))  # type: ignore[arg-type]
    return content.getvalue()


def _preparation(net: MLP) -> dict[str, npt.NDArray[np.float64]]:
    """Return what the numbers of a table, and the labels of a regression, are standardized by."""
    arrays = {}
    inputs = net.inputs
    if isinstance(inputs, Table):
        fills = [np.nan if column.fill is None else column.fill for column in inputs.columns]
        arrays["columns.mean"] = [column.mean for column in inputs.columns]
        arrays["columns.std"] = [column.std for column in inputs.columns]
        arrays["columns.fill"] = fills
    if inputs is not None and inputs.target is not None:
        arrays |= {"target.mean": list(inputs.target.mean), "target.std": list(inputs.target.std)}
    return {name: np.array(values, dtype="<f8") for name, values in arrays.items()}

"""Export to ONNX."""

from __future__ import annotations

import json
import os

import numpy as np

from ...backends import ConfigError, MissingDependency, look_up
from ...backends.activations import LEAKY_SLOPE
from ..files.atomic import write_atomically
from ..inputs.inputs import Pixels
from ..inputs.table import Table
from ..network.mlp import MLP
from ..network.model_file import Estimator, as_network
from .contents import as_path, describe, finite_parameters
from .onnx_graph import OnnxGraph, Shape
from .onnx_inputs import add_features, input_columns

OPSET = 13  # the first in which Softmax is over the last axis alone
ML_OPSET = 2  # of the same release, ONNX 1.8
IR_VERSION = 7  # likewise; later readers take all of them
LARGEST = 2**31 - 2**20  # bytes; protobuf ends at 2 GiB

# activation: (operator, inputs, output) of its nodes, from `x` to `y`; `slope` is a constant of the network's type.
# LeakyRelu holds its slope in float32, and onnxruntime has none for float64.
ACTIVATION_NODES: dict[str, tuple[tuple[str, tuple[str, ...], str], ...]] = {
    "identity": (("Identity", ("x",), "y"),),
    "relu": (("Relu", ("x",), "y"),),
    "leaky_relu": (("Mul", ("x", "slope"), "sloped"), ("Max", ("x", "sloped"), "y")),
    "tanh": (("Tanh", ("x",), "y"),),
    "sigmoid": (("Sigmoid", ("x",), "y"),),
}
INPUT_TYPES = ("auto", "uint8", "uint16", "float")


def to_onnx(net: MLP | Estimator, path: str | os.PathLike[str], *, input_type: str = "auto") -> None:
    """Export a network as an ONNX model (opset 13, ai.onnx.ml 2), which takes any number of rows as they come.

    The inputs of a network

    - of pixels: `images` (batch, features), uint8 or uint16, which the model scales;
    - of a table: `numbers` (batch, columns), float64, the columns of numbers and truth values (0 or 1) in their order,
      NaN for a missing value; and `categories` (batch, columns), texts, "" for a missing one. One of them is left out
      if it has no columns. The model standardizes, fills and encodes; a level that no training row has counts for
      nothing. A whole number that is a category is its text without a fraction, "3";
    - of other rows: `images` (batch, features) of the network's dtype, taken as they are.

    The outputs are `probabilities` (batch, classes), in the network's dtype; `logits` (batch, classes); `label`
    (batch,), int64, the most probable class. For the loss sigmoid_cross_entropy, `label` is (batch, outputs), 1 for
    probabilities above 1/2; for a regression the only output is `predictions` (batch, outputs), in the labels' units.

    The metadata are JSON: those of `to_npz`'s description, with the names of the classes, and the kind and the levels
    of each column of a table; and `input_columns`, the names of the columns in `numbers` and `categories`.

    Args:
        net: the network, on any backend, or a fitted estimator of `xpnn.nn.estimator`.
        path: the file, replaced atomically.
        input_type: type of `images`: "uint8" or "uint16" for pixels as in files, "float" for rows of the network's
            dtype, of pixels already scaled to [0, 1]; "auto" for the smallest that holds the network's pixels, and
            "float" if it takes other rows.

    Raises:
        MissingDependency: the package onnx is not installed.
        DivergenceError: a weight is not a finite number.
        StorageError: the file cannot be written; an existing file is left unchanged.
        ConfigError: an argument is invalid, or the network exceeds the size limit of ONNX files.
    """
    write_atomically(as_path(path), onnx_bytes(net, input_type=input_type))


def onnx_bytes(net: MLP | Estimator, *, input_type: str = "auto") -> bytes:
    """Return the content of the file; see `to_onnx`."""
    net = as_network(net)
    taken = model_inputs(net, input_type)
    if (size := net.num_parameters * np.dtype(net.dtype).itemsize) > LARGEST:
        raise ConfigError(
            f"the network has {size:,} bytes of weights, and an ONNX file holds {LARGEST:,}: export it as .npz"
        )
    try:
        from onnx import helper
    except ImportError as error:
        raise MissingDependency('writing ONNX needs the package onnx: pip install "xpnn[onnx]"') from error
    graph = OnnxGraph(net.dtype)
    given = add_outputs(graph, net, add_layers(graph, net, *add_features(graph, net, taken)))
    opsets = [helper.make_opsetid("", OPSET)]
    about = describe(net)
    if isinstance(net.inputs, Table):
        about["input_columns"] = input_columns(net.inputs)
        opsets += [helper.make_opsetid("ai.onnx.ml", ML_OPSET)] * ("categories" in taken)
    model = helper.make_model(
        graph.finish({name: (dtype, ["batch", columns]) for name, (dtype, columns) in taken.items()}, given),
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="xpnn",
        producer_version=about["xpnn_version"],
    )
    helper.set_model_props(model, {name: json.dumps(value, ensure_ascii=False) for name, value in about.items()})
    content: bytes = model.SerializeToString()
    return content


def model_inputs(net: MLP, input_type: str = "auto") -> dict[str, tuple[str, int]]:
    """Return dtype and number of columns of each input of the model by its name; see `to_onnx`.

    Raises:
        ConfigError: `input_type` is invalid.
    """
    if input_type not in INPUT_TYPES:
        raise ConfigError(f"input_type must be one of {', '.join(INPUT_TYPES)}, got {input_type!r:.80}")
    if isinstance(net.inputs, Table):
        if input_type != "auto":
            raise ConfigError(
                f"input_type must be auto for a network that takes the columns of a table, got {input_type!r}: export "
                "it without"
            )
        counts = {name: len(columns) for name, columns in input_columns(net.inputs).items()}
        dtypes = {"numbers": "float64", "categories": "string"}
        return {name: (dtypes[name], count) for name, count in counts.items()}
    dtype = _pixel_type(net) if input_type == "auto" else input_type
    return {"images": (net.dtype if dtype == "float" else dtype, net.features)}


def _pixel_type(net: MLP) -> str:
    """Return the smallest type of whole numbers for the network's pixels; "float" if it takes others."""
    if not isinstance(net.inputs, Pixels):
        return "float"
    types = (name for name in ("uint8", "uint16") if net.inputs.largest <= np.iinfo(name).max)
    return next(types, "float")


def add_layers(graph: OnnxGraph, net: MLP, x: str, first_weight: str) -> str:
    """Add the nodes from the features, `x`, to the last layer's outputs, and return the name of these."""
    activation = look_up("activation", net.activation, ACTIVATION_NODES)
    if len(net.layers) > 1 and any("slope" in inputs for _, inputs, _ in activation):
        graph.constant("slope", LEAKY_SLOPE)
    for name, array in finite_parameters(net).items():
        graph.constant(name, array)
    last = len(net.layers) - 1
    weights = [first_weight, *(f"layers.{k}.weight" for k in range(1, last + 1))]
    for k in range(last):
        # (batch, out_features) = (batch, in_features) @ (in_features, out_features) + (out_features,)
        names = {"x": f"layers.{k}.sums", "sloped": f"layers.{k}.sloped", "y": f"layers.{k}.activations"}
        graph.add("Gemm", [x, weights[k], f"layers.{k}.bias"], names["x"])
        for operator, inputs, result in activation:
            graph.add(operator, [names.get(name, name) for name in inputs], names[result])
        x = names["y"]
    result = "logits" if net.outputs.has_probabilities else "outputs" if _conversions(net) else "predictions"
    return graph.add("Gemm", [x, weights[last], f"layers.{last}.bias"], result)


def _conversions(net: MLP) -> list[tuple[str, tuple[float, ...] | None, str]]:
    """Return operator, operand and its name for each step from a regression's outputs to its predictions."""
    target = None if net.inputs is None else net.inputs.target
    steps: list[tuple[str, tuple[float, ...] | None, str]] = [("Exp", None, "")] * (net.outputs.function == "exp")
    if target is not None:
        steps += [("Mul", target.std, "target.std"), ("Add", target.mean, "target.mean")]
    return steps


def add_outputs(graph: OnnxGraph, net: MLP, x: str) -> dict[str, tuple[str, Shape]]:
    """Add the nodes from the last layer's outputs, `x`; return dtype and shape of the model's outputs by name."""
    shape: Shape = ["batch", net.num_outputs]
    label_shape = shape
    if not net.outputs.has_probabilities:
        steps = _conversions(net)
        for k, (operator, operand, name) in enumerate(steps, start=1):
            inputs = [x] if operand is None else [x, graph.constant(name, operand)]
            x = graph.add(operator, inputs, "predictions" if k == len(steps) else f"outputs.{operator}")
        return {"predictions": (net.dtype, shape)}
    if net.outputs.function == "softmax":
        graph.add("Softmax", [x], "probabilities", axis=-1)
        graph.add("ArgMax", [x], "label", axis=-1, keepdims=0)
        label_shape = ["batch"]
    else:
        graph.add("Sigmoid", [x], "probabilities")
        graph.cast(graph.add("Greater", [x, graph.constant("zero", 0)], "is_positive"), "label", "int64")
    return {"probabilities": (net.dtype, shape), "logits": (net.dtype, shape), "label": ("int64", label_shape)}

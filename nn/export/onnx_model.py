"""Export to ONNX."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np

from ...backends import ConfigError, MissingDependency, look_up
from ...backends.activations import LEAKY_SLOPE
from ..files.atomic import write_atomically
from ..network.mlp import MLP
from .contents import as_path, check_network, describe, finite_parameters, output_function

if TYPE_CHECKING:
    from onnx import NodeProto

OPSET = 13  # the first in which Softmax is over the last axis alone
IR_VERSION = 7  # of the same release, ONNX 1.8; later readers take both
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
INPUT_TYPES = ("auto", "uint8", "float")


def to_onnx(net: MLP, path: str | os.PathLike[str], *, input_type: str = "auto") -> None:
    """Export a network as an ONNX model (opset 13) with input `images` (batch, features), for any number of rows.

    Outputs: `probabilities` (batch, classes), in the network's dtype; `logits` (batch, classes); `label` (batch,),
    int64, the most probable class. For the loss sigmoid_cross_entropy, `label` is (batch, outputs), 1 for
    probabilities above 1/2; for squared_error the only output is `predictions` (batch, outputs). Class names and
    image shape are in the metadata as JSON.

    Args:
        net: the network, on any backend.
        path: the file, replaced atomically.
        input_type: "uint8" for raw pixels, which the model multiplies by `net.input_scale`; "float" for rows of the
            network's dtype, already scaled; "auto" for the type of the training data: "uint8", or "float" if
            `net.input_scale` is 1.

    Raises:
        MissingDependency: the package onnx is not installed.
        DivergenceError: a weight is not a finite number.
        StorageError: the file cannot be written; an existing file is left unchanged.
        ConfigError: an argument is invalid, or the network exceeds the size limit of ONNX files.
    """
    write_atomically(as_path(path), onnx_bytes(net, input_type=input_type))


def onnx_bytes(net: MLP, *, input_type: str = "auto") -> bytes:
    """Return the content of the file; see `to_onnx`."""
    takes_bytes = input_dtype(check_network(net), input_type) == "uint8"
    if (size := net.num_parameters * np.dtype(net.dtype).itemsize) > LARGEST:
        raise ConfigError(
            f"the network has {size:,} bytes of weights, and an ONNX file holds {LARGEST:,}: export it as .npz"
        )
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingDependency('writing ONNX needs the package onnx: pip install "xpnn[onnx]"') from error
    own = TensorProto.DOUBLE if net.dtype == "float64" else TensorProto.FLOAT
    output, about, number = output_function(net), describe(net), np.dtype(net.dtype).type
    constants = {"input_scale": number(net.input_scale), "slope": number(LEAKY_SLOPE), "zero": number(0)}
    arrays = {**finite_parameters(net), **{name: np.array(value) for name, value in constants.items()}}
    nodes = _nodes(net, takes_bytes=takes_bytes, output=output)
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used]
    taken = TensorProto.UINT8 if takes_bytes else own
    shape: list[str | int | None] = ["batch", net.num_outputs]
    label_shape: list[str | int | None] = ["batch"] if output == "softmax" else shape
    given: dict[str, tuple[int, list[str | int | None]]] = {"predictions": (own, shape)}
    if output != "identity":
        given = {"probabilities": (own, shape), "logits": (own, shape), "label": (TensorProto.INT64, label_shape)}
    graph = helper.make_graph(
        nodes,
        "xpnn",
        [helper.make_tensor_value_info("images", taken, ["batch", net.features])],
        [helper.make_tensor_value_info(name, kind, sides) for name, (kind, sides) in given.items()],
        tensors,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="xpnn",
        producer_version=about["xpnn_version"],
    )
    helper.set_model_props(model, {name: json.dumps(value, ensure_ascii=False) for name, value in about.items()})
    content: bytes = model.SerializeToString()
    return content


def input_dtype(net: MLP, input_type: str = "auto") -> str:
    """Return the NumPy dtype of the model's input `images`; see `to_onnx`.

    Raises:
        ConfigError: `input_type` is invalid.
    """
    if input_type not in INPUT_TYPES:
        raise ConfigError(f"input_type must be one of {', '.join(INPUT_TYPES)}, got {input_type!r:.80}")
    if input_type == "auto":
        input_type = "float" if net.input_scale == 1 else "uint8"
    return "uint8" if input_type == "uint8" else net.dtype


def _nodes(net: MLP, *, takes_bytes: bool, output: str) -> list[NodeProto]:
    """Return the nodes of the graph, from `images` to the outputs."""
    from onnx import TensorProto, helper

    own = TensorProto.DOUBLE if net.dtype == "float64" else TensorProto.FLOAT
    activation = look_up("activation", net.activation, ACTIVATION_NODES)
    nodes = []
    x = "images"  # (batch, features)
    if takes_bytes:
        nodes += [
            helper.make_node("Cast", ["images"], ["pixels"], to=own),
            helper.make_node("Mul", ["pixels", "input_scale"], ["features"]),
        ]
        x = "features"
    last = len(net.layers) - 1
    for k in range(last):
        # (batch, out_features) = (batch, in_features) @ (in_features, out_features) + (out_features,)
        names = {"x": f"layers.{k}.sums", "sloped": f"layers.{k}.sloped", "y": f"layers.{k}.activations"}
        nodes.append(helper.make_node("Gemm", [x, f"layers.{k}.weight", f"layers.{k}.bias"], [names["x"]]))
        for operator, inputs, result in activation:
            nodes.append(helper.make_node(operator, [names.get(name, name) for name in inputs], [names[result]]))
        x = names["y"]
    result = "predictions" if output == "identity" else "logits"
    nodes.append(helper.make_node("Gemm", [x, f"layers.{last}.weight", f"layers.{last}.bias"], [result]))
    if output == "softmax":
        nodes += [
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=-1, keepdims=0),
        ]
    elif output == "sigmoid":
        nodes += [
            helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
            helper.make_node("Greater", ["logits", "zero"], ["is_positive"]),
            helper.make_node("Cast", ["is_positive"], ["label"], to=TensorProto.INT64),
        ]
    return nodes

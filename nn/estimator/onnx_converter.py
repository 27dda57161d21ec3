"""Converters of the estimators for skl2onnx, alone and within pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..export.onnx_graph import OnnxGraph
from ..export.onnx_model import add_layers, add_outputs
from .base import BaseMLP
from .classifier import MLPClassifier
from .regressor import MLPRegressor

OPTIONS = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [True, False]}


def register() -> None:
    """Register the converters, as `skl2onnx.update_registered_converter` documents."""
    from skl2onnx import update_registered_converter

    for estimator, options in ((MLPClassifier, OPTIONS), (MLPRegressor, None)):
        name = f"Xpnn{estimator.__name__}"
        update_registered_converter(estimator, name, set_output_types, convert, options=options)


def set_output_types(operator: Any) -> None:
    """Set types and shapes of an operator's outputs: labels and probabilities, or predictions."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

    estimator, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    numbers = DoubleTensorType if _dtype(operator) == "float64" else FloatTensorType
    if isinstance(estimator, MLPRegressor):
        operator.outputs[0].set_type(numbers([rows, estimator.n_outputs_]))
        return
    classes = _classes(operator.scope_inst, estimator)
    labels = StringTensorType if classes.dtype == object else Int64TensorType
    operator.outputs[0].set_type(labels([rows, len(classes)] if estimator._is_multilabel else [rows]))
    operator.outputs[1].set_type(numbers([rows, len(classes)]))


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the network's nodes: in float64 for inputs of that type, else in float32, as skl2onnx's own converters do."""
    estimator: BaseMLP = operator.raw_operator
    graph, net = OnnxGraph(_dtype(operator)), estimator.to_mlp(backend="numpy")
    inputs = [f"inputs.{k}" for k in range(len(operator.inputs))]  # (batch, columns) each
    x = graph.concat([graph.cast(name, f"{name}.numbers") for name in inputs], "features")  # (batch, features)
    outputs = [*add_outputs(graph, net, add_layers(graph, net, x, "layers.0.weight"))]
    if isinstance(estimator, MLPClassifier):
        label = "label"
        if not estimator._is_multilabel:
            classes = _classes(scope, estimator)
            label = graph.add("Gather", [graph.constant("classes", classes, classes.dtype.name), label], "class")
        outputs = [label, "probabilities"]
    _add(graph, container, scope, _names(inputs, operator.inputs) | _names(outputs, operator.outputs))


def _names(ours: list[str], theirs: list[Any]) -> dict[str, str]:
    return {name: variable.full_name for name, variable in zip(ours, theirs, strict=True)}


def _add(graph: OnnxGraph, container: Any, scope: Any, names: dict[str, str]) -> None:
    """Add a graph's nodes and constants to skl2onnx's container, renamed by `names`, or else to unique names."""
    from onnx import helper

    made = graph.finish({}, {})
    for name in (*(tensor.name for tensor in made.initializer), *(node.output[0] for node in made.node)):
        if name not in names:
            names[name] = scope.get_unique_variable_name(name)
    for tensor in made.initializer:
        tensor.name = names[tensor.name]
        container.initializers.append(tensor)
    for node in made.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        inputs, outputs = [names[name] for name in node.input], [names[name] for name in node.output]
        name = scope.get_unique_operator_name(node.op_type)
        container.add_node(node.op_type, inputs, outputs, name=name, **attributes)


def _dtype(operator: Any) -> str:
    """Return the dtype of an operator's arithmetic."""
    from skl2onnx.common.data_types import DoubleTensorType

    return "float64" if any(isinstance(each.type, DoubleTensorType) for each in operator.inputs) else "float32"


def _classes(scope: Any, estimator: MLPClassifier) -> npt.NDArray[Any]:
    """Return the classes, (classes,), int64 or strings; their indices with the option `nocl`."""
    from skl2onnx.common.utils_classifier import get_label_classes

    classes = get_label_classes(scope, estimator)
    return np.asarray(classes, dtype=object if isinstance(classes[0], str) else np.int64)

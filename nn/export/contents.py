"""What every export holds: finite weights, and all that is needed to read them rightly."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DivergenceError, look_up
from ...backends.finite import first_not_finite
from ..files.text import is_plain
from ..network.mlp import MLP

# loss: what is made of the last layer's outputs
OUTPUT_FUNCTIONS = {
    "softmax_cross_entropy": "softmax",
    "sigmoid_cross_entropy": "sigmoid",
    "squared_error": "identity",
}


def check_network(net: object) -> MLP:
    """Return the network if it can be exported.

    Raises:
        ConfigError: it is none, or a class name has characters that no file can hold.
    """
    if not isinstance(net, MLP):
        raise ConfigError(f"the network must be an nn.MLP, got {type(net).__name__}: nn.load(path) gives one")
    if bad := [name for name in net.class_names or () if not is_plain(name)]:
        raise ConfigError(f"class names must be without control characters, got {bad[0]!r:.80}: rename the class")
    return net


def finite_parameters(net: MLP) -> dict[str, npt.NDArray[Any]]:
    """Return host copies of weights and biases, named and shaped as by `MLP.parameters`, little-endian.

    Raises:
        DivergenceError: one is no finite number.
    """
    parameters = net.parameters()
    if place := first_not_finite(parameters):
        raise DivergenceError(f"the network is not exported, because of {place}: export the last good one")
    return {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for name, array in parameters.items()}


def output_function(net: MLP) -> str:
    """Return what is made of the last layer's outputs: "softmax", "sigmoid" or "identity"."""
    return look_up("loss", net.loss, OUTPUT_FUNCTIONS)


def describe(net: MLP) -> dict[str, Any]:
    """Return what the arrays alone do not say, as values for JSON."""
    return {
        "sizes": list(net.sizes),
        "activation": net.activation,
        "output": output_function(net),
        "dtype": net.dtype,
        "input_scale": net.input_scale,
        "class_names": None if net.class_names is None else list(net.class_names),
        "image_shape": None if net.image_shape is None else list(net.image_shape),
        "xpnn_version": version("xpnn"),
    }


def as_path(path: object) -> Path:
    """Return the path of a file.

    Raises:
        ConfigError: it is no path.
    """
    if not isinstance(path, str | os.PathLike) or not Path(path).name:
        raise ConfigError(f"a file to write must be a path, got {path!r:.80}")
    return Path(path)

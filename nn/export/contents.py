"""Common contents of exports: finite weights and their description."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DivergenceError
from ...backends.finite import first_not_finite
from ..inputs.inputs import Pixels
from ..inputs.table import Table
from ..network.mlp import MLP


def finite_parameters(net: MLP) -> dict[str, npt.NDArray[Any]]:
    """Return little-endian host copies of weights and biases, named as in `MLP.parameters`.

    Raises:
        DivergenceError: a number is not finite.
    """
    parameters = net.parameters()
    if place := first_not_finite(parameters):
        raise DivergenceError(f"the network is not exported, because of {place}: export the last good one")
    return {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for name, array in parameters.items()}


def describe(net: MLP) -> dict[str, Any]:
    """Return the description of a network as JSON values; a scale has meaning for pixels alone, names for a table."""
    return {
        "sizes": list(net.sizes),
        "activation": net.activation,
        "output": net.outputs.function,
        "dtype": net.dtype,
        "inputs": None if net.inputs is None else net.inputs.settings(),
        **({"input_scale": net.input_scale} if isinstance(net.inputs, Pixels) else {}),
        **({"feature_names": list(net.inputs.feature_names)} if isinstance(net.inputs, Table) else {}),
        "class_names": None if net.class_names is None else list(net.class_names),
        "image_shape": None if net.image_shape is None else list(net.image_shape),
        "xpnn_version": version("xpnn"),
    }


def as_path(path: object) -> Path:
    """Convert to a path.

    Raises:
        ConfigError: it is not a path.
    """
    if not isinstance(path, str | os.PathLike) or not Path(path).name:
        raise ConfigError(f"a file to write must be a path, got {path!r:.80}")
    return Path(path)

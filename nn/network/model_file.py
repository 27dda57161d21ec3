"""Saving and loading of networks."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ...backends import Backend, ConfigError, DivergenceError, ModelFileError, get_backend
from ...backends.constraints import is_finite_number
from ...backends.finite import first_not_finite
from ..files.tensors import read_tensors, write_tensors
from ..files.text import is_plain, reason_of
from ..inputs.inputs import Inputs, Numbers, Pixels, check_names, check_target
from ..inputs.table import Table
from .mlp import MLP

KIND = "model"


@runtime_checkable
class Estimator(Protocol):
    """A fitted estimator of `xpnn.nn.estimator`, which is saved and exported as a network."""

    def to_mlp(self, *, backend: str | Backend | None = None) -> MLP:
        """Return the network."""


def as_network(given: object) -> MLP:
    """Return a network that can be written, or that of an estimator.

    Raises:
        ConfigError: it is neither, or a name has control characters.
    """
    net = given.to_mlp(backend="numpy") if isinstance(given, Estimator) else given
    if not isinstance(net, MLP):
        raise ConfigError(
            f"the network must be an nn.MLP, got {type(given).__name__}: nn.load(path) gives one, and so does to_mlp() "
            "of an estimator of xpnn.nn.estimator"
        )
    if bad := [name for name in net.class_names or () if not is_plain(name)]:
        raise ConfigError(f"class names must be without control characters, got {bad[0]!r:.80}: rename the class")
    return net


def save(net: MLP | Estimator, path: str | os.PathLike[str]) -> None:
    """Save a network as safetensors: weights by name, and everything else in the file's description.

    Args:
        net: the network, or a fitted estimator of `xpnn.nn.estimator`, which `load` gives back as a network.
        path: the file, replaced atomically.

    Raises:
        StorageError: the file cannot be written; an existing file is left unchanged.
        DivergenceError: a weight is not finite; likewise.
        ConfigError: a class name contains control characters.
    """
    net = as_network(net)
    parameters = net.parameters()
    if place := first_not_finite(parameters):
        raise DivergenceError(f"{path} is not written, because of {place}: save the last good network")
    description = {
        "kind": KIND,
        "sizes": net.sizes,
        "activation": net.activation,
        "loss": net.loss,
        "initializer": net.initializer,
        "dtype": net.dtype,
        "inputs": None if net.inputs is None else net.inputs.settings(),
    }
    write_tensors(_as_path(path), parameters, description)


def load(path: str | os.PathLike[str], *, backend: str | Backend = "auto") -> MLP:
    """Load a saved network, trained on any backend.

    Raises:
        ModelFileError: the file is missing, damaged or inconsistent.
        BackendUnavailable: the backend is not available on this machine.
    """
    backend = get_backend(backend)  # a wrong name is not the file's fault
    arrays, description = read_tensors(_as_path(path), KIND)
    try:
        _check(arrays, description)
        net = MLP(
            description["sizes"],
            activation=description["activation"],
            loss=description.get("loss", "softmax_cross_entropy"),  # the only one that there was
            initializer=description["initializer"],
            dtype=description["dtype"],
            backend=backend,
            parameters=[(arrays[f"layers.{k}.weight"], arrays[f"layers.{k}.bias"]) for k in range(len(arrays) // 2)],
        )
        net.inputs = inputs_from(description, net)
    except (ConfigError, KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise ModelFileError(f"{path} is damaged or was written by another version: {reason_of(error)}") from error
    return net


def _as_path(path: object) -> Path:
    """Convert to a path."""
    if not isinstance(path, str | os.PathLike) or not Path(path).name:
        raise ConfigError(f"a model's file must be a path, got {path!r:.80}")
    return Path(path)


def _check(arrays: dict[str, Any], description: dict[str, Any]) -> None:
    """Check the description for consistency with itself and the arrays, before a network is created."""
    sizes = [int(size) for size in description["sizes"]]
    if wrong := [name for name, array in arrays.items() if array.dtype != description["dtype"]]:
        raise ValueError(f"{wrong[0]} must be of the type {description['dtype']!r:.80}")
    names = {f"layers.{k}.{part}" for k in range(len(sizes) - 1) for part in ("weight", "bias")}
    if differing := sorted(arrays.keys() ^ names):
        raise ValueError(f"{differing[0]} does not match the sizes {sizes!r:.80}")
    for k, (in_features, out_features) in enumerate(pairwise(sizes)):
        if arrays[f"layers.{k}.weight"].shape != (in_features, out_features):
            raise ValueError(f"layers.{k}.weight must have shape {(in_features, out_features)}")
    if place := first_not_finite(arrays):
        raise ValueError(f"there is {place}")


def inputs_from(description: dict[str, Any], net: MLP) -> Inputs | None:
    """Return the inputs in a model file's description; older files have a scale, class names and an image shape.

    Raises:
        ConfigError, KeyError, TypeError, ValueError: they are inconsistent with themselves or the network.
    """
    if "inputs" not in description:
        scale, names, shape = (description[name] for name in ("input_scale", "class_names", "image_shape"))
        if not is_finite_number(scale, least=1e-300):
            raise ValueError(f"input_scale must be a finite number > 0, got {scale!r:.80}")
        about = {"kind": "pixels", "count": net.features, "largest": 1 / scale, "shape": shape}
        if scale == 1 and shape is None:
            about = {"kind": "numbers", "count": net.features}
        return inputs_from({"inputs": {**about, "class_names": names or [], "target": None}}, net)
    settings = description["inputs"]
    if settings is None:
        return None
    kind = {each.KIND: each for each in (Numbers, Pixels, Table)}[settings["kind"]]
    inputs: Inputs = kind.from_settings(settings).of_width(net.features)
    if inputs.num_features not in (None, net.features):
        raise ValueError(f"inputs must give {net.features} features, got {inputs.num_features}")
    names, target = settings["class_names"], settings["target"]
    return replace(
        inputs, class_names=check_names(names, net.num_outputs), target=check_target(target, net.num_outputs)
    )

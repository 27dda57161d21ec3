"""The network: dense layers one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends import ACTIVATIONS, Backend, ConfigError, DataError, Layer, get_backend, log_softmax, look_up
from ..backends.machine import memory_bytes
from .argument_checks import are_whole, refuse_not_finite
from .datasets.dataset import Dataset
from .generators import make_generator
from .initializers import INITIALIZERS

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float64": np.dtype(np.float64)}


class MLP:
    """A feed-forward network whose hidden layers share one activation and whose last layer gives logits.

    Attributes:
        sizes: features, hidden units of each layer, classes.
        activation: of the hidden layers, a row of `ACTIVATIONS`.
        initializer: a row of `INITIALIZERS`.
        dtype: of weights and arithmetic, "float32" or "float64".
        backend: where it lives and computes.
        layers: the dense layers, their arrays on the backend's device.
        input_scale: integer images are multiplied by this; floating images are taken as they are.
        class_names: a name for each class, or None.
        image_shape: (rows, columns) of an image, or None.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "relu",
        initializer: str = "he",
        backend: str | Backend = "auto",
        dtype: str = "float32",
        seed: int | np.random.Generator = 0,
    ) -> None:
        """Draw the starting weights.

        Args:
            sizes: (features, hidden units..., classes): two numbers or more.
            activation: of the hidden layers.
            initializer: how weights and biases are drawn.
            backend: a name for `get_backend`, or a backend.
            dtype: "float32" or "float64".
            seed: of the generator that draws the weights, or the generator.

        Raises:
            ConfigError: an argument has a value that it cannot have.
            BackendUnavailable: the backend cannot be had on this machine.
        """
        if not are_whole(sizes, least=1) or len(sizes) < 2:
            raise ConfigError(
                f"sizes must be two or more whole numbers >= 1 (features, hidden units, classes), got {sizes!r:.80}"
            )
        look_up("activation", activation, ACTIVATIONS)
        draw = look_up("initializer", initializer, INITIALIZERS)
        numpy_dtype = look_up("dtype", dtype, DTYPES)
        self.sizes = tuple(int(size) for size in sizes)
        needed = self.num_parameters * numpy_dtype.itemsize
        if needed > (memory := memory_bytes()):
            raise ConfigError(
                f"a network of sizes {list(self.sizes)} takes {needed / 2**30:,.1f} GiB, and this machine has "
                f"{memory / 2**30:,.1f}: take fewer hidden units"
            )
        self.activation, self.initializer, self.dtype = activation, initializer, dtype
        self.backend = get_backend(backend)
        self.input_scale = 1 / 255
        self.class_names: tuple[str, ...] | None = None
        self.image_shape: tuple[int, int] | None = None
        generator = make_generator(seed)
        self.layers: list[Layer] = []
        for k, (in_features, out_features) in enumerate(pairwise(self.sizes)):
            weight, bias = draw(generator, in_features, out_features)  # (in_features, out_features), (out_features,)
            last = k == len(self.sizes) - 2
            self.layers.append(
                Layer(
                    self.backend.put(weight.astype(numpy_dtype)),
                    self.backend.put(bias.astype(numpy_dtype)),
                    "identity" if last else activation,
                )
            )

    def __repr__(self) -> str:
        return f"MLP({'-'.join(map(str, self.sizes))}, {self.activation}, {self.dtype}, {self.backend.name})"

    @property
    def features(self) -> int:
        """Number of features of an input row."""
        return self.sizes[0]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.sizes[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers where they have no names."""
        return self.class_names or tuple(map(str, range(self.num_classes)))

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return sum((in_features + 1) * out_features for in_features, out_features in pairwise(self.sizes))

    def check_fits(self, data: Dataset) -> None:
        """Make sure that the network has the data's numbers of features and classes.

        Raises:
            DataError: it has others.
        """
        if (self.features, self.num_classes) != (data.features, data.num_classes):
            raise DataError(
                f"the network takes {self.features} features and gives {self.num_classes} classes, but {data.name} has "
                f"{data.features} features and {data.num_classes} classes: "
                f"use sizes [{data.features}, ..., {data.num_classes}]"
            )

    def adopt(self, data: Dataset) -> None:
        """Take over how `data` is to be read: the scale of its integers, its class names and image shape.

        Raises:
            DataError: the network has other numbers of features or classes than the data.
        """
        self.check_fits(data)
        self.input_scale, self.class_names, self.image_shape = float(data.scale), data.class_names, data.image_shape

    def logits(self, images: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the last layer's outputs on the host.

        Args:
            images: (samples, features), or pictures (samples, rows, columns) of as many features; integers are
                multiplied by `input_scale`.

        Returns:
            (samples, classes) of the network's dtype.

        Raises:
            DataError: the images have another shape, or are no finite numbers.
        """
        return self.backend.logits(self.layers, self._rows(images), self.input_scale)

    def predict_proba(self, images: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return class probabilities, (samples, classes), rows summing to 1; see `logits`."""
        return np.asarray(np.exp(log_softmax(np, self.logits(images))))

    def predict(self, images: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the most probable class of each row, (samples,); see `logits`."""
        classes: npt.NDArray[np.int64] = np.argmax(self.logits(images), axis=1).astype(np.int64)
        return classes

    def are_finite(self) -> bool:
        """Return whether no weight or bias is an infinity or a NaN."""
        return self.backend.all_finite([array for layer in self.layers for array in (layer.weight, layer.bias)])

    def parameters(self) -> dict[str, npt.NDArray[Any]]:
        """Return host copies: `layers.<k>.weight` (in_features, out_features) and `layers.<k>.bias` (out_features,)."""
        copies = {}
        for k, layer in enumerate(self.layers):
            copies[f"layers.{k}.weight"] = self.backend.to_numpy(layer.weight)
            copies[f"layers.{k}.bias"] = self.backend.to_numpy(layer.bias)
        return copies

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight and bias, under the names of `parameters`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for k, (in_features, out_features) in enumerate(pairwise(self.sizes)):
            shapes |= {f"layers.{k}.weight": (in_features, out_features), f"layers.{k}.bias": (out_features,)}
        return shapes

    def load_parameters(self, parameters: Mapping[str, npt.NDArray[Any]]) -> None:
        """Replace every weight and bias; names and shapes as `parameters` gives them, cast to the network's dtype.

        Raises:
            ConfigError: a name is missing or unknown, or a shape differs; the network is then unchanged.
        """
        shapes = self.parameter_shapes()
        if differing := sorted(parameters.keys() ^ shapes.keys()):
            raise ConfigError(
                f"parameters must be exactly {', '.join(sorted(shapes))}; {differing[0]!r} does not match"
            )
        for name, shape in shapes.items():
            if parameters[name].shape != shape:
                raise ConfigError(f"{name} must have shape {shape}, got {parameters[name].shape}")
        for k, layer in enumerate(self.layers):
            layer.weight = self.backend.put(parameters[f"layers.{k}.weight"].astype(self.dtype))
            layer.bias = self.backend.put(parameters[f"layers.{k}.bias"].astype(self.dtype))

    def _rows(self, images: npt.ArrayLike) -> npt.NDArray[Any]:
        """Check images and flatten pictures to (samples, features)."""
        rows = np.asarray(images)
        if rows.dtype.kind not in "uif":
            raise DataError(f"images must be numbers, got dtype {rows.dtype}")
        if rows.ndim == 3:
            rows = rows.reshape(len(rows), -1)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            hint = "; for one row pass images[None, :]" if rows.ndim == 1 else ""
            raise DataError(f"images must have shape (samples, {self.features}), got {np.shape(images)}{hint}")
        refuse_not_finite(rows, self.dtype)
        return rows

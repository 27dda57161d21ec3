"""The network: dense layers one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ACTIVATIONS, Backend, ConfigError, DataError, Layer, get_backend, look_up
from ...backends.machine import memory_bytes
from ..datasets.dataset import Dataset
from ..inputs.arguments import are_whole, make_generator
from .initializers import INITIALIZERS
from .outputs import OUTPUTS, Outputs
from .predictions import answer

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float64": np.dtype(np.float64)}


class MLP:
    """A feed-forward network whose hidden layers share one activation; the last one has none.

    Attributes:
        sizes: features, hidden units of each layer, outputs.
        activation: of the hidden layers, a row of `ACTIVATIONS`.
        loss: what it is trained with, and by which its outputs are read, a row of `LOSSES`.
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
        loss: str = "softmax_cross_entropy",
        initializer: str = "he",
        backend: str | Backend = "auto",
        dtype: str = "float32",
        seed: int | np.random.Generator = 0,
    ) -> None:
        """Draw the starting weights.

        Args:
            sizes: (features, hidden units..., outputs): two numbers or more.
            activation: of the hidden layers.
            loss: "softmax_cross_entropy" where each row is of one class, and each output is a class's logit;
                "sigmoid_cross_entropy" where it may be of several, each output being the logit of one of them;
                "squared_error" where the outputs are the numbers themselves.
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
        look_up("loss", loss, OUTPUTS)
        draw = look_up("initializer", initializer, INITIALIZERS)
        numpy_dtype = look_up("dtype", dtype, DTYPES)
        self.sizes = tuple(int(size) for size in sizes)
        needed = self.num_parameters * numpy_dtype.itemsize
        if needed > (memory := memory_bytes()):
            raise ConfigError(
                f"a network of sizes {list(self.sizes)} takes {needed / 2**30:,.1f} GiB, and this machine has "
                f"{memory / 2**30:,.1f}: take fewer hidden units"
            )
        self.activation, self.loss, self.initializer, self.dtype = activation, loss, initializer, dtype
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
    def num_outputs(self) -> int:
        """Number of outputs: of classes, where a row is of one."""
        return self.sizes[-1]

    @property
    def outputs(self) -> Outputs:
        """What the outputs mean."""
        return OUTPUTS[self.loss]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the outputs, or their numbers where they have no names."""
        return self.class_names or tuple(map(str, range(self.num_outputs)))

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return sum((in_features + 1) * out_features for in_features, out_features in pairwise(self.sizes))

    def check_fits(self, data: Dataset) -> None:
        """Make sure that the network has the data's numbers of features and outputs.

        Raises:
            DataError: it has others.
        """
        if (self.features, self.num_outputs) != (data.features, data.num_outputs):
            what = "classes" if self.outputs.has_classes else "outputs"
            raise DataError(
                f"the network takes {self.features} features and gives {self.num_outputs} {what}, but {data.name} has "
                f"{data.features} features and {data.num_outputs} {what}: "
                f"use sizes [{data.features}, ..., {data.num_outputs}]"
            )

    def adopt(self, data: Dataset) -> None:
        """Take over how `data` is to be read: the scale of its integers, its class names and image shape.

        Raises:
            DataError: the network has other numbers of features or outputs than the data.
        """
        self.check_fits(data)
        self.input_scale, self.image_shape = float(data.scale), data.image_shape
        self.class_names = data.class_names or None

    def logits(self, images: Any) -> Any:
        """Return the last layer's outputs.

        Args:
            images: (samples, features), or pictures (samples, rows, columns) of as many features; integers are
                multiplied by `input_scale`. An array of NumPy, PyTorch, JAX, CuPy or of any library that speaks
                DLPack, rows in lists, or a frame of pandas, polars or pyarrow.

        Returns:
            (samples, outputs) of the network's dtype, an array of the library that the images came in and on their
            device; of NumPy for lists and frames. What lies on the backend's own device is computed there.

        Raises:
            DataError: the images have another shape, or are no finite numbers.
        """
        return answer(self, images, lambda xp, outputs: outputs)  # noqa: ARG005

    def predict_proba(self, images: Any) -> Any:
        """Return probabilities, (samples, outputs); see `logits`.

        Of softmax cross-entropy a row's sum to 1; of sigmoid cross-entropy each output has one of its own.

        Raises:
            ConfigError: the network's outputs are no probabilities, since it is trained with the squared error.
        """
        log_probabilities = self.outputs.log_probabilities
        if log_probabilities is None:
            raise ConfigError(f"a network of loss {self.loss} has no probabilities: its predictions are the numbers")
        return answer(self, images, lambda xp, outputs: xp.exp(log_probabilities(xp, outputs)))

    def predict(self, images: Any) -> Any:
        """Return what the outputs say of each row; see `logits`.

        Returns:
            Of softmax cross-entropy the most probable class, (samples,), int64; of sigmoid cross-entropy 1 for each
            output that is more probable than not, (samples, outputs), int64; of the squared error the outputs.
        """
        return answer(self, images, self.outputs.predict)

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

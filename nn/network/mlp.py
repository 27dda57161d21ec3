"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ACTIVATIONS, Backend, ConfigError, DataError, Layer, Rows, get_backend, look_up
from ...backends.activations import Array
from ...backends.constraints import shown
from ...backends.machine import memory_bytes
from ...backends.plan import put_parameters
from ..datasets.dataset import Dataset, Split
from ..datasets.hold import hold_rows
from ..inputs.arguments import are_whole, make_generator
from ..inputs.inputs import Inputs, Numbers, bare_inputs
from .initializers import INITIALIZERS
from .outputs import Outputs, outputs_of
from .predictions import answer

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float64": np.dtype(np.float64)}


class MLP:
    """Multi-layer perceptron with one activation for all hidden layers and a linear output layer.

    Attributes:
        sizes: features, hidden units of each layer, outputs.
        activation: activation of the hidden layers, a row of `ACTIVATIONS`.
        loss: loss, a row of `LOSSES`, which also determines the meaning of the outputs.
        initializer: a row of `INITIALIZERS`.
        dtype: dtype of weights and arithmetic, "float32" or "float64".
        backend: the backend.
        layers: dense layers, with arrays on the backend's device.
        inputs: meaning of the rows and names of the classes, of the first data that it is trained on; None before.
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
        parameters: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]] | None = None,
    ) -> None:
        """Draw the initial weights, or take given ones.

        Args:
            sizes: (features, hidden units..., outputs): two numbers or more.
            activation: activation of the hidden layers.
            loss: "softmax_cross_entropy" for classification, "sigmoid_cross_entropy" for multi-label classification,
                with one logit per class; for regression "squared_error", "absolute_error", "huber:1.0" with the error
                from which it is linear, "quantile:0.9" with the level, or "poisson" for counts, of which the network
                predicts the logarithm of the mean.
            initializer: initializer of weights and biases.
            backend: a name for `get_backend`, or a backend.
            dtype: "float32" or "float64".
            seed: seed of the weights, or a generator.
            parameters: weight (in_features, out_features) and bias (out_features,) of each layer, which are copied;
                None to draw them.

        Raises:
            ConfigError: an argument has an invalid value.
            BackendUnavailable: the backend is not available on this machine.
        """
        if not are_whole(sizes, least=1) or len(sizes) < 2:
            raise ConfigError(
                f"sizes must be two or more whole numbers >= 1 (features, hidden units, classes), got {shown(sizes)}"
            )
        look_up("activation", activation, ACTIVATIONS)
        outputs_of(loss)
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
        self.inputs: Inputs | None = None
        generator, shapes = make_generator(seed), [*pairwise(self.sizes)]
        self.layers: list[Layer] = []
        for shape, (weight, bias) in zip(
            shapes, (draw(generator, *shape) for shape in shapes) if parameters is None else parameters, strict=True
        ):
            for name, array, wanted in (("weight", weight, shape), ("bias", bias, shape[1:])):
                if np.shape(array) != wanted:
                    raise ConfigError(
                        f"layers.{len(self.layers)}.{name} must have shape {wanted}, got {np.shape(array)}"
                    )
            self._append_layer(np.asarray(weight), np.asarray(bias))

    def __repr__(self) -> str:
        return f"MLP({'-'.join(map(str, self.sizes))}, {self.activation}, {self.dtype}, {self.backend.name})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes to be pickled: parameters on the host, and the backend by its name."""
        return {**vars(self), "backend": self.backend.name, "layers": [*self.parameters().values()]}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restore a pickled network onto its backend.

        Raises:
            BackendUnavailable: the backend is not available on this machine; `nn.load` takes another.
        """
        vars(self).update(state, backend=get_backend(state["backend"]), layers=[])
        for weight, bias in zip(state["layers"][::2], state["layers"][1::2], strict=True):
            self._append_layer(weight, bias)

    def __deepcopy__(self, memo: dict[int, Any]) -> MLP:
        """Return a copy on the same backend."""
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__setstate__({**self.__getstate__(), "backend": self.backend})
        return made

    @property
    def features(self) -> int:
        """Number of features."""
        return self.sizes[0]

    @property
    def num_outputs(self) -> int:
        """Number of outputs; for classification, of classes."""
        return self.sizes[-1]

    @property
    def outputs(self) -> Outputs:
        """Interpretation of the outputs."""
        return outputs_of(self.loss)

    @property
    def input_scale(self) -> float:
        """Factor of integers in the first layer."""
        return 1.0 if self.inputs is None else self.inputs.scale

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Rows and columns of an image, or None if its rows are not pictures."""
        return None if self.inputs is None else self.inputs.image_shape

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class, or None."""
        return None if self.inputs is None else self.inputs.class_names or None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs, or their indices without names."""
        return self.class_names or tuple(map(str, range(self.num_outputs)))

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return sum((in_features + 1) * out_features for in_features, out_features in pairwise(self.sizes))

    def hold(self, rows: Split) -> Split:
        """Return rows in the meaning of the network's inputs: columns by name, classes in its order.

        A network without inputs takes those of the rows.

        Raises:
            DataError: the rows have other columns, classes or numbers of features.
        """
        inputs = self.inputs_for(rows)
        held = hold_rows(rows, inputs)
        features, outputs = inputs.num_features or int(held.images.shape[1]), self.num_outputs
        names = len(inputs.class_names) or outputs
        if features != self.features or (self.outputs.has_classes and names != outputs):
            what = "classes" if self.outputs.has_classes else "outputs"
            raise DataError(
                f"the network takes {self.features} features and gives {outputs} {what}, but the rows have {features} "
                f"features and {names} {what}: use sizes [{features}, ..., {names}]"
            )
        return held

    def adopt(self, data: Dataset) -> None:
        """Take the inputs of `data`, if the network has none yet.

        Raises:
            DataError: the network does not fit the data.
        """
        self.inputs = self.hold(data.train).inputs

    def inputs_for(self, rows: Split) -> Inputs:
        """Return the network's inputs, or if it has none, those that training on `rows` gives it."""
        if self.inputs is not None:
            return self.inputs
        inputs = rows.inputs or bare_inputs(rows.images, rows.facts)
        if inputs.target is not None and self.outputs.function == "exp":
            return replace(inputs, target=inputs.target.unshifted())
        return inputs

    def place(self, rows: Split) -> Rows:
        """Copy rows from `hold` to the device, as features and labels of the loss."""
        inputs = rows.inputs or Numbers()
        labels = rows.labels
        if inputs.target is not None and not self.outputs.has_probabilities:
            labels = inputs.target.standardized(labels)
        features = inputs.features(rows.images, self.dtype)  # (samples, features)
        placed = self.backend.place(features, labels, inputs.scale, rows.weights)
        return placed._replace(nonzeros=rows.facts.nonzeros if features is rows.images else None)

    def logits(self, images: Any) -> Any:
        """Return the last layer's outputs.

        Args:
            images: (samples, columns), or (samples, rows, columns) of images, read as `inputs` says: the same number
                gives the same answer in any array. An array of NumPy, PyTorch, JAX, CuPy or any library with DLPack,
                nested lists, a frame of pandas, polars or pyarrow, whose columns are found by their names, or an
                `nn.Split`.

        Returns:
            (samples, outputs) of the network's dtype, in the library and on the device of the images; NumPy for lists
            and frames. Images on the backend's device are not copied to the host.

        Raises:
            DataError: the images have the wrong shape, or are not finite numbers.
        """
        return answer(self, images, self._logits_in_units)

    def predict_proba(self, images: Any) -> Any:
        """Predict probabilities, (samples, outputs); see `logits`.

        They sum to 1 in each row for softmax cross-entropy, and are independent for sigmoid cross-entropy.

        Raises:
            ConfigError: the network is trained for regression and has no probabilities.
        """
        probabilities = self.outputs.probabilities
        if probabilities is None:
            raise ConfigError(f"a network of loss {self.loss} has no probabilities: its predictions are the numbers")
        return answer(self, images, probabilities)

    def predict(self, images: Any) -> Any:
        """Predict classes, labels or numbers; see `logits`.

        Returns:
            For softmax cross-entropy the most probable class, (samples,), int64; for sigmoid cross-entropy 1 for each
            label of probability above 1/2, (samples, outputs), int64; for regression numbers, (samples, outputs).
        """
        return answer(self, images, lambda xp, outputs: self._in_units(xp, self.outputs.predict(xp, outputs)))

    def _append_layer(self, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> None:
        """Append the next layer: weight (in_features, out_features), bias (out_features,)."""
        is_last = len(self.layers) == len(self.sizes) - 2
        self.layers.append(Layer(self._put(weight), self._put(bias), "identity" if is_last else self.activation))

    def _put(self, parameter: npt.NDArray[Any]) -> Array:
        """Copy a parameter of any shape to the device."""
        return self.backend.put(parameter.astype(self.dtype, copy=False))

    def _logits_in_units(self, xp: Any, logits: Any) -> Any:
        """Return logits, (samples, outputs), in the labels' units, if they have one: logarithms have none."""
        return self._in_units(xp, logits) if self.outputs.function == "identity" else logits

    def _in_units(self, xp: Any, predictions: Any) -> Any:
        """Return predictions, (samples, outputs), of a regression in the labels' units, and others as they are."""
        target = None if self.inputs is None else self.inputs.target
        return predictions if target is None or self.outputs.has_probabilities else target.in_units(xp, predictions)

    def are_finite(self) -> bool:
        """Return whether all weights and biases are finite."""
        return self.backend.all_finite([array for layer in self.layers for array in (layer.weight, layer.bias)])

    def parameters(self, *, copy: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Copy parameters to the host: `layers.<k>.weight` (in, out_features), `layers.<k>.bias` (out_features,).

        Args:
            copy: whether to copy parameters that are on the host already.
        """
        read = self.backend.to_numpy if copy or not self.backend.is_on_host else np.asarray
        arrays = {}
        for k, layer in enumerate(self.layers):
            arrays[f"layers.{k}.weight"], arrays[f"layers.{k}.bias"] = read(layer.weight), read(layer.bias)
        return arrays

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter by its name in `parameters`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for k, (in_features, out_features) in enumerate(pairwise(self.sizes)):
            shapes |= {f"layers.{k}.weight": (in_features, out_features), f"layers.{k}.bias": (out_features,)}
        return shapes

    def load_parameters(self, parameters: Mapping[str, npt.NDArray[Any]]) -> None:
        """Load all parameters, named as in `parameters` and cast to the network's dtype.

        Raises:
            ConfigError: a name is missing or unknown, or a shape differs; the network is left unchanged.
        """
        shapes = self.parameter_shapes()
        if differing := sorted(parameters.keys() ^ shapes.keys()):
            raise ConfigError(
                f"parameters must be exactly {', '.join(sorted(shapes))}; {differing[0]!r} does not match"
            )
        for name, shape in shapes.items():
            if parameters[name].shape != shape:
                raise ConfigError(f"{name} must have shape {shape}, got {parameters[name].shape}")
        arrays = {name: self.backend.put(array.astype(self.dtype, copy=False)) for name, array in parameters.items()}
        pairs = [(arrays[f"layers.{k}.weight"], arrays[f"layers.{k}.bias"]) for k in range(len(self.layers))]
        put_parameters(self.layers, pairs)

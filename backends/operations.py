"""Operations of training, written once with Array API calls on `self.xp`.

Array API standard: https://data-apis.org/array-api/latest/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .activations import ACTIVATIONS, Array
from .losses import loss_function, smoothed
from .mapped import is_mapped
from .optimizers import Optimizer, State
from .plan import Layer, Rows, Totals
from .sparse_rows import dense, is_small, is_sparse
from .threads import one_blas_thread

LayerGradients = tuple[Array, Array]  # of weight and bias


def in_native_order(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array, or a copy in native byte order if its byte order is foreign."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class Operations:
    """Operations on the arrays of one namespace.

    Attributes:
        name: name in `get_backend`.
        xp: the array namespace.
        is_on_host: whether its arrays are NumPy arrays in host memory.
        takes_sparse: whether `gather` takes rows in csr format; other backends get dense copies.
        tile_rows: maximum rows processed at once; None for the whole batch.
    """

    name: ClassVar[str]
    is_on_host: ClassVar[bool] = False
    takes_sparse: ClassVar[bool] = False
    tile_rows: ClassVar[int | None] = None

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def scope(self) -> AbstractContextManager[object]:
        """Context in which `xp` works as required; methods and runs of plans enter it themselves."""
        return nullcontext()

    def fixed_order(self) -> AbstractContextManager[object]:
        """Context in which results are bit-identical for any number of threads."""
        return one_blas_thread()

    # Arrays come and go

    def put(self, array: npt.NDArray[Any]) -> Array:
        """Copy a host array to the device, with its shape and dtype, in native byte order."""
        return self.xp.asarray(in_native_order(array), copy=True)

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """Copy a device array of any shape to the host; waits for the device."""
        return np.array(array if isinstance(array, np.generic) else np.from_dlpack(array))  # NumPy's sums are no arrays

    def place(
        self,
        images: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        scale: float,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> Rows:
        """Copy rows to the device by `put_rows`; weights stay on the host, see `Rows`.

        Memory-mapped images may exceed memory and stay in their file.
        """
        labels = self.put(np.asarray(labels, dtype=np.int64 if labels.ndim == 1 else np.float64))
        if is_mapped(images):
            return Rows(np.asarray(images), labels, float(scale), weights, on_host=not self.is_on_host)
        return Rows(self.put_rows(images), labels, float(scale), weights)

    def put_rows(self, images: Any) -> Any:
        """Copy rows, (samples, features), to the device; sparse ones stay so if the backend takes them and it pays.

        Raises:
            DataError: sparse rows would not fit into memory as a dense array.
        """
        if not is_sparse(images):
            return self.put(images)
        if self.takes_sparse and is_small(images):
            return images.copy()
        made = dense(images, what="images")
        return made if self.is_on_host else self.put(made)

    def batch(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        """Gather rows as `gather` does, also from rows on the host."""
        if not rows.on_host:
            return self.gather(rows, index, dtype)
        if isinstance(index, slice):
            images, labels = rows.images[index], rows.labels[index, ...]
        else:
            images, labels = rows.images[self.to_numpy(index)], self.xp.take(rows.labels, index, axis=0)
        return self.gather(Rows(self.put(images), labels, rows.scale), slice(0, len(images)), dtype)

    def gather(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        """Gather rows as floating-point inputs.

        Args:
            rows: the data set on the device.
            index: (batch,) integers on the device, or a slice.
            dtype: dtype of the network.

        Returns:
            Images (batch, features) of `dtype`, integers times `rows.scale`, and labels (batch,) or (batch, outputs).
        """
        xp = self.xp
        if isinstance(index, slice):
            images, labels = rows.images[index, :], rows.labels[index, ...]
        else:
            images, labels = xp.take(rows.images, index, axis=0), xp.take(rows.labels, index, axis=0)
        x = xp.astype(images, dtype, copy=False)  # (batch, features)
        if xp.isdtype(images.dtype, "integral"):
            x *= rows.scale  # in place: it is a copy already, since its type changed
        return x, labels

    def all_finite(self, arrays: Iterable[Array]) -> bool:
        """Return whether arrays of any shapes are all finite, with one read from the device."""
        xp = self.xp
        return bool(self.to_numpy(xp.stack([xp.all(xp.isfinite(array)) for array in arrays])).all())

    def own(self, array: Any) -> Array | None:  # noqa: ARG002
        """Return an array usable without a copy if it is of this namespace and device, else None."""
        return None

    # Operations

    def linear(self, x: Array, weight: Array, bias: Array, *, activation: str) -> Array:
        """`activation(x @ weight + bias)`: x (batch, in_features), result (batch, out_features)."""
        z = x @ weight  # (batch, out_features)
        z += bias
        return ACTIVATIONS[activation].forward(self.xp, z)

    def linear_backward(
        self, grad_y: Array, y: Array, x: Array, weight: Array, *, activation: str, need_grad_x: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Return the gradients of `y = activation(z)`, `z = x @ weight + bias`.

        Args:
            grad_y: gradient of the loss with respect to `y`, (batch, out_features); may be overwritten.
            y: the layer's output, (batch, out_features).
            x: the layer's input, (batch, in_features).
            weight: (in_features, out_features).
            activation: a row of `ACTIVATIONS`.
            need_grad_x: whether to compute the gradient of the input; not needed for the first layer.

        Returns:
            grad_x (batch, in_features) or None, grad_weight (in_features, out_features), grad_bias (out_features,).
            Source: Goodfellow, Bengio and Courville 2016, algorithm 6.4.
        """
        grad_z = ACTIVATIONS[activation].backward(self.xp, grad_y, y)  # (batch, out_features)
        grad_weight = x.T @ grad_z  # (in_features, out_features)
        grad_bias = self.xp.sum(grad_z, axis=0)  # (out_features,)
        return (grad_z @ weight.T if need_grad_x else None), grad_weight, grad_bias

    def loss(
        self, outputs: Array, labels: Array, *, loss: str, batch_size: float, weights: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Return the summed loss (0-d float64), correct rows (0-d integer), gradient of the mean loss (batch, outputs).

        Args:
            outputs: outputs of the last layer, (batch, outputs).
            labels: (batch,), integers in [0, classes), or (batch, outputs), as the loss requires.
            loss: name of a loss, as in `parse_loss`.
            batch_size: rows of the whole step, or the sum of their weights.
            weights: row weights, (batch,), float64; None for 1 each.
        """
        weighted = {} if weights is None else {"weights": weights}
        return loss_function(loss)(self.xp, outputs, labels, batch_size=batch_size, **weighted)

    def update(
        self,
        optimizer: Optimizer,
        parameter: Array,
        grad: Array,
        state: State,
        *,
        step: int,
        learning_rate: float,
        l2: float = 0.0,
    ) -> tuple[Array, State]:
        """Apply one optimizer step to a parameter with penalty `l2 / 2` times the sum of its squares.

        Args:
            optimizer: the optimizer.
            parameter: weights or biases, any shape; may be overwritten, unless it is read-only.
            grad: gradient of the mean loss without the penalty, the parameter's shape; may be overwritten.
            state: the optimizer's arrays, the parameter's shape; may be overwritten, unless they are read-only.
            step: number of this step, from 1.
            learning_rate: at this step.
            l2: strength of the L2 penalty.

        Returns:
            The updated parameter and state.
        """
        if l2:
            grad = grad + float(l2) * parameter  # a NumPy number would make it float64
        return optimizer.update(self.xp, parameter, grad, state, step=step, learning_rate=learning_rate)

    # The network as a whole

    def forward(self, layers: list[Layer], x: Array) -> list[Array]:
        """Return the outputs of all layers, (batch, out_features) each, for inputs (batch, features)."""
        outputs = []
        for layer in layers:
            x = self.linear(x, layer.weight, layer.bias, activation=layer.activation)  # (batch, out_features)
            outputs.append(x)
        return outputs

    def gradients(
        self,
        layers: list[Layer],
        x: Array,
        labels: Array,
        *,
        loss: str,
        size: float,
        weights: Array | None = None,
        label_smoothing: float = 0.0,
        factors: Sequence[Array | None] = (),
        transform: Callable[[int, LayerGradients], LayerGradients] = lambda layer, grads: grads,  # noqa: ARG005
    ) -> tuple[list[LayerGradients], Array, Array]:
        """Return the gradients of the mean loss, the summed loss (0-d) and the number of correct rows (0-d).

        Args:
            layers: layers of the network.
            x: (rows, features), in the network's dtype.
            labels: (rows,) or (rows, outputs).
            loss: name of a loss, as in `parse_loss`.
            size: denominator of the mean.
            weights: row weights, (rows,), float64; None for 1 each.
            label_smoothing: probability mass that is spread evenly over the classes, in [0, 1).
            factors: dropout factors of each hidden layer, (rows, units); empty without dropout.
            transform: maps a layer's index and gradients to its final gradients, from the last layer to the first.
        """
        inputs, outputs = [x], []  # of each layer: (rows, in_features), (rows, out_features)
        for layer, factor in zip_longest(layers, factors):
            outputs.append(self.linear(inputs[-1], layer.weight, layer.bias, activation=layer.activation))
            inputs.append(outputs[-1] if factor is None else outputs[-1] * factor)
        loss_sum, correct, grad_y = self.loss(outputs[-1], labels, loss=loss, batch_size=size, weights=weights)
        if label_smoothing:
            more, grad_y = smoothed(
                self.xp, outputs[-1], labels, grad_y, label_smoothing=label_smoothing, batch_size=size, weights=weights
            )
            loss_sum = loss_sum + more
        grads: list[LayerGradients] = []
        for k in reversed(range(len(layers))):
            if k < len(factors):
                grad_y = grad_y * factors[k]
            grad_y, grad_weight, grad_bias = self.linear_backward(
                grad_y, outputs[k], inputs[k], layers[k].weight, activation=layers[k].activation, need_grad_x=k > 0
            )
            grads.insert(0, transform(k, (grad_weight, grad_bias)))
        return grads, loss_sum, correct

    def read_sums(self, sums: Sequence[tuple[Array, Array]]) -> npt.NDArray[np.float64]:
        """Copy pairs of a loss (0-d float64) and a number of rows (0-d integer) to the host in one read.

        Returns:
            (pairs, 2).
        """
        xp = self.xp
        losses, correct = (xp.stack(list(column)) for column in zip(*sums, strict=True))  # (pairs,) each
        return self.to_numpy(xp.stack([losses, xp.astype(correct, xp.float64)], axis=1))

    def read_totals(self, loss_sum: Array, correct: Array, rows: int) -> Totals:
        """Copy sums to the host in one read: loss (0-d float64) and correct rows (0-d integer)."""
        [(loss, count)] = self.read_sums([(loss_sum, correct)])
        return Totals(float(loss), int(count), rows)

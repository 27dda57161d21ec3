"""The generic backend: every operation of training, written once with Array API calls on `self.xp`.

This is the reference that every other backend is tested against. A backend is a subclass that sets `name` and `xp` and
overrides the operations that it does better; `compile` may return a faster plan than the loop over the operations.

Array API standard: https://data-apis.org/array-api/latest/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .activations import ACTIVATIONS, Array
from .blas_threads import one_blas_thread
from .communicator import Communicator
from .errors import ConfigError
from .generic_plan import GenericPlan
from .job_outline import Estimate, JobOutline, Probe
from .losses import LOSSES
from .mapped import is_mapped
from .optimizers import Optimizer, State
from .plan import Layer, Plan, Rows, Totals, TrainingJob


def in_native_order(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array, any shape, or a copy of it where its bytes stand in the order of another kind of machine."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class Backend:
    """Operations on the arrays of one namespace.

    Attributes:
        name: what it is chosen by.
        xp: the array namespace.
        has_compiled_plan: whether `compile` gives ReLU and plain SGD a plan that is no loop over the operations.
        precisions: of matrix products, what `TrainingJob.precision` may be.
        tile_rows: rows that are worked through at once where a batch has more; None for the whole batch.
        evaluation_rows: rows that a forward pass without training takes at once.
        reason: why `get_backend("auto")` chose it, else empty.
    """

    name: ClassVar[str]
    has_compiled_plan: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = ("full",)
    tile_rows: ClassVar[int | None] = None
    evaluation_rows: ClassVar[int] = 4096

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.reason = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @classmethod
    def estimate(cls, job: JobOutline, probe: Probe) -> Estimate | None:  # noqa: ARG003
        """Return what a training is expected to take, before anything is imported; None if it cannot be told.

        Args:
            job: the training.
            probe: what was measured on this machine.
        """
        return None

    def scope(self) -> AbstractContextManager[object]:
        """Return the context in which `xp` works as it should; methods and the runs of plans enter it themselves."""
        return nullcontext()

    def fixed_order(self) -> AbstractContextManager[object]:
        """Return the context in which a result does not hang on how many threads there are, to the bit."""
        return one_blas_thread()

    # Arrays come and go

    def put(self, array: npt.NDArray[Any]) -> Array:
        """Copy a host array to the device; shape and dtype stay, the byte order becomes the machine's."""
        return self.xp.asarray(in_native_order(array), copy=True)

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """Copy a device array to the host, any shape; waits for the device."""
        return np.array(np.from_dlpack(array))

    def place(
        self,
        images: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        scale: float,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> Rows:
        """Copy rows to the device as they are, but for the weights, which stay on the host; see `Rows`.

        Images that are mapped from a file may be more than any memory holds: they stay where they are.
        """
        labels = self.put(np.asarray(labels, dtype=np.int64 if labels.ndim == 1 else np.float64))
        if is_mapped(images):
            return Rows(np.asarray(images), labels, float(scale), weights, on_host=True)
        return Rows(self.put(images), labels, float(scale), weights)

    def batch(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        """Take some rows and make numbers of them, as `gather` does, also of rows that are on the host."""
        if not rows.on_host:
            return self.gather(rows, index, dtype)
        if isinstance(index, slice):
            images, labels = rows.images[index], rows.labels[index, ...]
        else:
            images, labels = rows.images[self.to_numpy(index)], self.xp.take(rows.labels, index, axis=0)
        return self.gather(Rows(self.put(images), labels, rows.scale), slice(0, len(images)), dtype)

    def gather(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        """Take some rows and make numbers of them.

        Args:
            rows: the data set on the device.
            index: (batch,) integers on the device, or a slice.
            dtype: floating type of the network.

        Returns:
            Images (batch, features) of `dtype`, integers times `rows.scale`, and labels (batch,) or (batch, outputs).
        """
        xp = self.xp
        if isinstance(index, slice):
            images, labels = rows.images[index, :], rows.labels[index, ...]
        else:
            images, labels = xp.take(rows.images, index, axis=0), xp.take(rows.labels, index, axis=0)
        x = xp.astype(images, dtype, copy=False)  # (batch, features)
        return (x * rows.scale if xp.isdtype(images.dtype, "integral") else x), labels

    def all_finite(self, arrays: Iterable[Array]) -> bool:
        """Return whether no array, any shape, holds an infinity or a NaN, after one read from the device."""
        xp = self.xp
        return bool(self.to_numpy(xp.stack([xp.all(xp.isfinite(array)) for array in arrays])).all())

    def own(self, array: Any) -> Array | None:  # noqa: ARG002
        """Return what the backend computes with if an array, any shape, is of its namespace and device; else None."""
        return None

    # Operations

    def linear(self, x: Array, weight: Array, bias: Array, *, activation: str) -> Array:
        """`activation(x @ weight + bias)`: x (batch, in_features), result (batch, out_features)."""
        return ACTIVATIONS[activation].forward(self.xp, x @ weight + bias)  # (batch, out_features)

    def linear_backward(
        self, grad_y: Array, y: Array, x: Array, weight: Array, *, activation: str, need_grad_x: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Gradients of `y = activation(z)`, `z = x @ weight + bias`.

        Args:
            grad_y: gradient of the loss with respect to `y`, (batch, out_features); may be overwritten.
            y: the layer's output, (batch, out_features).
            x: the layer's input, (batch, in_features).
            weight: (in_features, out_features).
            activation: a row of `ACTIVATIONS`.
            need_grad_x: whether to compute the gradient of the input; the first layer needs none.

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
        """Sum of the rows' losses (0-d float64), correct rows (0-d integer), gradient of the mean (batch, outputs).

        Args:
            outputs: the last layer's outputs, (batch, outputs).
            labels: as the loss takes them: (batch,), integers in [0, classes), or (batch, outputs).
            loss: a row of `LOSSES`.
            batch_size: rows of the whole step, which the mean is over, or the sum of their weights.
            weights: of the rows, (batch,), float64; None for 1 each.
        """
        weighted = {} if weights is None else {"weights": weights}
        return LOSSES[loss](self.xp, outputs, labels, batch_size=batch_size, **weighted)

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
        """Take one optimizer step on a parameter whose penalty is `l2 / 2` times the sum of its squares.

        Args:
            optimizer: the rule and its settings.
            parameter: weights or biases, any shape; may be overwritten.
            grad: gradient of the mean loss without the penalty, the parameter's shape; may be overwritten.
            state: the optimizer's arrays, the parameter's shape; may be overwritten.
            step: number of this step, from 1.
            learning_rate: at this step.
            l2: strength of the penalty.

        Returns:
            The next parameter and the next state.
        """
        if l2:
            grad = grad + float(l2) * parameter  # a NumPy number would make it float64
        return optimizer.update(self.xp, parameter, grad, state, step=step, learning_rate=learning_rate)

    # The network as a whole

    def forward(self, layers: list[Layer], x: Array) -> list[Array]:
        """Return the output of each layer, (batch, out_features) each, for inputs (batch, features)."""
        outputs = []
        for layer in layers:
            x = self.linear(x, layer.weight, layer.bias, activation=layer.activation)  # (batch, out_features)
            outputs.append(x)
        return outputs

    def evaluate(self, layers: list[Layer], rows: Rows, *, loss: str = "softmax_cross_entropy") -> Totals:
        """Return summed loss and correct count of all rows, after one read from the device."""
        count = rows.images.shape[0]
        loss_sum, correct = self.put(np.asarray(0.0)), self.put(np.asarray(0))  # (), ()
        for start in range(0, count, self.evaluation_rows):
            tile = slice(start, min(start + self.evaluation_rows, count))
            x, labels = self.batch(rows, tile, layers[0].weight.dtype)
            logits = self.forward(layers, x)[-1]  # (tile, classes)
            tile_loss, tile_correct, _ = self.loss(logits, labels, loss=loss, batch_size=count)
            loss_sum, correct = loss_sum + tile_loss, correct + tile_correct
        return self.read_totals(loss_sum, correct, count)

    def read_sums(self, sums: Sequence[tuple[Array, Array]]) -> npt.NDArray[np.float64]:
        """Bring pairs of a loss (0-d float64) and a number of rows (0-d integer) to the host in one read.

        Returns:
            (pairs, 2).
        """
        xp = self.xp
        losses, correct = (xp.stack(list(column)) for column in zip(*sums, strict=True))  # (pairs,) each
        return self.to_numpy(xp.stack([losses, xp.astype(correct, xp.float64)], axis=1))

    def read_totals(self, loss_sum: Array, correct: Array, rows: int) -> Totals:
        """Bring sums to the host in one read: loss (0-d float64) and correct rows (0-d integer)."""
        [(loss, count)] = self.read_sums([(loss_sum, correct)])
        return Totals(float(loss), int(count), rows)

    def logits(self, layers: list[Layer], images: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
        """Return the last layer's outputs on the host, (samples, classes), for images (samples, features)."""
        results = []
        for start in range(0, max(len(images), 1), self.evaluation_rows):  # one tile at least: no images, no rows
            tile = images[start : start + self.evaluation_rows]
            rows = self.place(tile, np.zeros(len(tile), dtype=np.int64), scale)
            x, _ = self.batch(rows, slice(0, len(tile)), layers[0].weight.dtype)
            results.append(self.to_numpy(self.forward(layers, x)[-1]))
        return np.concatenate(results)  # (samples, classes)

    def logits_on_device(self, layers: list[Layer], images: Array, scale: float) -> Array:
        """Return the last layer's outputs, (samples, outputs), for images (samples, features), both on the device."""
        results = []
        for start in range(0, max(images.shape[0], 1), self.evaluation_rows):
            tile = images[start : start + self.evaluation_rows, ...]  # (tile, features)
            x, _ = self.gather(Rows(tile, tile, scale), slice(0, tile.shape[0]), layers[0].weight.dtype)
            results.append(self.forward(layers, x)[-1])
        return self.xp.concat(results)  # (samples, outputs)

    def compile(self, job: TrainingJob) -> Plan:
        """Return the fastest plan that this backend has for `job`; the first run may still compile.

        Raises:
            ConfigError: the backend has no products of `job.precision`.
        """
        self.check_precision(job.precision)
        return GenericPlan(self, job)

    def communicator(self, communicator: Communicator) -> Communicator:
        """Return what adds up this backend's arrays over the same processes; a device may have a faster way."""
        return communicator

    def check_precision(self, precision: str) -> None:
        """Refuse a precision of matrix products that the backend does not have; every `compile` begins with it.

        Raises:
            ConfigError: it is not one of `precisions`.
        """
        if precision not in self.precisions:
            known = " or ".join(self.precisions)
            others = "; bfloat16 is of the backend cupy, on a GPU" if precision == "bfloat16" else ""
            raise ConfigError(f"precision of the backend {self.name} must be {known}, got {precision!r}{others}")

"""The NumPy backend: the generic operations with fewer temporaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import ACTIVATIONS, Array, relu, relu_backward
from ..base import Backend
from ..generic_plan import GenericPlan
from ..losses import loss_function, sigmoid_cross_entropy, softmax_cross_entropy
from ..optimizers import SGD, Adam, Optimizer, State
from ..override import override
from ..plan import Layer, Plan, Rows, TrainingJob
from ..sparse_rows import is_small, is_sparse
from .flat_plan import MOST_PARAMETERS, FlatPlan

# Numbers of a parameter that are updated at once: with the optimizer's slots and temporaries, about 2 MB of float64.
UPDATE_BLOCK = 32_768
# With a smaller weight, in bytes, or fewer entries of a column on average, sparse rows take less time row by row.
CACHED_WEIGHT = 1 << 22
ENTRIES_OF_COLUMN = 2
# Dense rows that are predicted at once: floating-point copies of MNIST's take 1.6 MB, which the cache of a core holds
# or nearly so; 784-256-10 takes 0.98 to 1.03 of a plain script's time, with 4096 rows 1.06 to 1.14.
PREDICTED_ROWS = 512


class NumPyBackend(Backend):
    """NumPy on the CPU."""

    name = "numpy"
    is_on_host = True
    takes_sparse = True
    tile_rows = 2048  # 2048 x 784 float32 are 6.4 MB: a tile stays in the last-level cache between its two products

    def __init__(self) -> None:
        super().__init__(np)

    @override
    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        return np.array(array)

    @override
    def all_finite(self, arrays: Iterable[Array]) -> bool:
        return all(bool(np.isfinite(array).all()) for array in arrays)

    @override
    def read_sums(self, sums: Sequence[tuple[Array, Array]]) -> npt.NDArray[np.float64]:
        return self.to_numpy(np.array(sums, dtype=np.float64))  # (pairs, 2)

    @override
    def compile(self, job: TrainingJob) -> Plan:
        """Return a plan with fewer calls for small networks."""
        self.check_precision(job.options.precision)
        is_small = sum(layer.weight.size + layer.bias.size for layer in job.layers) <= MOST_PARAMETERS
        is_flat = is_small and vars(type(job.options.optimizer)).get("is_elementwise", False)  # a subclass may not be
        return FlatPlan(self, job) if is_flat else GenericPlan(self, job)

    @override
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
        """Apply one optimizer step, to a large parameter in blocks that stay in the cache; in place where it may."""
        given = (parameter, grad, *state.values())
        arrays = [array if array.flags.writeable else array.copy(order="K") for array in given]
        of_type: Callable[..., tuple[Array, State]] = IN_PLACE.get(type(optimizer), super().update)  # of no subclass
        update = partial(of_type, optimizer, step=step, learning_rate=learning_rate, l2=l2)
        is_elementwise = vars(type(optimizer)).get("is_elementwise", False)  # a subclass may not be
        is_large = parameter.size > UPDATE_BLOCK and is_elementwise and bool(state)  # without slots, two passes do
        if not (is_large and all(array.flags.c_contiguous for array in arrays)):
            return update(arrays[0], arrays[1], dict(zip(state, arrays[2:], strict=True)))
        flat = [array.reshape(-1) for array in arrays]
        for start in range(0, parameter.size, UPDATE_BLOCK):
            part, of_grad, *slots = (array[start : start + UPDATE_BLOCK] for array in flat)
            made, updated = update(part, of_grad, dict(zip(state, slots, strict=True)))
            for array, new in zip((part, *slots), (made, *(updated[slot] for slot in state)), strict=True):
                if new is not array:
                    array[...] = new
        return arrays[0], dict(zip(state, arrays[2:], strict=True))

    @override
    def gather(self, rows: Rows, index: Array | slice, dtype: Any) -> tuple[Array, Array]:
        if isinstance(index, slice) and index == slice(0, rows.images.shape[0]):
            images, labels = rows.images, rows.labels  # SciPy would copy them
        elif isinstance(index, slice) or is_sparse(rows.images):
            images, labels = rows.images[index], rows.labels[index]
        else:
            images, labels = rows.images.take(index, axis=0), rows.labels.take(index, axis=0)
        x = images.astype(dtype, copy=False)  # (batch, features)
        if images.dtype.kind in "iu":
            x *= rows.scale  # a copy already, since its type changed
        return x, labels

    @override
    def logits(self, layers: list[Layer], images: Any, scale: float) -> npt.NDArray[Any]:
        """Compute the outputs without a copy of dense rows, and of many sparse rows column by column.

        Each row of the first layer's weight is then read once, in sequence, with the same order of additions.
        """
        if not (is_small(images) if is_sparse(images) else images.flags.c_contiguous):
            return super().logits(layers, images, scale)
        count, size = images.shape[0], PREDICTED_ROWS
        is_far = layers[0].weight.nbytes > CACHED_WEIGHT
        is_by_column = is_sparse(images) and is_far and images.nnz >= ENTRIES_OF_COLUMN * images.shape[1]
        if is_by_column:
            size = -(-count // -(-count // self.evaluation_rows))  # of equal tiles
        elif is_sparse(images):
            return np.asarray(self.logits_on_device(layers, images, scale))  # (samples, outputs)
        tiles = (images[start : start + size] for start in range(0, max(count, 1), size))
        results = [self.logits_on_device(layers, tile.tocsc() if is_by_column else tile, scale) for tile in tiles]
        return np.concatenate(results)  # (samples, outputs)

    @override
    def linear(self, x: Array, weight: Array, bias: Array, *, activation: str) -> Array:
        y = x @ weight  # (batch, out_features)
        y += bias
        forward = ACTIVATIONS[activation].forward
        # Against a row of zeros NumPy takes whole registers, against a number one element at a time.
        return np.maximum(y, np.zeros(bias.shape, bias.dtype), out=y) if forward is relu else forward(np, y)

    @override
    def linear_backward(
        self, grad_y: Array, y: Array, x: Array, weight: Array, *, activation: str, need_grad_x: bool = True
    ) -> tuple[Array | None, Array, Array]:
        """Compute the gradients; the derivative of ReLU is applied in place."""
        backward = ACTIVATIONS[activation].backward
        grad_z = np.multiply(grad_y, y > 0, out=grad_y) if backward is relu_backward else backward(np, grad_y, y)
        grad_weight = x.T @ grad_z  # (in_features, out_features)
        grad_bias = np.add.reduce(grad_z, axis=0)  # (out_features,)
        return (grad_z @ weight.T if need_grad_x else None), grad_weight, grad_bias

    @override
    def loss(
        self, outputs: Array, labels: Array, *, loss: str, batch_size: float, weights: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Compute the loss; cross-entropy indexes by label instead of multiplying by a one-hot matrix."""
        function = loss_function(loss)
        if function is sigmoid_cross_entropy and weights is None:
            return _sigmoid_cross_entropy(outputs, labels, batch_size)
        if function is not softmax_cross_entropy or weights is not None:
            return super().loss(outputs, labels, loss=loss, batch_size=batch_size, weights=weights)
        best = outputs.argmax(axis=1)  # (rows,)
        starts = np.arange(0, outputs.size, outputs.shape[1])  # (rows,), where each row starts in `flat`
        of_best, of_label = starts + best, starts + labels  # (rows,), (rows,)
        grad = outputs.astype(np.float64, order="C")  # (rows, classes)
        flat = grad.reshape(-1)  # (rows * classes,)
        grad -= flat[of_best][:, None]
        shifted = flat[of_label]  # (rows,)
        np.exp(grad, out=grad)
        at_label = flat[of_label]  # (rows,)
        flat[of_best] = 0  # the largest's own term is 1, beside which a small rest would be lost
        rest = np.add.reduce(grad, axis=1)  # (rows,)
        loss_sum = np.add.reduce(np.log1p(rest) - shifted)
        flat[of_best] = 1
        flat[of_label] = (at_label - 1) - rest
        grad /= ((1 + rest) * batch_size)[:, None]
        return loss_sum, np.int64(np.count_nonzero(best == labels)), grad.astype(outputs.dtype, copy=False)


def _update_with_adam(
    optimizer: Adam, parameter: Array, grad: Array, state: State, *, step: int, learning_rate: float, l2: float
) -> tuple[Array, State]:
    """`Adam.update` in place, with the same roundings."""
    mean, mean_square = state["mean"], state["mean_square"]
    correction = 1 - optimizer.beta_2**step
    epsilon = optimizer.epsilon / correction**0.5 if optimizer.epsilon_hat else optimizer.epsilon
    part = np.empty_like(grad)
    if l2:
        grad += np.multiply(parameter, float(l2), out=part)
    np.multiply(grad, 1 - optimizer.beta_1, out=part)
    mean *= optimizer.beta_1
    mean += part
    np.multiply(grad, 1 - optimizer.beta_2, out=part)
    part *= grad
    mean_square *= optimizer.beta_2
    mean_square += part
    np.divide(mean_square, correction, out=part)
    np.sqrt(part, out=part)
    part += epsilon
    np.divide(mean, 1 - optimizer.beta_1**step, out=grad)
    grad *= learning_rate
    grad /= part
    parameter -= grad
    return parameter, state


def _update_with_sgd(
    optimizer: SGD, parameter: Array, grad: Array, state: State, *, step: int, learning_rate: float, l2: float
) -> tuple[Array, State]:
    """`SGD.update` in place, with the same roundings."""
    if l2:
        grad += float(l2) * parameter
    if optimizer.momentum:
        parameter, state = SGD.update(optimizer, np, parameter, grad, state, step=step, learning_rate=learning_rate)
    else:
        grad *= learning_rate
        parameter -= grad
    return parameter, state


IN_PLACE: dict[type[Optimizer], Callable[..., tuple[Array, State]]] = {Adam: _update_with_adam, SGD: _update_with_sgd}


def _sigmoid_cross_entropy(outputs: Array, labels: Array, batch_size: float) -> tuple[Array, Array, Array]:
    """`sigmoid_cross_entropy` in plain NumPy, with the same formulas."""
    z = outputs.astype(np.float64, copy=False)  # (rows, outputs)
    positive, e = z > 0, np.exp(-np.abs(z))  # (rows, outputs), (rows, outputs) in [0, 1]
    loss_sum = (np.maximum(z, 0) - labels * z + np.log1p(e)).sum()
    whole = 1 + e  # (rows, outputs)
    more, less = 1 / whole, e / whole  # (rows, outputs) each: the probability of what the sign says, and of the other
    grad = np.where(positive, more, less) * (1 - labels) - np.where(positive, less, more) * labels
    grad /= batch_size
    right = (positive == (labels > 0.5)).all(axis=1)  # (rows,)
    return loss_sum, np.int64(np.count_nonzero(right)), grad.astype(outputs.dtype, copy=False)

"""Base of the CUDA plans: order and rates go to the device and sums come back once per run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import ACTIVATIONS, Array
from ..losses import parse_loss
from ..optimizers import Adam
from ..override import override
from ..plan import NO_ROWS, Plan, Totals, TrainingJob, checked_order
from .errors import gpu_errors
from .parameters import ParameterBuffer
from .source import ACTIVATION_NAMES, LOSS_NAMES, OPTIMIZER_NAMES, PIXELS, REALS, KernelSpec, labels_of

FIELDS = 5  # of `Rates` in kernels/optimizers.cuh
LEAST_STEPS = 4096  # that the buffers have room for: so many full batches are taken without a read


class CuPyPlan(Plan):
    """Plan with the parameters in one buffer and the inputs of a run in device memory.

    Attributes:
        network: compile-time parameters of the kernels.
        parameters: weights, biases and the optimizer's slots.
    """

    def __init__(self, job: TrainingJob, network: KernelSpec, cupy: Any) -> None:
        self.job, self.network, self.step, self._cupy = job, network, 0, cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)  # graphs are captured on such a stream only
        self._dtype, self._batch_size = network.real, int(job.batch_size)
        samples = len(job.rows.images)
        self._steps = max(-(-samples // self._batch_size), LEAST_STEPS)  # room of `_rates` and `_sums`
        with self._stream:
            self.parameters = ParameterBuffer(cupy, job.layers, job.options.optimizer)
            self._order: Array = cupy.arange(samples, dtype=np.int32)  # (samples,): the rows of a run
            self._rates: Array = cupy.empty((self._steps, FIELDS), dtype=self._dtype)  # as optimizers.cuh reads them
            self._sums: Array = cupy.empty((self._steps, 2), dtype=np.float64)  # loss and correct rows of each step
            self._batch_weights: Array = cupy.empty(self._steps if network.is_weighted else 1, dtype=np.float64)
            self._weights: Array = cupy.empty(1, dtype=np.float64)  # (samples,) where rows have weights
            if job.rows.weights is not None:
                self._weights = cupy.array(np.ascontiguousarray(job.rows.weights, dtype=np.float64), blocking=True)
        self._run_weights = job.rows.weights  # of the rows of `_order`, on the host
        self._is_in_order = True  # whether `_order` is 0, 1, 2, ...

    @override
    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        """Run the steps.

        Raises:
            ConfigError: an index of `order` is out of range, or a layer was assigned weights of another shape.
        """
        samples, batch_size = len(self._order), self._batch_size
        rows = None if order is None else checked_order(order, samples)
        count = samples if rows is None else len(rows)
        size = samples if count <= samples else samples // batch_size * batch_size  # whole batches before the last
        with self._on_device():
            self.parameters.take_in()
            for start in range(0, count, size):
                taken = min(size, count - start)
                self._set_order(None if rows is None else rows[start : start + taken])
                for loss, correct in self._take(-(-taken // batch_size), taken, stride=batch_size):
                    totals = Totals(totals.loss_sum + float(loss), totals.correct + int(correct), totals.rows)
        return totals._replace(rows=totals.rows + count)

    @override
    def run_epochs(self, epochs: int) -> list[Totals]:
        """Run epochs; full batches without a read from the device in between."""
        samples = len(self._order)
        if self._batch_size < samples:
            return super().run_epochs(epochs)
        totals: list[Totals] = []
        with self._on_device():
            self.parameters.take_in()
            self._set_order(None)
            while len(totals) < epochs:
                sums = self._take(min(epochs - len(totals), self._steps), samples, stride=0)
                totals += [Totals(float(loss), int(correct), samples) for loss, correct in sums]
        return totals

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Context manager: use the plan's stream, after pending work of the caller's stream."""
        with gpu_errors(self._cupy, "training", smaller_batch(self.job)):
            self._cupy.cuda.get_current_stream().synchronize()
            with self._stream:
                yield

    def _set_order(self, rows: npt.NDArray[np.int64] | None) -> None:
        """Copy the order of a run to the device: at most `samples` rows, or None for all in sequence."""
        if rows is None and self._is_in_order:
            return
        self._is_in_order = rows is None
        wanted = np.arange(len(self._order)) if rows is None else rows
        self._run_weights = None if self.job.rows.weights is None else self.job.rows.weights[wanted]
        self._order[: len(wanted)].set(wanted.astype(np.int32))

    def _take(self, steps: int, rows: int, *, stride: int) -> npt.NDArray[np.float64]:
        """Run steps on batches of `_order`; return their losses and correct rows, (steps, 2), with one read.

        Args:
            steps: number of steps, at most `_steps`.
            rows: number of valid rows of `_order`.
            stride: distance in rows between the starts of successive steps.
        """
        sizes = self._batch_sizes(steps, rows)
        self._rates[:steps].set(rates_of(self.job, self.step + 1, sizes).astype(self._dtype))
        if self.network.is_weighted:
            self._batch_weights[:steps].set(sizes)
        self._launch(steps, rows, stride)
        self.step += steps
        sums: npt.NDArray[np.float64] = self._sums[:steps].get()
        return sums

    def _batch_sizes(self, steps: int, rows: int) -> npt.NDArray[np.float64]:
        """Return the denominators of the mean loss, (steps,): rows or sum of weights, 1 where that is 0."""
        starts = np.arange(0, rows, self._batch_size)
        if self._run_weights is None:
            sizes = np.minimum(rows - starts, self._batch_size).astype(np.float64)
        else:
            sizes = np.add.reduceat(self._run_weights[:rows], starts, dtype=np.float64)
            sizes[sizes == 0] = 1
        return np.broadcast_to(sizes, steps).copy()  # one size where the steps are all on the same rows

    @abstractmethod
    def _launch(self, steps: int, rows: int, stride: int) -> None:
        """Submit the kernels of some steps to the current stream; arguments as in `_take`."""

    @override
    def state(self) -> dict[str, npt.NDArray[Any]]:
        with self._on_device():
            return self.parameters.slots()

    @override
    def load_state(self, state: dict[str, npt.NDArray[Any]], step: int) -> None:
        with self._on_device():
            self.parameters.load_slots(state)
        self.step = step


def smaller_batch(job: TrainingJob) -> str:
    """Return advice for a job that does not fit into memory."""
    return f"use a smaller batch_size than {job.batch_size}, a smaller network, or the backend numba"


def rates_of(job: TrainingJob, first_step: int, sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rates of each step, (steps, FIELDS), given the denominators of their mean losses, (steps,).

    Learning rate, Adam's two bias corrections, L2 strength and epsilon; unused ones are 1.
    """
    optimizer, steps = job.options.optimizer, len(sizes)
    rates = np.ones((steps, FIELDS))
    rates[:, 0] = job.learning_rates(first_step, steps)
    rates[:, 3] = job.options.penalty(sizes)
    rates[:, 4] = getattr(optimizer, "epsilon", 1.0)
    if isinstance(optimizer, Adam):
        numbers = np.arange(first_step, first_step + steps)
        rates[:, 1] = 1 - optimizer.beta_1**numbers
        rates[:, 2] = 1 - optimizer.beta_2**numbers
        if optimizer.epsilon_hat:
            rates[:, 4] /= np.sqrt(rates[:, 2])
    return rates


def network_of(job: TrainingJob, *, parts: int) -> KernelSpec:
    """Return the compile-time parameters of the kernels for a job that they support; see `KernelSpec`."""
    layers, images = job.layers, job.rows.images
    return KernelSpec(
        sizes=(images.shape[1], *(layer.weight.shape[1] for layer in layers)),
        activation=layers[0].activation,
        real=np.dtype(layers[0].weight.dtype),
        pixel=np.dtype(images.dtype),
        scale=float(job.rows.scale),
        optimizer=job.options.optimizer,
        parts=parts,
        loss=job.loss,
        is_weighted=job.rows.weights is not None,
    )


def supports(job: TrainingJob) -> bool:
    """Return whether the kernels support the job and the dtypes and shapes of its arrays."""
    rows, layers = job.rows, job.layers
    dtype, pixel = np.dtype(layers[0].weight.dtype), np.dtype(rows.images.dtype)
    outputs = [rows.images.shape[1:], *((layer.weight.shape[-1],) for layer in layers)]  # (features,), (units,)...
    activations = [ACTIVATIONS[layer.activation].forward for layer in layers]
    label, labels = labels_of(job.loss, layers[-1].weight.shape[-1])
    return (
        not (job.options.drops_or_clips or job.rows.on_host or job.is_divided or job.options.label_smoothing)
        and parse_loss(job.loss)[0] in LOSS_NAMES
        and type(job.options.optimizer) in OPTIMIZER_NAMES
        and all(activation in ACTIVATION_NAMES for activation in activations)
        and layers[-1].activation == "identity"
        and len({*activations[:-1]}) <= 1
        and dtype in REALS
        and all(array.dtype == dtype for layer in layers for array in (layer.weight, layer.bias))
        and pixel in PIXELS | REALS
        and 1 <= job.batch_size <= len(rows.images) < 2**31
        and rows.labels.dtype == label
        and rows.labels.shape == (len(rows.images), *labels)
        and (rows.weights is None or rows.weights.shape == rows.images.shape[:1])
        and all(array.flags.c_contiguous for array in (rows.images, rows.labels))
        and all(layer.weight.shape == (*n, *m) for layer, n, m in zip(layers, outputs, outputs[1:], strict=False))
        and all(layer.bias.shape == m for layer, m in zip(layers, outputs[1:], strict=True))
        and sum(layer.weight.size + layer.bias.size for layer in layers) < 2**31
    )

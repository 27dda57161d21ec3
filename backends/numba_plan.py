"""The Numba plan: flat buffers for the parameters, gradients and slots, and one compiled call for a run."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ConfigError
from .generic_plan import check_state
from .losses import LOSSES, softmax_cross_entropy
from .numba_compile import announced
from .numba_operations import FLOATS, activation_code
from .numba_optimizers import rule_of, slot_pair
from .numba_training import Buffers, Data, Network, train
from .plan import NO_ROWS, Plan, Totals, TrainingJob, checked_order

# The most multiply-adds m n k that OpenBLAS does on one thread: above 2^18 it takes floor(m n k / 2^18) threads, as far
# as there are cores. 2^18 is SMP_THRESHOLD_MIN * GEMM_MULTITHREAD_THRESHOLD = 65536 * 4. Source: OpenBLAS,
# interface/gemm.c, get_gemm_optimal_nthreads, which has other figures for ARM's Neoverse. Tiles of a narrow network are
# cut so small that all of their products are one thread's: nothing waits for another, and a tile's images, at most
# 2^19 / units numbers, stay in the second-level cache: 0.2 MB as float32 for 10 units.
SERIAL_PRODUCT = 2**19 - 1
# Estimates; no other figures have been measured. Of fewer rows, adding up the tiles' gradients would cost more than one
# thread saves; then tiles are few and large, of so many bytes of images in the network's type.
MIN_SERIAL_ROWS = 16
SHARED_TILE_BYTES = 2**24


class NumbaPlan(Plan):
    """All steps of a run in one call of compiled code.

    The parameters lie in one flat buffer, all weights and then all biases, and the job's layers get views into it. The
    gradients and each of the optimizer's slots are buffers of the same layout, so an update is one pass over them.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.step = 0
        shapes = [layer.weight.shape for layer in job.layers]  # (in_features, out_features) each
        dtype, images = job.layers[0].weight.dtype, job.rows.images
        sizes = [shapes[0][0], *(units for _, units in shapes)]
        weight_at = list(accumulate((n * m for n, m in shapes), initial=0))
        unit_at = list(accumulate(sizes[1:], initial=0))
        codes = [activation_code(layer.activation) for layer in job.layers]
        self._network = Network(*(np.array(part, dtype=np.int64) for part in (sizes, codes, weight_at, unit_at)))
        self._tile_rows = _tile_rows(job)
        count = weight_at[-1] + unit_at[-1]
        self._parameters = np.zeros(count, dtype=dtype)  # (parameters,)
        names = job.optimizer.init(np, self._parameters[:0])
        self._slots = {name: np.zeros(count, dtype=dtype) for name in names}  # (parameters,) each
        first, second = slot_pair(list(self._slots.values()), self._parameters)
        one_tile = self._tile_rows >= min(job.batch_size, len(images))
        self._buffers = Buffers(
            parameters=self._parameters,
            grads=np.empty(count, dtype=dtype),
            tile_grads=np.empty(0 if one_tile else count, dtype=dtype),
            first=first,
            second=second,
            x=np.empty(self._tile_rows * sizes[0], dtype=dtype),
            outputs=np.empty(self._tile_rows * unit_at[-1], dtype=dtype),
            grad_outputs=np.empty(self._tile_rows * unit_at[-1], dtype=dtype),
        )
        self._data = Data(images, job.rows.labels, float(job.rows.scale) if images.dtype.kind in "iu" else 1.0)
        self._views = self._layer_views(self._parameters)
        rule = rule_of(job.optimizer)
        assert rule is not None  # `supports` says so
        self._rule = rule
        with announced("compiling the numba plan; cached for the next process"):
            self._train(np.empty(0, dtype=np.int64), NO_ROWS)

    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        """See `Plan.run`.

        Raises:
            ConfigError: an index of `order` is not a row of the job, or a layer was given weights of another shape.
        """
        count = len(self._data.images)
        rows = np.arange(count, dtype=np.int64) if order is None else checked_order(order, count)  # (rows,)
        self._adopt_layers()
        return self._train(rows, totals)

    def _train(self, order: npt.NDArray[np.int64], totals: Totals) -> Totals:
        """Take the steps for `order`, (rows,)."""
        job = self.job
        learning_rates = job.learning_rates(self.step + 1, -(-len(order) // job.batch_size))  # (steps,)
        loss_sum, correct = train(
            self._network,
            self._buffers,
            self._data,
            self._rule,
            order,
            learning_rates,
            self.step + 1,
            int(job.batch_size),
            self._tile_rows,
            float(job.l2),
            float(totals.loss_sum),
            int(totals.correct),
        )
        self.step += len(learning_rates)
        return Totals(loss_sum, correct, totals.rows + len(order))

    def _layer_views(self, buffer: npt.NDArray[Any]) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Views of a flat buffer as each layer's (in_features, out_features) weight and (out_features,) bias."""
        network, weights = self._network, int(self._network.weight_at[-1])
        return [
            (buffer[a:b].reshape(n, m), buffer[weights + c : weights + d])
            for (a, b), (c, d), (n, m) in zip(
                pairwise(network.weight_at), pairwise(network.unit_at), pairwise(network.sizes), strict=True
            )
        ]

    def _adopt_layers(self) -> None:
        """Take over the arrays that were put into the layers since the last run, and put our views in their place."""
        for k, (layer, (weight, bias)) in enumerate(zip(self.job.layers, self._views, strict=True)):
            for name, view in (("weight", weight), ("bias", bias)):
                array = getattr(layer, name)
                if array is view:
                    continue
                if array.shape != view.shape or array.dtype != view.dtype:
                    raise ConfigError(
                        f"the {name} of layer {k} must stay {view.dtype} of shape {view.shape}, "
                        f"got {array.dtype} of shape {array.shape}; compile a new plan for another network"
                    )
                view[...] = array
                setattr(layer, name, view)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """See `Plan.state`."""
        return {name: np.array(view) for name, view in self._slot_views().items()}

    def load_state(self, state: dict[str, npt.NDArray[Any]], step: int) -> None:
        """See `Plan.load_state`."""
        views = self._slot_views()
        check_state(state, views)
        self.step = step
        for name, view in views.items():
            view[...] = state[name]

    def _slot_views(self) -> dict[str, npt.NDArray[Any]]:
        """Views of the slots by the names of `Plan.state`, each of its parameter's shape."""
        return {
            f"layers.{k}.{parameter}.{slot}": view
            for slot, buffer in self._slots.items()
            for k, views in enumerate(self._layer_views(buffer))
            for parameter, view in zip(("weight", "bias"), views, strict=True)
        }


def supports(job: TrainingJob) -> bool:
    """Whether the kernels know all of the job, and its arrays are of the types and shapes that they read unchecked."""
    rows, layers = job.rows, job.layers
    dtype = layers[0].weight.dtype
    outputs = [rows.images.shape[1:], *((layer.weight.shape[-1],) for layer in layers)]  # (features,), (units,)...
    return (
        LOSSES[job.loss] is softmax_cross_entropy
        and rule_of(job.optimizer) is not None
        and all(activation_code(layer.activation) is not None for layer in layers)
        and dtype in FLOATS
        and all(array.dtype == dtype for layer in layers for array in (layer.weight, layer.bias))
        and (rows.images.dtype.kind in "iu" or rows.images.dtype in FLOATS)
        and all(array.flags.c_contiguous and array.dtype.isnative for array in (rows.images, rows.labels))
        and rows.labels.dtype == np.int64
        and rows.labels.shape == rows.images.shape[:1]
        and all(layer.weight.shape == (*x, *y) for layer, (x, y) in zip(layers, pairwise(outputs), strict=True))
        and all(layer.bias.shape == y for layer, y in zip(layers, outputs[1:], strict=True))
    )


def _tile_rows(job: TrainingJob) -> int:
    """Rows of a batch that are worked through at once; a batch is divided evenly."""
    batch = max(min(job.batch_size, len(job.rows.images)), 1)
    serial = SERIAL_PRODUCT // max(layer.weight.size for layer in job.layers)
    row_bytes = job.layers[0].weight.shape[0] * job.layers[0].weight.itemsize
    limit = serial if serial >= MIN_SERIAL_ROWS else max(SHARED_TILE_BYTES // row_bytes, 1)
    tiles = -(-batch // limit)
    return int(-(-batch // tiles))

"""Plan of the JAX backend: one compiled call for all full batches of a run, another for a shorter last batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ..activations import ACTIVATIONS, Activation, Array
from ..base import Backend
from ..generic_plan import GenericPlan
from ..losses import Loss, loss_function
from ..optimizers import State
from ..override import override
from ..plan import NO_ROWS, Layer, Rows, Totals, TrainingJob, checked_order
from ..step_options import StepOptions
from .functions import GENERIC

Parameters = tuple[tuple[Array, Array], ...]  # (weight, bias) of each layer
States = tuple[tuple[State, State], ...]  # of weight and bias of each layer


@dataclass(frozen=True)
class StepOutline:
    """Static arguments of a compiled step; jobs with equal outline and shapes share its code.

    Attributes:
        activations: names of the layers' activations.
        loss: name of the loss.
        rows: functions of those names, so that a changed table is retraced.
        options: options of a step.
        scale: factor of integer images.
        batch_size: rows of a step.
        in_order: whether rows are selected by an order; otherwise they are taken in sequence.
    """

    activations: tuple[str, ...]
    loss: str
    rows: tuple[Activation | Loss, ...]
    options: StepOptions
    scale: float
    batch_size: int
    in_order: bool


class JaxPlan(GenericPlan):
    """Generic steps in an XLA loop over the batches of a run."""

    def __init__(self, backend: Backend, job: TrainingJob) -> None:
        super().__init__(backend, job)
        self.description = "compiled: the steps of a run are one call, compiled by XLA"

    @override
    def run(self, order: npt.NDArray[np.int64] | None = None, totals: Totals = NO_ROWS) -> Totals:
        samples, batch_size = self.job.rows.images.shape[0], self.job.batch_size
        rows = None if order is None else checked_order(order, samples)  # (rows,)
        if rows is None and batch_size < samples:
            rows = np.arange(samples)
        count = samples if rows is None else len(rows)
        whole = count // batch_size * batch_size if rows is not None else 0
        parts = [(whole // batch_size, batch_size, slice(0, whole)), (1, count - whole, slice(whole, count))]
        with self._backend.scope():
            sums = jnp.asarray(totals.loss_sum, jnp.float64), jnp.asarray(totals.correct, jnp.int64)  # (), ()
            for steps, size, part in parts:
                if steps and size:
                    sums = self._take(None if rows is None else rows[part], steps, size, sums)
            return self._backend.read_totals(*sums, totals.rows + count)

    def _take(
        self, rows: npt.NDArray[np.int64] | None, steps: int, batch_size: int, sums: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        """Run `steps` steps of `batch_size` rows each, and return the updated sums."""
        job, placed = self.job, self.job.rows
        # A longer array of one length, of which only `steps` batches are taken, so that one compilation is enough.
        capacity = max(-(-placed.images.shape[0] // batch_size), steps) if batch_size == job.batch_size else 1
        learning_rates = np.zeros(capacity)
        learning_rates[:steps] = job.learning_rates(self.step + 1, steps)
        order = np.zeros(capacity * batch_size, np.int64)
        if rows is not None:
            order[: len(rows)] = rows
        activations = tuple(layer.activation for layer in job.layers)
        functions: tuple[Activation | Loss, ...] = (
            *(ACTIVATIONS[name] for name in activations),
            loss_function(job.loss),
        )
        outline = StepOutline(
            activations, job.loss, functions, job.options, placed.scale, batch_size, in_order=rows is not None
        )
        parameters = tuple((layer.weight, layer.bias) for layer in job.layers)
        parameters, states, *sums_then = take_steps(
            (parameters, tuple(self._states), *sums),
            placed.images, placed.labels, order, learning_rates, steps, self.step, outline=outline,
        )  # fmt: skip
        self._states = list(states)
        self.step += steps
        for layer, (weight, bias) in zip(job.layers, parameters, strict=True):
            layer.weight, layer.bias = weight, bias
        return sums_then[0], sums_then[1]


def _take_steps(
    start: tuple[Parameters, States, Array, Array],
    images: Array,
    labels: Array,
    order: Array,
    learning_rates: Array,
    steps: Array,
    taken: Array,
    *,
    outline: StepOutline,
) -> Any:
    """Run steps in sequence.

    Args:
        start: parameters, optimizer state, sum of losses and number of correct rows so far.
        images: (samples, features).
        labels: (samples,) or (samples, outputs).
        order: (batches * batch_size,), rows of the job.
        learning_rates: (batches,).
        steps: number of batches to run.
        taken: number of steps taken before.
        outline: static arguments.

    Returns:
        The updated `start`.
    """
    rows, size, options = Rows(images, labels, outline.scale), outline.batch_size, outline.options
    dtype, update = start[0][0][0].dtype, partial(GENERIC.update, options.optimizer)

    def step(k: Array, carry: tuple[Parameters, States, Array, Array]) -> tuple[Parameters, States, Array, Array]:
        parameters, states, loss_sum, correct = carry
        index = jax.lax.dynamic_slice(order, (k * size,), (size,)) if outline.in_order else slice(None)  # (batch,)
        x, targets = GENERIC.gather(rows, index, dtype)  # (batch, features), (batch,)
        layers = [Layer(*each, kind) for each, kind in zip(parameters, outline.activations, strict=True)]
        grads, batch_loss, batch_correct = GENERIC.gradients(
            layers, x, targets, loss=outline.loss, size=size, label_smoothing=options.label_smoothing
        )
        now = {"step": taken + k + 1, "learning_rate": learning_rates[k].astype(dtype)}
        moved, kept = [], []
        for layer, grad, state in zip(layers, grads, states, strict=True):
            weight, of_weight = update(layer.weight, grad[0], state[0], l2=options.l2, **now)
            bias, of_bias = update(layer.bias, grad[1], state[1], **now)
            moved.append((weight, bias))
            kept.append((of_weight, of_bias))
        return tuple(moved), tuple(kept), loss_sum + batch_loss, correct + batch_correct

    return jax.lax.fori_loop(0, steps, step, start)


take_steps = jax.jit(_take_steps, static_argnames="outline")

"""Parity: the same seed gives the same run on every backend, up to rounding.

Two comparisons with the first backend: loss and all parameters after each step, from equal weights and in lockstep; and
test accuracies of complete runs from several seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import NO_ROWS, Backend, ConfigError, Plan, TrainingJob
from ..datasets import Dataset
from ..network.evaluation import evaluate
from ..network.mlp import MLP
from .recipes import Recipe

DTYPES = ("float64", "float32")
# Largest relative difference that counts as rounding in float64, over 100 steps.
TOLERANCE = 1e-10
# In float32 rounding decides on which side of ReLU's kink a unit is whose input is about 0, and from there two right
# runs differ a thousand times as much as before. So a float32 run may be as far from the reference, by a factor, as the
# reference has come from float64: from the farthest of some float64 runs that begin within rounding of its weights.
ROUNDED_RUNS, ROUNDING = 5, 2.0**-24
FACTOR, LEAST_TOLERANCE = 5.0, 1e-6
ACCURACY_TOLERANCE = 0.002  # largest difference of the test accuracies of one seed


@dataclass(frozen=True)
class StepParity:
    """Deviation of a backend's steps from the first backend's.

    Attributes:
        backend: name of the backend.
        dtype: dtype of weights and arithmetic.
        steps: number of steps.
        loss_difference: maximum relative difference of the loss of a step.
        weight_difference: maximum `|w - reference| / |reference|` of any weight matrix or bias vector after any step,
            in the Euclidean norm.
        loss_excess: maximum of a step's difference, up to then, divided by its limit, up to then.
        weight_excess: the same of the weights.
    """

    backend: str
    dtype: str
    steps: int
    loss_difference: float
    weight_difference: float
    loss_excess: float
    weight_excess: float

    @property
    def passed(self) -> bool:
        """Whether no difference was above its limit; False for NaN."""
        return self.loss_excess <= 1 and self.weight_excess <= 1


@dataclass(frozen=True)
class AccuracyParity:
    """Deviation of a backend's final accuracies from the first backend's.

    Attributes:
        backend: name of the backend.
        dtype: dtype of weights and arithmetic.
        accuracies: test accuracy for each seed.
        difference: maximum difference for a seed.
        tolerance: limit of the difference.
    """

    backend: str
    dtype: str
    accuracies: tuple[float, ...]
    difference: float
    tolerance: float = ACCURACY_TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


def compare_steps(
    recipe: Recipe, data: Dataset, backends: Sequence[Backend], *, steps: int = 100, seed: int = 0
) -> Iterator[StepParity]:
    """Run the same steps on all backends in lockstep, and yield one result for each but the first.

    Args:
        recipe: network, optimizer, batch size and dtype; its schedule is ignored.
        data: training rows.
        backends: two or more; the first is the reference.
        steps: number of steps.
        seed: seed of weights and order.

    Raises:
        ConfigError: there are fewer than two backends.
    """
    if len(backends) < 2:
        raise ConfigError(f"parity compares two backends or more, got {len(backends)}")
    lanes, generator = [_prepare(recipe, data, backend, seed) for backend in backends], np.random.default_rng(seed)
    if recipe.dtype == "float32":
        exact = replace(recipe, dtype="float64")
        lanes += [_prepare(exact, data, backends[0], seed, generator) for _ in range(ROUNDED_RUNS)]
    differences, excess = np.zeros((2, len(lanes))), np.zeros((2, len(lanes)))  # of losses and weights, largest so far
    for order in _batches(recipe, len(data.train), steps, seed):
        results = [(plan.run(order, NO_ROWS).loss_sum, net.parameters()) for net, plan in lanes]
        loss, reference = results[0]
        losses = [abs(each - loss) / abs(loss) for each, _ in results]
        weights = [_largest_difference(parameters, reference) for _, parameters in results]
        differences = np.maximum(differences, [losses, weights])
        excess = np.maximum(excess, differences / _limits(differences[:, len(backends) :]))
    for k, backend in enumerate(backends[1:], start=1):
        figures = *differences[:, k].tolist(), *excess[:, k].tolist()
        yield StepParity(backend.name, recipe.dtype, steps, *figures)


def _limits(rounded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the limits of losses and weights, (2, 1), by the differences of the float64 runs, (2, runs or 0)."""
    if not rounded.size:
        return np.full((2, 1), TOLERANCE)
    limits: npt.NDArray[np.float64] = np.maximum(FACTOR * rounded.max(axis=1, keepdims=True), LEAST_TOLERANCE)
    return limits


def compare_accuracies(
    recipe: Recipe, data: Dataset, backends: Sequence[Backend], *, seeds: int = 5
) -> Iterator[AccuracyParity]:
    """Run the complete recipe from seeds 0, 1, ... on every backend, and yield one result for each.

    Args:
        recipe: network and training.
        data: training and test rows.
        backends: the first is the reference.
        seeds: number of runs on each.
    """
    reference: tuple[float, ...] = ()
    for backend in backends:
        accuracies = []
        for seed in range(seeds):
            net = recipe.network(data, backend=backend, seed=seed)
            recipe.train(net, data.train, seed=seed)
            accuracy = evaluate(net, data.test).accuracy
            assert accuracy is not None  # a recipe's rows are of one class each
            accuracies.append(accuracy)
        reference = reference or tuple(accuracies)
        difference = max(abs(a - b) for a, b in zip(accuracies, reference, strict=True))
        yield AccuracyParity(backend.name, recipe.dtype, tuple(accuracies), difference)


def subset(data: Dataset, rows: int) -> Dataset:
    """Return the data set with its first `rows` training rows and at most as many test rows."""
    return replace(data, train=data.train.take(slice(rows)), test=data.test.take(slice(rows)))


def to_json(result: StepParity | AccuracyParity) -> dict[str, Any]:
    """Return a result as JSON, with its verdict."""
    return {**asdict(result), "passed": result.passed}


def _prepare(
    recipe: Recipe, data: Dataset, backend: Backend, seed: int, rounding: np.random.Generator | None = None
) -> tuple[MLP, Plan]:
    """Return an initialized network and its plan; with a generator, its weights are off by float32's rounding."""
    net = recipe.network(data, backend=backend, seed=seed)
    if rounding is not None:
        for layer in net.layers:
            weight = net.backend.to_numpy(layer.weight)
            layer.weight = net.backend.put(weight * (1 + ROUNDING * rounding.uniform(-1, 1, weight.shape)))
    return net, backend.compile(TrainingJob(net.layers, net.place(data.train), recipe.training))


def _batches(recipe: Recipe, count: int, steps: int, seed: int) -> Iterator[npt.NDArray[np.int64] | None]:
    """Yield the rows of each step: (batch,), or None for a full batch."""
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        batch_size = recipe.training.batch_size
        yield None if batch_size is None else generator.choice(count, min(batch_size, count), False)


def _largest_difference(parameters: dict[str, npt.NDArray[Any]], reference: dict[str, npt.NDArray[Any]]) -> float:
    """Return the maximum relative difference of an array, in the Euclidean norm; 0 if both are zero."""
    differences = []
    for name, expected in reference.items():
        difference = float(np.linalg.norm(parameters[name] - expected))
        differences.append(difference / float(np.linalg.norm(expected)) if difference else 0.0)
    return max(differences)

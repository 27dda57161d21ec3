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
TOLERANCE = 1e-10  # of float64: largest relative difference that counts as rounding over 100 steps
# In float32, rounding decides on which side of ReLU's kink a unit with an input of about 0 is, and two correct runs
# differ a thousand times as much from there. So the tolerance of float32 is measured: it is FACTOR times the largest
# difference of the reference from float64 runs whose initial weights are perturbed by float32's rounding.
PERTURBED_RUNS, ROUNDING = 5, 2.0**-24
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
        loss_ratio: maximum over the steps of the loss difference so far, divided by its tolerance so far.
        weight_ratio: the same for the weights.
    """

    backend: str
    dtype: str
    steps: int
    loss_difference: float
    weight_difference: float
    loss_ratio: float
    weight_ratio: float

    @property
    def passed(self) -> bool:
        """Whether both differences were within the tolerance after every step; False for NaN."""
        return self.loss_ratio <= 1 and self.weight_ratio <= 1


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
    runs, generator = [_prepare(recipe, data, backend, seed) for backend in backends], np.random.default_rng(seed)
    if recipe.dtype == "float32":
        exact = replace(recipe, dtype="float64")
        runs += [_prepare(exact, data, backends[0], seed, generator) for _ in range(PERTURBED_RUNS)]
    differences = ratios = np.zeros((2, len(runs)))  # of losses and weights, largest so far
    for order in _batches(recipe, len(data.train), steps, seed):
        results = [(plan.run(order, NO_ROWS).loss_sum, net.parameters()) for net, plan in runs]
        loss, reference = results[0]
        losses = [abs(each - loss) / abs(loss) for each, _ in results]
        weights = [_largest_difference(parameters, reference) for _, parameters in results]
        differences = np.maximum(differences, [losses, weights])
        ratios = np.maximum(ratios, differences / _tolerances(differences[:, len(backends) :]))
    for k, backend in enumerate(backends[1:], start=1):
        yield StepParity(backend.name, recipe.dtype, steps, *differences[:, k].tolist(), *ratios[:, k].tolist())


def _tolerances(perturbed: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the tolerances of losses and weights, (2, 1), given the differences of perturbed runs, (2, runs)."""
    if not perturbed.size:
        return np.full((2, 1), TOLERANCE)
    return np.asarray(np.maximum(FACTOR * perturbed.max(axis=1, keepdims=True), LEAST_TOLERANCE))


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
    recipe: Recipe, data: Dataset, backend: Backend, seed: int, generator: np.random.Generator | None = None
) -> tuple[MLP, Plan]:
    """Return an initialized network and its plan; a generator perturbs the weights by float32's rounding."""
    net = recipe.network(data, backend=backend, seed=seed)
    if generator is not None:
        for layer in net.layers:
            weight = backend.to_numpy(layer.weight)  # (in_features, out_features)
            layer.weight = backend.put(weight * (1 + ROUNDING * generator.uniform(-1, 1, weight.shape)))
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

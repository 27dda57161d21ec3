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

# Largest relative difference that counts as rounding, by dtype, over 100 steps.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
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
        tolerance: limit of both.
    """

    backend: str
    dtype: str
    steps: int
    loss_difference: float
    weight_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether both differences are within the tolerance; False for NaN."""
        return self.loss_difference <= self.tolerance and self.weight_difference <= self.tolerance


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
    lanes = [_prepare(recipe, data, backend, seed) for backend in backends]
    losses, weights = np.zeros(len(lanes)), np.zeros(len(lanes))  # (backends,): largest differences
    for order in _batches(recipe, len(data.train), steps, seed):
        results = [(plan.run(order, NO_ROWS).loss_sum, net.parameters()) for net, plan in lanes]
        reference_loss, reference = results[0]
        for k, (loss, parameters) in enumerate(results):
            losses[k] = np.maximum(losses[k], abs(loss - reference_loss) / abs(reference_loss))
            weights[k] = np.maximum(weights[k], _largest_difference(parameters, reference))
    for k, backend in enumerate(backends[1:], start=1):
        yield StepParity(
            backend.name, recipe.dtype, steps, float(losses[k]), float(weights[k]), TOLERANCES[recipe.dtype]
        )


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


def _prepare(recipe: Recipe, data: Dataset, backend: Backend, seed: int) -> tuple[MLP, Plan]:
    """Return an initialized network and its plan."""
    net = recipe.network(data, backend=backend, seed=seed)
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

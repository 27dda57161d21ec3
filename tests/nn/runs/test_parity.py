"""Parity: what it measures, and that it holds between every backend and the generic one."""

import dataclasses
import math

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import Backend, ConfigError
from xpnn.nn.runs.parity import (
    PERTURBED_RUNS,
    AccuracyParity,
    StepParity,
    compare_accuracies,
    compare_steps,
    subset,
    to_json,
)
from xpnn.nn.runs.recipes import RECIPES

# batches and the full batch, each in one type
RECIPES_AND_TYPES = [("quickstart", "float64"), ("gd-10", "float32")]


@pytest.mark.parametrize(("name", "dtype"), RECIPES_AND_TYPES)
def test_a_backend_takes_the_generic_backend_s_steps(generic, every_backend: Backend, name: str, dtype: str) -> None:
    recipe, data = dataclasses.replace(RECIPES[name], dtype=dtype), subset(nn.load_dataset("digits"), 300)
    (result,) = compare_steps(recipe, data, [generic, every_backend], steps=100)
    assert (result.steps, result.dtype) == (100, dtype)
    assert result.passed, result
    assert result.weight_difference < {"float64": 1e-10, "float32": 1e-4}[dtype]


def test_a_backend_ends_at_the_generic_backend_s_accuracy(generic, backend: Backend) -> None:
    recipe, data = RECIPES["quickstart"].with_options(epochs=3), nn.load_dataset("digits")
    first, second = compare_accuracies(recipe, data, [generic, backend], seeds=2)
    assert len(second.accuracies) == 2
    assert second.passed, (first, second)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["gd-10", "mnist-98"])
def test_a_backend_takes_the_generic_backend_s_steps_on_mnist(
    generic, every_backend: Backend, name: str, mnist
) -> None:
    recipe = dataclasses.replace(RECIPES[name], dtype="float64")
    (result,) = compare_steps(recipe, subset(mnist, 1000), [generic, every_backend], steps=30)
    assert result.passed, result


def test_differences_are_those_of_losses_and_weights(generic) -> None:
    class Slower(type(generic)):
        """Takes steps that are half a percent shorter."""

        def update(self, optimizer, parameter, grad, state, **options):
            return super().update(optimizer, parameter, 0.995 * grad, state, **options)

    recipe = dataclasses.replace(RECIPES["gd-10"], dtype="float64")
    data = subset(nn.load_dataset("digits"), 100)
    (result,) = compare_steps(recipe, data, [generic, Slower(generic.xp)], steps=1)
    net, other = (recipe.network(data, backend=each) for each in (generic, generic))
    for each, learning_rate in ((net, 0.1), (other, 0.0995)):
        nn.train(each, data, optimizer=nn.SGD(learning_rate), epochs=1, batch_size=None)
    expected = max(
        np.linalg.norm(other.parameters()[name] - array) / np.linalg.norm(array)
        for name, array in net.parameters().items()
    )
    assert result.weight_difference == pytest.approx(expected, rel=1e-9)
    assert result.loss_difference == 0  # the first step's loss comes before any update
    assert not result.passed


@pytest.mark.parametrize(
    ("name", "first_step", "error", "passes"),
    [
        ("as far as float64 goes, from the same step on", 5, 1e-3, True),
        ("farther", 5, 1e-2, False),
        ("as far, but before float64 does", 1, 1e-3, False),
        ("a little, all the time", 0, 1e-5, False),
        ("not at all", 0, 0.0, True),
    ],
)
def test_a_float32_run_may_be_as_far_from_the_reference_as_float64(
    generic, name: str, first_step: int, error: float, passes: bool
) -> None:
    """As at a kink of ReLU: the reference is on the one side in float32, and on the other in float64."""

    class Deviating(type(generic)):
        """Has shorter gradients in one type from some update on."""

        def deviate(self, dtype, first_update, error):
            self.dtype, self.first_update, self.error, self.updates = dtype, first_update, error, 0
            return self

        def update(self, optimizer, parameter, grad, state, **options):
            self.updates += self.dtype == grad.dtype
            at_error = self.dtype == grad.dtype and self.updates > self.first_update
            return super().update(optimizer, parameter, (1 - self.error * at_error) * grad, state, **options)

    recipe, data = dataclasses.replace(RECIPES["gd-10"], dtype="float32"), subset(nn.load_dataset("digits"), 100)
    per_step = 2 * len(recipe.network(data, backend=generic).layers)
    reference = Deviating(generic.xp).deviate(np.float64, 5 * PERTURBED_RUNS * per_step, 1e-3)
    other = Deviating(generic.xp).deviate(np.float32, first_step * per_step, error)
    (result,) = compare_steps(recipe, data, [reference, other], steps=10)
    assert result.passed == passes, (name, result)


def test_nan_does_not_pass() -> None:
    assert not StepParity("x", "float64", 1, math.nan, 0.0, math.nan, 0.0).passed
    assert not StepParity("x", "float64", 1, 0.0, math.nan, 0.0, math.nan).passed
    assert StepParity("x", "float64", 1, 1e-11, 1e-11, 0.1, 0.1).passed


def test_accuracies_may_differ_by_two_tenths_of_a_point() -> None:
    assert AccuracyParity("x", "float32", (0.9,), 0.002).passed
    assert not AccuracyParity("x", "float32", (0.9,), 0.0021).passed
    assert to_json(AccuracyParity("x", "float32", (0.9,), 0.001))["passed"] is True


def test_one_backend_is_nothing_to_compare(generic) -> None:
    with pytest.raises(ConfigError, match="two backends or more, got 1"):
        list(compare_steps(RECIPES["quickstart"], nn.load_dataset("digits"), [generic]))

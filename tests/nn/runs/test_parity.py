"""Parity: what it measures, and that it holds between every backend and the generic one."""

import dataclasses
import math

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import Backend, ConfigError
from xpnn.nn.runs.parity import AccuracyParity, StepParity, compare_accuracies, compare_steps, subset, to_json
from xpnn.nn.runs.recipes import RECIPES

# batches and the full batch, each in one type
RECIPES_AND_TYPES = [("quickstart", "float64"), ("gd-10", "float32")]


@pytest.mark.parametrize(("name", "dtype"), RECIPES_AND_TYPES)
def test_a_backend_takes_the_generic_backend_s_steps(generic, every_backend: Backend, name: str, dtype: str) -> None:
    recipe, data = dataclasses.replace(RECIPES[name], dtype=dtype), subset(nn.load_dataset("digits"), 300)
    (result,) = compare_steps(recipe, data, [generic, every_backend], steps=100)
    assert (result.steps, result.dtype, result.tolerance) == (100, dtype, {"float64": 1e-10, "float32": 1e-4}[dtype])
    assert result.passed, result


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


def test_nan_does_not_pass() -> None:
    assert not StepParity("x", "float64", 1, math.nan, 0.0, 1e-10).passed
    assert not StepParity("x", "float64", 1, 0.0, math.nan, 1e-10).passed
    assert StepParity("x", "float64", 1, 1e-11, 1e-11, 1e-10).passed


def test_accuracies_may_differ_by_two_tenths_of_a_point() -> None:
    assert AccuracyParity("x", "float32", (0.9,), 0.002).passed
    assert not AccuracyParity("x", "float32", (0.9,), 0.0021).passed
    assert to_json(AccuracyParity("x", "float32", (0.9,), 0.001))["passed"] is True


def test_one_backend_is_nothing_to_compare(generic) -> None:
    with pytest.raises(ConfigError, match="two backends or more, got 1"):
        list(compare_steps(RECIPES["quickstart"], nn.load_dataset("digits"), [generic]))

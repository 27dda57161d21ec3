"""What a compiled plan does before, between and after its runs: orders, layers, states."""

import numpy as np
import pytest
from xpnn.backends import (
    SGD,
    Adam,
    AdamW,
    ConfigError,
    GenericPlan,
    ModelFileError,
    RMSprop,
    Totals,
)

FEATURES, COUNT = 19, 23
MOMENTUM = SGD(0.05, momentum=0.9)
KIND = "features-dense"


@pytest.fixture
def a_job(make_job, kinds):
    """`a_job(optimizer)`: dense bytes into 5 units."""
    return lambda optimizer=MOMENTUM, **job: make_job(kinds[KIND], optimizer, **job)


@pytest.fixture
def a_pair(make_pair, kinds):
    """`a_pair(optimizer)`: the compiled plan and the generic one of the same job, each with layers of its own."""
    return lambda optimizer=MOMENTUM, **job: make_pair(kinds[KIND], optimizer, **job)


def train(plan, epochs=3):
    generator = np.random.default_rng(3)
    return [plan.run(generator.permutation(COUNT)) for _ in range(epochs)]


def parameters_of(plan):
    return np.concatenate([array.ravel() for layer in plan.job.layers for array in (layer.weight, layer.bias)])


def assert_same_training(plan, reference):
    for ours, theirs in zip(train(plan), train(reference), strict=True):
        assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=1e-10)
        assert (ours.correct, ours.rows) == (theirs.correct, theirs.rows)
    np.testing.assert_allclose(parameters_of(plan), parameters_of(reference), rtol=1e-10, atol=1e-10)
    assert plan.step == reference.step


# Orders


def test_no_order_means_all_rows_as_they_stand(a_pair):
    plans = [a_pair()[0] for _ in range(2)]
    assert plans[0].run() == plans[1].run(np.arange(COUNT))
    np.testing.assert_array_equal(parameters_of(plans[0]), parameters_of(plans[1]))


def test_an_empty_order_changes_nothing(a_pair):
    plan, _ = a_pair()
    before = parameters_of(plan)
    assert plan.run(np.empty(0, dtype=np.int64), Totals(1.5, 2, 3)) == Totals(1.5, 2, 3)
    assert plan.step == 0
    np.testing.assert_array_equal(parameters_of(plan), before)


def test_totals_are_added_to(a_pair):
    plan, other = a_pair()[0], a_pair()[0]
    total, more = plan.run(), other.run(totals=Totals(2.0, 3, 4))
    assert more.loss_sum == pytest.approx(total.loss_sum + 2, rel=1e-14)
    assert (more.correct, more.rows) == (total.correct + 3, COUNT + 4)


@pytest.mark.parametrize(
    ("order", "shown"), [([0, 22, 23], "got 23 at position 2"), ([0, -1, 5], "got -1 at position 1")]
)
def test_rows_that_do_not_exist_are_refused(a_pair, order, shown):
    plan, _ = a_pair()
    before = parameters_of(plan)
    with pytest.raises(ConfigError, match=rf"must be in \[0, 23\), {shown}"):
        plan.run(np.array(order))
    assert plan.step == 0
    np.testing.assert_array_equal(parameters_of(plan), before)
    assert plan.run().rows == COUNT


def test_the_order_may_be_read_only_and_is_left_alone(a_pair):
    plan, other = a_pair()[0], a_pair()[0]
    order = np.arange(COUNT)
    order.flags.writeable = False  # Numba would take it for another type, and compile anew
    assert plan.run(order) == other.run(np.arange(COUNT))
    np.testing.assert_array_equal(order, np.arange(COUNT))


# Layers


def test_the_callers_arrays_are_left_alone(backend, a_job):
    job = a_job()
    weight, before = job.layers[0].weight, job.layers[0].weight.copy()
    backend.compile(job).run()
    np.testing.assert_array_equal(weight, before)
    assert not np.array_equal(job.layers[0].weight, before)


def test_making_a_plan_changes_nothing(backend, a_job):
    job = a_job()
    arrays = [(layer.weight.copy(), layer.bias.copy()) for layer in job.layers]
    plan = backend.compile(job)
    assert plan.step == 0
    for layer, (weight, bias) in zip(job.layers, arrays, strict=True):
        np.testing.assert_array_equal(layer.weight, weight)
        np.testing.assert_array_equal(layer.bias, bias)


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_arrays_put_into_the_layers_are_taken_over(a_pair, a_job, activation):
    plan, reference = a_pair(activation=activation)
    train(plan)
    train(reference)
    for job in (plan.job, reference.job):
        for layer, fresh in zip(job.layers, a_job().layers, strict=True):
            layer.weight, layer.bias = np.asfortranarray(fresh.weight * 0.5), fresh.bias + 1
    assert_same_training(plan, reference)


def test_arrays_changed_in_place_between_runs_are_taken_over(a_pair):
    plan, reference = a_pair()
    train(plan)
    train(reference)
    for job in (plan.job, reference.job):
        for layer in job.layers:
            layer.weight *= 0.5
            layer.bias += 1
    assert_same_training(plan, reference)


def test_two_plans_of_one_network_take_turns(backend, generic, a_pair):
    plan, reference = a_pair()
    other, other_reference = backend.compile(plan.job), GenericPlan(generic, reference.job)
    for _ in range(2):
        assert_same_training(plan, reference)
        assert_same_training(other, other_reference)


@pytest.mark.parametrize("array", [np.zeros((FEATURES, 1)), np.zeros((FEATURES, 5), dtype=np.float32)])
def test_weights_of_another_kind_are_refused(a_pair, array):
    plan, _ = a_pair()
    plan.job.layers[0].weight = array
    with pytest.raises(ConfigError, match=r"weight of layer 0 must stay float64 of shape \(19, 5\), got"):
        plan.run()
    assert plan.step == 0


# States


@pytest.mark.parametrize(
    "optimizer", [MOMENTUM, RMSprop(1e-2), Adam(1e-2), AdamW(1e-2, weight_decay=0.1)], ids=lambda rule: rule.name
)
def test_training_is_resumed_from_a_state(a_pair, optimizer):
    plan, resumed = a_pair(optimizer)[0], a_pair(optimizer)[0]
    train(plan)
    for layer, source in zip(resumed.job.layers, plan.job.layers, strict=True):
        layer.weight, layer.bias = source.weight.copy(), source.bias.copy()
    resumed.load_state(plan.state(), plan.step)
    assert resumed.step == plan.step == 15
    assert train(resumed) == train(plan)
    assert resumed.step == plan.step
    np.testing.assert_array_equal(parameters_of(resumed), parameters_of(plan))


def test_a_state_goes_from_one_plan_to_the_other_kind(a_pair):
    plan, reference = a_pair(Adam(1e-2))
    _, resumed = a_pair(Adam(1e-2))
    train(plan)
    train(reference)
    for layer, source in zip(resumed.job.layers, plan.job.layers, strict=True):
        layer.weight, layer.bias = source.weight.copy(), source.bias.copy()
    resumed.load_state(plan.state(), plan.step)
    assert_same_training(resumed, reference)


def test_state_is_a_copy_and_is_checked(a_pair):
    plan, _ = a_pair()
    assert list(plan.state()) == [f"layers.{k}.{p}.velocity" for k in range(3) for p in ("weight", "bias")]
    for array in plan.state().values():
        array[...] = 1
    assert not any(array.any() for array in plan.state().values())
    with pytest.raises(ModelFileError, match=r"layers\.0\.bias\.velocity"):
        plan.load_state({}, 1)
    assert plan.step == 0
    assert a_pair(SGD(0.1))[0].state() == {}

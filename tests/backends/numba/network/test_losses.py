"""The losses of the compiled plan, row weights, and the penalty that follows the batch, against the generic plan."""

import numpy as np
import pytest
from xpnn.backends import (
    ACTIVATIONS,
    LOSSES,
    SGD,
    Adam,
    AdamW,
    GenericPlan,
    RMSprop,
    TrainingJob,
    get_backend,
    why_unavailable,
)

if reason := why_unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

from numba.core import config
from xpnn.backends.numba.network.functions import activation_code
from xpnn.backends.numba.network.targets import loss_code
from xpnn.backends.numba.plan import NumbaPlan
from xpnn.backends.numba.steps import schedules as numba_schedules

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too slow as plain Python")

# Hidden units that lead to each schedule, in registers of 8 float64: 5 with padding, or 1 with padding.
HIDDEN = {"units": (37, 9), "two layers": (37,), "rows": (5, 9), "features": (5, 9)}
RULES = {
    "sgd": SGD(0.01),
    "momentum": SGD(2e-3, momentum=0.9),
    "nesterov": SGD(2e-3, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-3),
    "adam": Adam(3e-3),
    "adam, epsilon hat": Adam(3e-3, epsilon=1e-3, epsilon_hat=True),
    "adamw": AdamW(3e-3, weight_decay=0.1),
}
KNOWN = [name for name in LOSSES if loss_code(name) is not None]
ACTIVE = [name for name in ACTIVATIONS if activation_code(name) is not None]
FEATURES = 19

every_way = pytest.mark.parametrize("way", list(HIDDEN))
every_loss = pytest.mark.parametrize("loss", KNOWN)
sparse_or_dense = pytest.mark.parametrize("density", [0.3, 1.0], ids=["sparse", "dense"])


@pytest.fixture
def backend():
    return get_backend("numba")


def labels_for(loss, generator, count, outputs):
    if loss == "softmax_cross_entropy":
        return generator.integers(0, outputs, count)
    if loss == "sigmoid_cross_entropy":
        return generator.integers(0, 2, (count, outputs)).astype(np.float64)
    return generator.normal(size=(count, outputs))


@pytest.fixture
def make_pair(backend, generic, make_layers, monkeypatch):
    """`make_pair(way, loss, ...)`: the compiled plan, which goes that way, and the generic plan of the same job."""

    def make(way, loss, optimizer=RULES["momentum"], *, outputs=3, count=23, batch_size=5, density=1.0,
             activation="tanh", dtype="float64", weights=None, hidden=None, **job):  # fmt: skip
        monkeypatch.setattr(numba_schedules, "LARGE_BATCH", 1 if way == "rows" else 10**9)
        generator = np.random.default_rng(1)
        images = generator.integers(1, 256, (count, FEATURES)) * (generator.random((count, FEATURES)) < density)
        labels = labels_for(loss, generator, count, outputs)
        rows = backend.place(images.astype(np.uint8), labels, 1 / 255, weights)
        sizes = (FEATURES, *(HIDDEN[way] if hidden is None else hidden), outputs)
        jobs = [
            TrainingJob(
                make_layers(backend, sizes, activation=activation, dtype=dtype),
                optimizer, rows, batch_size, loss=loss, **job,
            )
            for _ in range(2)
        ]  # fmt: skip
        plan = backend.compile(jobs[0])
        assert type(plan) is NumbaPlan, plan.description
        assert plan._schedule.name == {"two layers": "units"}.get(way, way)
        return plan, GenericPlan(generic, jobs[1])

    return make


def assert_same_training(plan, reference, *, tolerance=1e-10, steps=25):
    generator, count = np.random.default_rng(3), len(plan.job.rows.images)
    while plan.step < steps:
        order = generator.permutation(count)
        ours, theirs = plan.run(order), reference.run(order)
        assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=tolerance, abs=tolerance)
        assert (ours.correct, ours.rows) == (theirs.correct, theirs.rows)
    assert plan.step == reference.step
    for ours, theirs in zip(plan.job.layers, reference.job.layers, strict=True):
        np.testing.assert_allclose(ours.weight, theirs.weight, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(ours.bias, theirs.bias, rtol=tolerance, atol=tolerance)
    ours, theirs = plan.state(), reference.state()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=tolerance, atol=tolerance)


def some_weights(count=23):
    """Of every third row 0."""
    return np.random.default_rng(7).uniform(0.1, 3, count) * (np.arange(count) % 3 > 0)


def test_the_kernels_know_these_losses():
    assert {"softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"} <= set(KNOWN)


@every_way
@sparse_or_dense
@every_loss
@pytest.mark.parametrize("outputs", [1, 3, 40])
def test_losses(make_pair, way, density, loss, outputs):
    assert_same_training(*make_pair(way, loss, density=density, outputs=outputs))


@every_way
@sparse_or_dense
@every_loss
def test_weighted_rows_and_a_penalty_that_follows_the_batch(make_pair, way, density, loss):
    """The last batch of each run has 3 rows in place of 5."""
    job = {"weights": some_weights(), "l2": 0.1, "l2_per_batch": True}
    assert_same_training(*make_pair(way, loss, density=density, **job))


@every_way
@every_loss
def test_a_penalty_that_follows_the_batch_without_weights(make_pair, way, loss):
    assert_same_training(*make_pair(way, loss, l2=0.1, l2_per_batch=True))


@every_way
def test_a_penalty_that_follows_the_batch_is_another_one(make_pair, way):
    plan, _ = make_pair(way, "squared_error", l2=0.1, l2_per_batch=True)
    _, reference = make_pair(way, "squared_error", l2=0.1)
    with pytest.raises(AssertionError):
        assert_same_training(plan, reference)


@every_loss
@pytest.mark.parametrize("rule", list(RULES))
def test_optimizers(make_pair, loss, rule):
    assert_same_training(*make_pair("two layers", loss, RULES[rule], l2=0.01, weights=some_weights()))


@every_way
def test_epsilon_hat(make_pair, way):
    assert_same_training(*make_pair(way, "softmax_cross_entropy", RULES["adam, epsilon hat"]))


@every_loss
@pytest.mark.parametrize("activation", ACTIVE)
def test_activations(make_pair, loss, activation):
    assert_same_training(*make_pair("units", loss, RULES["adam"], activation=activation, weights=some_weights()))


@every_way
@every_loss
def test_float32(make_pair, way, loss):
    pair = make_pair(way, loss, dtype="float32", weights=some_weights(), l2=0.1, l2_per_batch=True)
    assert_same_training(*pair, tolerance=1e-4, steps=30)


@every_way
@every_loss
@pytest.mark.parametrize(("count", "batch_size"), [(23, 1), (23, 23), (23, 100), (150, 67), (150, 150)])
def test_batches_and_tiles(make_pair, monkeypatch, way, loss, count, batch_size):
    monkeypatch.setattr(numba_schedules, "WIDE_TILE", 16)
    monkeypatch.setattr(numba_schedules, "NARROW_TILE", 8)
    job = {"weights": some_weights(count), "l2": 0.1, "l2_per_batch": True}
    assert_same_training(*make_pair(way, loss, count=count, batch_size=batch_size, **job), steps=30)


@every_way
@every_loss
def test_batches_that_weigh_nothing(make_pair, way, loss):
    """Their mean is over 1: nothing is divided by 0, and the penalty stays."""
    plan, reference = make_pair(way, loss, weights=np.zeros(23), l2=0.1, l2_per_batch=True)
    assert_same_training(plan, reference)
    assert plan.run().loss_sum == 0
    assert np.isfinite(plan.job.layers[0].weight).all()


@pytest.mark.parametrize("weighted", [False, True])
@every_loss
def test_runs_of_other_lengths(make_pair, loss, weighted):
    """What is kept of the last run's batches is not taken for those of another length, or of other rows."""
    weights = some_weights() if weighted else None
    plan, reference = make_pair("two layers", loss, weights=weights, l2=0.1, l2_per_batch=True)
    generator = np.random.default_rng(5)
    for length in (23, 23, 4, 9, 23, 0, 60):
        order = generator.integers(0, 23, length)
        assert plan.run(order).loss_sum == pytest.approx(reference.run(order).loss_sum, rel=1e-10)
    np.testing.assert_allclose(plan.job.layers[0].weight, reference.job.layers[0].weight, rtol=1e-10)


@every_way
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_a_run_that_diverged_shows(make_pair, way, loss):
    plan, _ = make_pair(way, loss, outputs=2)
    plan.job.layers[0].weight = np.full_like(plan.job.layers[0].weight, np.nan)
    assert np.isnan(plan.run().loss_sum)
    assert np.isnan(plan.job.layers[-1].bias).all()


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_an_integer_learning_rate(make_pair, rule):
    optimizer = SGD(1) if rule == "sgd" else Adam(1)
    pair = make_pair("two layers", "sigmoid_cross_entropy", optimizer, learning_rate=lambda step: step, count=9)
    assert_same_training(*pair, steps=4)
    assert_same_training(*make_pair("two layers", "sigmoid_cross_entropy", optimizer, count=9), steps=4)


def test_one_compilation_does_for_both_losses_of_numbers(make_pair):
    plan, _ = make_pair("two layers", "sigmoid_cross_entropy")
    before = set(plan._schedule.kernel.overloads)
    make_pair("two layers", "squared_error")
    assert set(plan._schedule.kernel.overloads) == before


def test_swapped_and_foreign_arrays_are_read_as_they_are(make_pair):
    """A run leaves the plan's own arrays in the layers: what is put in their place, they too, has to be read anew."""
    plan, reference = make_pair("units", "squared_error", hidden=(37, 37, 37), activation="tanh")
    plan.run()
    reference.run()
    for layers in (plan.job.layers, reference.job.layers):
        layers[1].weight, layers[2].weight = layers[2].weight, layers[1].weight
        layers[0].weight = layers[0].weight * 2
        layers[3].bias[...] += 1  # in place
    assert_same_training(plan, reference)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dropout": 0.5}, "dropout"),
        ({"clip_norm": 1.0}, "clipping"),
    ],
)
def test_what_the_kernels_do_not_know_is_said(backend, make_layers, change, why):
    rows = backend.place(np.ones((9, FEATURES), dtype=np.uint8), np.zeros((9, 2)), 1 / 255, np.ones(9))
    layers = make_layers(backend, (FEATURES, 5, 2))
    plan = backend.compile(TrainingJob(layers, SGD(0.1), rows, 4, loss="squared_error", l2_per_batch=True, **change))
    assert type(plan) is GenericPlan
    assert plan.description.endswith(f", since the kernels do not know {why}")


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        (np.zeros((9, 3)), None),
        (np.zeros((8, 2)), None),
        (np.zeros((9, 2), dtype=np.float32), None),
        (np.zeros(9, dtype=np.int64), None),
        (np.asfortranarray(np.zeros((9, 2))), None),
        (np.zeros((9, 2)), np.ones(8)),
        (np.zeros((9, 2)), np.ones((9, 1))),
    ],
)
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_shapes_that_do_not_fit_never_reach_the_kernels(backend, make_layers, loss, labels, weights):
    rows = backend.place(np.ones((9, FEATURES), dtype=np.uint8), np.zeros(9, dtype=np.int64), 1 / 255)
    rows = rows._replace(labels=labels, weights=weights)
    layers = make_layers(backend, (FEATURES, 5, 2))
    assert type(backend.compile(TrainingJob(layers, SGD(0.1), rows, 4, loss=loss))) is GenericPlan

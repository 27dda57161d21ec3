"""The compiled plan in each of its four ways through a run gives the generic plan's numbers."""

from itertools import pairwise

import numpy as np
import pytest
from xpnn.backends import (
    ACTIVATIONS,
    OPTIMIZERS,
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
from xpnn.backends.numba.network import functions as numba_functions
from xpnn.backends.numba.network import optimizers as numba_optimizers
from xpnn.backends.numba.plan import NumbaPlan
from xpnn.backends.numba.steps import schedules as numba_schedules

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too slow as plain Python")

# Hidden units that lead to each schedule, in registers of 8 float64: 5 with padding, or 1 with padding.
HIDDEN = {"units": (37, 9), "two layers": (37,), "rows": (5, 9), "features": (5, 9)}
KERNELS = {
    "units": "train_by_units",
    "two layers": "train_two_layers",
    "rows": "train_by_rows",
    "features": "train_by_features",
}
RULES = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-3),
    "adam": Adam(3e-3),
    "adamw": AdamW(3e-3, weight_decay=0.1),
}
KNOWN = [name for name in ACTIVATIONS if numba_functions.activation_code(name) is not None]
FEATURES, CLASSES = 19, 3

every_way = pytest.mark.parametrize("way", list(HIDDEN))
sparse_or_dense = pytest.mark.parametrize("density", [0.3, 1.0], ids=["sparse", "dense"])


@pytest.fixture
def backend():
    return get_backend("numba")


@pytest.fixture
def make_pair(backend, generic, make_layers, monkeypatch):
    """`make_pair(way, density, ...)`: the compiled plan, which goes that way, and the generic plan of the same job."""

    def make(way, density, optimizer=RULES["momentum"], *, hidden=None, classes=CLASSES, count=23, batch_size=5,
             activation="relu", images="uint8", dtype="float64", **job):  # fmt: skip
        monkeypatch.setattr(numba_schedules, "LARGE_BATCH", 1 if way == "rows" else 10**9)
        generator = np.random.default_rng(1)
        numbers = generator.integers(1, 256, (count, FEATURES)) * (generator.random((count, FEATURES)) < density)
        if np.dtype(images).kind == "f":
            numbers = numbers / 255 - 0.1 * (numbers > 0)
        elif images != "uint8":
            numbers = numbers - 300 * (numbers > 200)
        labels = generator.integers(0, classes, count)
        rows = backend.place(numbers.astype(images), labels, 1 / 255)
        sizes = (FEATURES, *(HIDDEN[way] if hidden is None else hidden), classes)
        jobs = [
            TrainingJob(
                make_layers(backend, sizes, activation=activation, dtype=dtype), optimizer, rows, batch_size, **job
            )
            for _ in range(2)
        ]
        plan = backend.compile(jobs[0])
        assert type(plan) is NumbaPlan
        assert plan._schedule.kernel.__name__ == KERNELS[way]
        assert plan.is_sparse == (density <= 0.5)
        return plan, GenericPlan(generic, jobs[1])

    return make


def assert_same_training(plan, reference, *, tolerance=1e-10, steps=100):
    """Train both for so many steps, with orders of their own making, and compare all that they keep."""
    generator, count = np.random.default_rng(3), len(plan.job.rows.images)
    while plan.step < steps:
        order = generator.permutation(count)
        ours, theirs = plan.run(order), reference.run(order)
        assert ours.loss == pytest.approx(theirs.loss, rel=tolerance, abs=tolerance)
        assert (ours.correct, ours.rows) == (theirs.correct, theirs.rows)
    assert plan.step == reference.step >= steps
    assert_same_arrays(plan, reference, tolerance)


def assert_same_arrays(plan, reference, tolerance=1e-10):
    for ours, theirs in zip(plan.job.layers, reference.job.layers, strict=True):
        assert ours.weight.dtype == theirs.weight.dtype
        np.testing.assert_allclose(ours.weight, theirs.weight, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(ours.bias, theirs.bias, rtol=tolerance, atol=tolerance)
    ours, theirs = plan.state(), reference.state()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=tolerance, atol=tolerance)


def test_every_optimizer_with_a_kernel_has_a_rule_here():
    known = {kind for kind in OPTIMIZERS.values() if numba_optimizers.rule_of(kind()) is not None}
    assert {type(rule) for rule in RULES.values()} == known


def test_the_kernels_know_these_rows():
    """A new row needs no kernel; these do not lose theirs."""
    assert {"identity", "relu", "leaky_relu", "tanh", "sigmoid"} <= set(KNOWN)
    assert {"sgd", "rmsprop", "adam", "adamw"} <= {rule.name for rule in RULES.values()}


@every_way
@sparse_or_dense
@pytest.mark.parametrize("rule", list(RULES))
def test_optimizers(make_pair, way, density, rule):
    assert_same_training(*make_pair(way, density, RULES[rule], activation="tanh", l2=0.01))


@every_way
@sparse_or_dense
@pytest.mark.parametrize("activation", KNOWN)
def test_activations_and_the_units_that_are_padding(make_pair, way, density, activation):
    """37, 9, 5 and 3 units are padded to whole registers: what is not there must not learn."""
    assert_same_training(*make_pair(way, density, RULES["adam"], activation=activation))


@pytest.mark.parametrize(
    ("way", "hidden", "classes"),
    [
        ("units", (), 40),
        ("units", (37, 9, 11), 3),
        ("units", (37, 1, 9), 3),
        ("units", (40, 8), 8),
        ("units", (37, 9), 40),
        ("units", (37, 9), 1),
        ("two layers", (37,), 40),
        ("two layers", (37,), 1),
        ("two layers", (80,), 8),
        ("rows", (), 3),
        ("rows", (5,), 3),
        ("rows", (8, 9, 11), 8),
        ("rows", (1, 2), 40),
        ("rows", (5,), 1),
        ("features", (5,), 3),
        ("features", (8, 9, 11), 8),
        ("features", (1, 2), 40),
        ("features", (5,), 1),
    ],
)
@sparse_or_dense
def test_depths_and_classes(make_pair, way, hidden, classes, density):
    assert_same_training(*make_pair(way, density, hidden=hidden, classes=classes, activation="sigmoid"))


@every_way
@sparse_or_dense
@pytest.mark.parametrize(
    ("count", "batch_size"),
    [(23, 1), (23, 8), (23, 22), (23, 23), (23, 100), (1, 1), (1, 4), (9, 3), (150, 150), (150, 67), (40, 16)],
)
def test_batches_and_tiles(make_pair, monkeypatch, way, density, count, batch_size):
    """Tiles of 16 rows at most: a batch of 150 has ten, and a shard of it has one that is not full."""
    monkeypatch.setattr(numba_schedules, "WIDE_TILE", 16)
    monkeypatch.setattr(numba_schedules, "NARROW_TILE", 8)
    monkeypatch.setattr(numba_schedules, "NARROW_KEPT_TILE", 8)
    pair = make_pair(way, density, RULES["adam"], count=count, batch_size=batch_size, l2=0.01)
    assert_same_training(*pair, steps=30)


@every_way
@sparse_or_dense
def test_tiles_as_they_are_chosen(make_pair, monkeypatch, way, density):
    pair = make_pair(way, density, count=1400, batch_size=1300)
    if way == "rows":
        monkeypatch.setattr(numba_schedules, "LARGE_BATCH", 1024)
        choose = numba_schedules.choose_schedule
        schedule = choose([5, 9, 3], FEATURES, 1300, is_sparse=density < 1, is_kept=False, lanes=8)
        assert schedule.name == "rows"
    assert_same_training(*pair, steps=6)


@every_way
@sparse_or_dense
def test_plain_descent_without_a_penalty(make_pair, way, density):
    assert_same_training(*make_pair(way, density, RULES["sgd"]))


@every_way
def test_lists_of_a_full_batch_stay_until_the_order_changes(make_pair, monkeypatch, way):
    monkeypatch.setattr(numba_schedules, "WIDE_TILE", 16)
    monkeypatch.setattr(numba_schedules, "NARROW_KEPT_TILE", 8)
    plan, reference = make_pair(way, 0.3, count=150, batch_size=150)
    lists, order = [], np.random.default_rng(5).permutation(150)
    for each in (None, None, order, order.copy(), None):
        assert plan.run(each).loss == pytest.approx(reference.run(each).loss, rel=1e-10)
        lists.append(plan._inputs.columns)
    assert_same_arrays(plan, reference)
    assert [after is before for before, after in pairwise(lists)] == [True, False, True, False]


@every_way
def test_a_full_batch_of_other_numbers_than_bytes(make_pair, way):
    assert_same_training(*make_pair(way, 0.3, images="float32", count=150, batch_size=150), steps=30)


@every_way
@sparse_or_dense
def test_an_order_longer_than_the_data_that_repeats_rows(make_pair, way, density):
    plan, reference = make_pair(way, density, count=10, batch_size=1000)
    generator = np.random.default_rng(5)
    for length in (300, 1, 2500, 10):
        order = generator.integers(0, 10, length)
        ours, theirs = plan.run(order), reference.run(order)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-10)
        assert (ours.correct, ours.rows) == (theirs.correct, length)
    assert plan.step == reference.step == 1 + 1 + 3 + 1
    assert_same_arrays(plan, reference)


@every_way
def test_rows_without_an_entry(make_pair, way):
    plan, reference = make_pair(way, 0.0)
    assert_same_training(plan, reference)
    plan, reference = make_pair(way, 0.05)
    assert not plan.job.rows.images.any(axis=1).all()
    assert plan.job.rows.images.any()
    assert_same_training(plan, reference)


@every_way
def test_a_learning_rate_of_each_step(make_pair, way):
    assert_same_training(*make_pair(way, 0.3, learning_rate=lambda step: 0.1 / step))


@sparse_or_dense
@pytest.mark.parametrize("images", ["int16", "float32", "float64"])
def test_types_of_images(make_pair, density, images):
    """Those that are no bytes; the schedules read them with the same functions."""
    assert_same_training(*make_pair("features", density, images=images))


@every_way
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "rmsprop"])
def test_float32(make_pair, way, rule):
    pair = make_pair(way, 0.3, RULES[rule], dtype="float32", l2=0.01)
    assert_same_training(*pair, tolerance=1e-4, steps=30)


def test_float32_of_dense_rows(make_pair):
    assert_same_training(*make_pair("features", 1.0, dtype="float32"), tolerance=1e-4, steps=30)


@every_way
@sparse_or_dense
def test_labels_that_are_no_class_count_as_wrong(make_pair, way, density):
    plan, reference = make_pair(way, density)
    plan.job.rows.labels[:4] = [-1, 8, 1000, -(2**40)]
    assert plan.job.rows.labels is reference.job.rows.labels
    assert_same_training(plan, reference, steps=20)  # then rounding grows: nothing bounds such a loss


@every_way
@sparse_or_dense
def test_a_label_that_is_a_class_of_padding_only_counts_as_wrong(make_pair, way, density):
    plan, reference = make_pair(way, density)
    plan.job.rows.labels[:2] = [CLASSES, 7]
    assert_same_training(plan, reference, steps=20)


@every_way
@sparse_or_dense
def test_a_run_that_diverged_shows(make_pair, way, density):
    plan, _ = make_pair(way, density)
    plan.job.layers[0].weight = np.full_like(plan.job.layers[0].weight, np.nan)
    assert np.isnan(plan.run().loss_sum)
    assert np.isnan(plan.job.layers[-1].bias).all()

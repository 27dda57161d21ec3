"""The compiled plan in each of its four ways through a run gives the generic plan's numbers."""

import dataclasses
from itertools import pairwise, product

import numpy as np
import pytest
from numba.core import config
from xpnn.backends import ACTIVATIONS, LOSSES, OPTIMIZERS, SGD, Adam, AdamW, RMSprop
from xpnn.backends.numba.network.functions import activation_code
from xpnn.backends.numba.network.optimizers import rule_of
from xpnn.backends.numba.network.output_losses import OutputTargets
from xpnn.backends.numba.network.targets import ClassTargets, loss_code, targets_of
from xpnn.backends.numba.plan import NumbaPlan
from xpnn.backends.numba.steps import schedules
from xpnn.backends.numba.steps.by_units import train_by_units
from xpnn.backends.numba.steps.two_layers import train_two_layers

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too slow as plain Python")

ACTIVE = [name for name in ACTIVATIONS if activation_code(name) is not None]
COUNT = 23
only = lambda *names: pytest.mark.parametrize("kind", names, indirect=True)  # noqa: E731 - some of the kinds


def some_weights(count=COUNT):
    """Of every third row 0."""
    return np.random.default_rng(7).uniform(0.1, 3, count) * (np.arange(count) % 3 > 0)


@pytest.fixture
def small_tiles(monkeypatch):
    """Of at most 16 rows, and 8 of narrow networks: a batch of 150 has ten, and a shard of it has one not full."""
    monkeypatch.setattr(schedules, "WIDE_TILE", 16)
    monkeypatch.setattr(schedules, "NARROW_TILE", 8)
    monkeypatch.setattr(schedules, "NARROW_KEPT_TILE", 8)


def test_the_kernels_know_these_rows(rules, kinds, make_job):
    """A new row needs no kernel; these do not lose theirs, and what has one is tested here."""
    assert {"identity", "relu", "leaky_relu", "tanh", "sigmoid"} <= set(ACTIVE)
    known = {optimizer for optimizer in OPTIMIZERS.values() if rule_of(optimizer()) is not None}
    assert {type(rule) for rule in rules.values()} == known >= {SGD, RMSprop, Adam, AdamW}
    assert all(loss_code(name) is not None for name in LOSSES)
    of_kinds = {type(targets_of(make_job(kind))) for kind in kinds.values()}
    assert of_kinds == {ClassTargets, OutputTargets}  # the losses of numbers are one kernel


def test_optimizers(make_pair, assert_same_training, kind, rule):
    assert_same_training(*make_pair(kind, rule, l2=0.01))


@pytest.mark.parametrize("activation", ACTIVE)
def test_activations_and_the_units_that_are_padding(make_pair, assert_same_training, kind, activation):
    """37, 9, 5 and 3 units are padded to whole registers: what is not there must not learn."""
    assert_same_training(*make_pair(kind, Adam(3e-3, epsilon=1e-3), activation=activation, weights=some_weights()))


@pytest.mark.parametrize("outputs", [1, 40])
def test_outputs(make_pair, assert_same_training, kind, outputs):
    assert_same_training(*make_pair(kind, outputs=outputs), steps=25)


@pytest.mark.parametrize(
    ("kind", "hidden", "outputs"),
    [
        ("units-sparse", (37, 9, 11), 3),
        ("units-sparse", (37, 1, 9), 3),
        ("units-sparse", (40, 8), 8),
        ("units-dense", (), 40),
        ("units-dense", (70, 20, 10), 3),
        ("two layers-sparse", (80,), 8),
        ("rows-sparse", (), 3),
        ("rows-sparse", (8, 9, 11), 8),
        ("rows-dense", (5,), 3),
        ("rows-dense", (1, 2), 40),
        ("features-sparse", (5,), 1),
        ("features-dense", (8, 9, 11), 8),
        ("features-dense", (1, 2), 40),
    ],
    indirect=["kind"],
)
def test_depths(make_pair, assert_same_training, kind, hidden, outputs):
    assert_same_training(*make_pair(kind, hidden=hidden, outputs=outputs, activation="sigmoid"))


@pytest.mark.thorough
@only("units-sparse", "two layers-sparse")
@pytest.mark.parametrize("units", [37, 80, 150])
def test_blocks_of_one_two_and_four_registers(make_pair, assert_same_training, kind, units):
    pair = make_pair(kind, hidden=(units, 9) if kind.way == "units" else (units,))
    assert pair[0]._engine.schedule.block == {37: 1, 80: 2, 150: 4}[units]
    assert_same_training(*pair)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("count", "batch_size"), [(23, 1), (23, 8), (23, 22), (1, 1), (9, 3), (150, 67), (40, 16)])
def test_batches_and_tiles(make_pair, assert_same_training, kind, count, batch_size):
    """Weighted rows, and a penalty that follows the batch: the last one of a run has fewer rows."""
    job = {"weights": some_weights(count), "l2": 0.1, "l2_per_batch": True} if count > 1 else {"l2": 0.01}
    pair = make_pair(kind, Adam(3e-3, epsilon=1e-3), count=count, batch_size=batch_size, **job)
    assert_same_training(*pair, steps=30)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("count", "batch_size"), [(23, 23), (23, 100), (1, 4), (150, 150)])
@only("units-sparse", "rows-sparse", "two layers-sparse", "units-dense", "features-dense")
def test_full_batches(make_pair, assert_same_training, kind, count, batch_size):
    """Sparse bytes are kept as lists by feature; other numbers and dense rows are read as in smaller batches."""
    plan, reference = make_pair(kind, count=count, batch_size=batch_size, l2=0.01)
    assert plan._engine.is_kept == (plan._engine.is_sparse and kind.images == "uint8")
    assert_same_training(plan, reference, steps=30)


def test_tiles_as_they_are_chosen(make_pair, assert_same_training, monkeypatch, kind):
    pair = make_pair(kind, count=1400, batch_size=1300)
    if kind.way == "rows":
        monkeypatch.setattr(schedules, "LARGE_BATCH", 1024)
        schedule = schedules.choose_schedule([5, 9, 3], 19, 1300, is_sparse=kind.density < 1, is_kept=False, lanes=8)
        assert schedule.name == "rows"
    assert_same_training(*pair, steps=6)


@pytest.mark.parametrize(
    ("units", "kernel"), [([256, 10], train_two_layers), ([512, 512], train_by_units), ([256, 16, 10], train_by_units)]
)
def test_parts_of_many_logits_are_not_exchanged(units, kernel):
    assert schedules.choose_schedule(units, 200, 256, is_sparse=False, is_kept=False, lanes=8).kernel is kernel


EXTRAS = {
    "dropout": {"dropout": 0.3, "dropout_seed": 2**63 - 5},
    "clipping": {"clip_norm": 0.2},
    "both": {"dropout": 0.3, "dropout_seed": 3, "clip_norm": 0.2},
}
one_of_each_way = only("units-sparse", "two layers-dense", "rows-dense", "features-sparse")


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("units-sparse", "dropout"), ("rows-dense", "clipping"),
        *((kind, "both") for kind in ("units-sparse", "two layers-dense", "rows-dense", "features-sparse")),
    ],
    indirect=["kind"],
)  # fmt: skip
def test_dropout_and_clipping(make_pair, assert_same_training, kind, extra):
    """A batch of 300 rows is in three tiles, one of which is in two of the blocks that masks are drawn in."""
    job = {"count": 330, "batch_size": 300, "weights": some_weights(330), "l2": 0.01, "activation": "sigmoid"}
    plan, reference = make_pair(kind, Adam(3e-3, epsilon=1e-3), **job, **EXTRAS[extra])
    assert type(plan) is NumbaPlan
    assert_same_training(plan, reference, steps=20)
    plan, reference = make_pair(kind, batch_size=2, accumulate=4, **EXTRAS[extra])
    assert_same_training(plan, reference, steps=20)


@pytest.mark.thorough
@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
def test_dropout_and_clipping_of_every_kind(make_pair, assert_same_training, kind, extra):
    for activation in ACTIVE:
        assert_same_training(*make_pair(kind, activation=activation, **extra), steps=20)


@one_of_each_way
def test_neither_dropout_nor_clipping_hides_a_nan(make_plan, kind):
    plan = make_plan(kind, SGD(0.1), **EXTRAS["both"])
    plan.job.layers[0].bias = np.full_like(plan.job.layers[0].bias, np.nan)
    plan.run()
    assert np.isnan(plan.job.layers[-1].weight).all()


@only("units-sparse", "rows-sparse")
@pytest.mark.usefixtures("small_tiles")
def test_lists_of_a_full_batch_stay_until_the_order_changes(make_pair, numbers_of, kind):
    plan, reference = make_pair(kind, count=150, batch_size=150)
    lists, order = [], np.random.default_rng(5).permutation(150)
    for each in (None, None, order, order.copy(), None):
        assert plan.run(each).loss == pytest.approx(reference.run(each).loss, rel=kind.tolerance)
        lists.append(plan._engine.problem.inputs.columns)
    np.testing.assert_allclose(numbers_of(plan), numbers_of(reference), rtol=kind.tolerance, atol=kind.tolerance)
    assert [after is before for before, after in pairwise(lists)] == [True, False, True, False]


@pytest.mark.parametrize("batch_size", [5, 1000])
@only("units-sparse", "two layers-sparse", "rows-sparse", "features-dense")
def test_orders_of_other_lengths_that_repeat_rows(make_pair, numbers_of, kind, batch_size):
    """What is kept of the last run's batches is not taken for those of another length, or of other rows."""
    weights, tolerance = some_weights() if batch_size == 5 else None, kind.tolerance
    plan, reference = make_pair(kind, batch_size=batch_size, weights=weights, l2=0.1, l2_per_batch=True)
    generator = np.random.default_rng(5)
    for length in (23, 23, 300, 1, 0, 2500, 9):
        order = generator.integers(0, COUNT, length)
        ours, theirs = plan.run(order), reference.run(order)
        assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=tolerance)
        assert ours.rows == theirs.rows == length
    assert plan.step == reference.step
    np.testing.assert_allclose(numbers_of(plan), numbers_of(reference), rtol=tolerance, atol=tolerance)


@only("units-sparse", "two layers-sparse", "rows-sparse", "features-sparse")
def test_rows_without_an_entry(make_pair, assert_same_training, kind):
    assert_same_training(*make_pair(kind._replace(density=0.0)))
    plan, reference = make_pair(kind._replace(density=0.05))
    assert not plan.job.rows.images.any(axis=1).all()
    assert plan.job.rows.images.any()
    assert_same_training(plan, reference)


@only("units-sparse", "units-dense")
def test_the_density_is_counted_unless_the_rows_have_it(backend, make_job, monkeypatch, kind):
    job = make_job(kind)
    assert backend.compile(job)._engine.is_sparse == (kind.density <= 0.5)
    monkeypatch.setattr(np, "count_nonzero", None)
    half = job.rows.images.size // 2
    for nonzeros, is_sparse in ((0, True), (half - 1, True), (half + 1, False)):
        plan = backend.compile(dataclasses.replace(job, rows=job.rows._replace(nonzeros=nonzeros)))
        assert plan._engine.is_sparse == is_sparse


@only("units-sparse", "rows-dense")
def test_a_learning_rate_of_each_step(make_pair, assert_same_training, kind):
    assert_same_training(*make_pair(kind, learning_rate=lambda step: 0.1 / step))


@only("rows-dense")
@pytest.mark.parametrize("optimizer", [SGD(1), Adam(1)], ids=["sgd", "adam"])
def test_an_integer_learning_rate(make_pair, assert_same_training, kind, optimizer):
    assert_same_training(*make_pair(kind, optimizer, learning_rate=lambda step: step, count=9), steps=4)
    assert_same_training(*make_pair(kind, optimizer, count=9), steps=4)


@only("units-sparse", "two layers-dense", "rows-sparse", "features-dense")
def test_labels_that_are_no_class_count_as_wrong(make_pair, assert_same_training, kind):
    """Those far away, and those that are a class of padding only."""
    for labels in ([-1, 8, 1000, -(2**40)], [3, 7]):
        plan, reference = make_pair(kind)
        for each in (plan, reference):
            each.job.rows.labels[: len(labels)] = labels
        assert_same_training(plan, reference, steps=15)  # then rounding grows: nothing bounds such a loss


def test_a_penalty_that_follows_the_batch_is_another_one(make_pair, assert_same_training, kind):
    plan, reference = make_pair(kind, l2=0.1, l2_per_batch=True)
    _, other = make_pair(kind, l2=0.1)
    assert_same_training(plan, reference)
    plan, _ = make_pair(kind, l2=0.1, l2_per_batch=True)
    with pytest.raises(AssertionError):
        assert_same_training(plan, other)


def test_batches_that_weigh_nothing(make_pair, assert_same_training, kind):
    """Their mean is over 1: nothing is divided by 0, and the penalty stays."""
    plan, reference = make_pair(kind, weights=np.zeros(COUNT), l2=0.1, l2_per_batch=True)
    assert_same_training(plan, reference)
    assert plan.run().loss_sum == 0
    assert np.isfinite(plan.job.layers[0].weight).all()


def test_a_run_that_diverged_shows(make_plan, kind):
    plan = make_plan(kind)
    plan.job.layers[0].weight = np.full_like(plan.job.layers[0].weight, np.nan)
    assert np.isnan(plan.run().loss_sum)
    assert np.isnan(plan.job.layers[-1].bias).all()


@only("units-sparse")
def test_swapped_and_foreign_arrays_are_read_as_they_are(make_pair, assert_same_training, kind):
    """A run leaves the plan's own arrays in the layers: what is put in their place, they too, has to be read anew."""
    plan, reference = make_pair(kind, hidden=(37, 37, 37))
    plan.run()
    reference.run()
    for layers in (plan.job.layers, reference.job.layers):
        layers[1].weight, layers[2].weight = layers[2].weight, layers[1].weight
        layers[0].weight = layers[0].weight * 2
        layers[3].bias[...] += 1  # in place
    assert_same_training(plan, reference)


@only("two layers-sparse")
def test_one_compilation_does_for_both_losses_of_numbers(make_plan, kind):
    plan = make_plan(kind)
    before = set(plan._engine.schedule.kernel.overloads)
    make_plan(kind._replace(loss="sigmoid_cross_entropy"))
    assert set(plan._engine.schedule.kernel.overloads) == before


WAYS, LOSS_KINDS = ["units", "two layers", "rows", "features"], ["softmax_cross_entropy", "squared_error"]
COMBINATIONS = [  # way, density, images, loss, dtype, batch size; all of a batch of 23 sparse bytes are kept
    *product(WAYS, [0.3, 1.0], ["uint8"], LOSS_KINDS, ["float32", "float64"], [5]),
    *product(WAYS, [0.3], ["uint8"], LOSS_KINDS, ["float32", "float64"], [COUNT]),
    *product(["units", "features"], [0.3, 1.0], ["int16", "float32", "float64"], LOSS_KINDS[:1], ["float64"], [5]),
]


@pytest.mark.thorough
@only("units-sparse")
@pytest.mark.parametrize(("way", "density", "images", "loss", "dtype", "batch_size"), COMBINATIONS)
def test_every_combination_of_types(
    make_pair, assert_same_training, kind, way, density, images, loss, dtype, batch_size
):
    kind = kind._replace(way=way, density=density, images=images, loss=loss, dtype=dtype)
    assert_same_training(*make_pair(kind, batch_size=batch_size, weights=some_weights(), l2=0.01))

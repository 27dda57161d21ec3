"""The CUDA kernels know every loss, weights of rows, and penalties that follow the batch, in both plans.

They run on a GPU where there is one, and everywhere on the host, for which g++ builds them.
"""

import dataclasses

import numpy as np
import pytest
from xpnn.backends import LOSSES, SGD, Layer
from xpnn.backends.cupy.backend import LoopPlan
from xpnn.backends.cupy.full_batch_plan import FullBatchPlan
from xpnn.backends.cupy.graph_plan import GraphPlan
from xpnn.backends.cupy.source import LOSS_NAMES
from xpnn.backends.testing.problem import training_job

FULL = 200  # rows that are enough for the persistent plan on the stand-in's three multiprocessors
# The last batch of the graph plan has three rows of five.
SIGMOID = {"loss": "sigmoid_cross_entropy", "features": 7, "hidden": (9,), "activation": "tanh", "l2": 0.3}
JOBS = {
    "graph, float64": {**SIGMOID, "dtype": "float64"},
    "graph, float32": {**SIGMOID, "dtype": "float32"},
    "persistent": {**SIGMOID, "dtype": "float32", "count": FULL, "batch_size": FULL},
}
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
thorough = pytest.mark.thorough
every_plan = pytest.mark.parametrize("name", ["graph, float64", "persistent"])


@pytest.fixture
def make(make_pair):
    """`make(name, ...)`: both plans of one of JOBS, whose penalty follows the batch."""

    def make(name, **other):
        plan, reference = make_pair(**{**JOBS[name], "l2_per_batch": True, **other})
        assert type(plan) is (FullBatchPlan if name == "persistent" else GraphPlan)
        return plan, reference

    return make


def test_every_loss_has_a_kernel():
    assert set(LOSS_NAMES) == set(LOSSES.values())
    assert all(loss.__name__ in name for loss, name in LOSS_NAMES.items())


@thorough
@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("weights", [None, "some"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_with_weights_and_a_penalty_that_follows_the_batch(make, assert_same_training, loss, weights, name):
    assert_same_training(*make(name, loss=loss, weights=weights), steps=12)


@thorough
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("hidden", [(9,), ()], ids=str)
@pytest.mark.parametrize("outputs", [1, 2, 33, 70])
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_outputs(make_pair, assert_same_training, loss, outputs, hidden, dtype):
    """One, and more than a warp has threads."""
    job = {"loss": loss, "features": 7, "activation": "tanh", "weights": "some", "l2": 0.01}
    assert_same_training(*make_pair(outputs=outputs, hidden=hidden, dtype=dtype, **job), steps=12)


@thorough
@pytest.mark.parametrize("outputs", [1, 32])
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_outputs_of_full_batches(make, assert_same_training, loss, outputs):
    assert_same_training(*make("persistent", loss=loss, outputs=outputs, hidden=(), weights="some"), steps=5)


@every_plan
def test_weights_go_with_the_rows_of_each_run(make, assert_same_training, name):
    """Of orders of fewer rows, of more, and of every row as it stands; batches without weight leave all as it is."""
    count, dtype = JOBS[name].get("count", 23), JOBS[name]["dtype"]
    plan, reference = make(name, weights=np.arange(count) % 7 * 0.3)
    long = np.random.default_rng(5).integers(0, count, 2 * count + 4)
    for order in ([3, 4], None, long, [0, 7, 14], None):
        rows = None if order is None else np.asarray(order)
        ours, theirs = plan.run(rows), reference.run(rows)
        assert ours.loss == pytest.approx(theirs.loss, rel=TOLERANCE[dtype])
        assert ours.rows == theirs.rows
    assert_same_training(plan, reference, steps=plan.step + 1)


def test_what_weighs_nothing_is_not_learnt(make, backend):
    plan, _ = make("graph, float64", weights=np.zeros(23), l2=0.0)
    before = [backend.to_numpy(layer.weight) for layer in plan.job.layers]
    assert plan.run().loss_sum == 0
    for layer, weight in zip(plan.job.layers, before, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(layer.weight), weight)


@every_plan
def test_epochs_in_one_call(make, assert_same_training, monkeypatch, name):
    monkeypatch.setattr("xpnn.backends.cupy.plan.LEAST_STEPS", 3)
    plan, reference = make(name, weights="some")
    ours, theirs = plan.run_epochs(7), reference.run_epochs(7)
    tolerance = TOLERANCE[JOBS[name]["dtype"]]
    assert [each.loss for each in ours] == pytest.approx([each.loss for each in theirs], rel=tolerance)
    assert_same_training(plan, reference, steps=plan.step + 1)


def test_a_graph_is_replayed_with_the_weights_of_each_step(make, assert_same_training):
    pair = make("graph, float64", weights="some", count=200)  # 40 steps, of which a graph has 32
    assert_same_training(*pair, steps=80)


TINY = np.exp(-30)
PLAIN, FOURFOLD = None, np.array([4.0])
NUMBERS = [
    ("sigmoid_cross_entropy", 30.0, 1.0, (np.log1p(TINY), -TINY / (1 + TINY))),
    ("sigmoid_cross_entropy", -30.0, 0.0, (np.log1p(TINY), TINY / (1 + TINY))),
    ("sigmoid_cross_entropy", -3e4, 1.0, (3e4, -1.0)),
    ("sigmoid_cross_entropy", 3e4, 0.0, (3e4, 1.0)),
    ("squared_error", 1e8, 1e8 + 0.25, (1 / 32, -0.25)),
]


@pytest.mark.parametrize(
    ("loss", "weights", "dtype"),
    [
        ("sigmoid_cross_entropy", FOURFOLD, "float32"),
        ("squared_error", PLAIN, "float64"),
        *(
            pytest.param(*case, marks=thorough)
            for case in [
                ("sigmoid_cross_entropy", PLAIN, "float32"),
                ("sigmoid_cross_entropy", PLAIN, "float64"),
                ("sigmoid_cross_entropy", FOURFOLD, "float64"),
                ("squared_error", PLAIN, "float32"),
                ("squared_error", FOURFOLD, "float32"),
                ("squared_error", FOURFOLD, "float64"),
            ]
        ),
    ],
)
def test_no_digit_is_lost(backend, loss, weights, dtype):
    """The first velocity is the gradient; the mean of one row does not depend on its weight."""
    for output, label, expected in (each[1:] for each in NUMBERS if each[0] == loss):
        layers = [Layer(backend.put(np.zeros((1, 1), dtype)), backend.put(np.full(1, output, dtype)), "identity")]
        rows = backend.place(np.zeros((1, 1), np.uint8), np.array([[label]]), 1.0, weights)
        plan = backend.compile(training_job(layers, rows, optimizer=SGD(0.1, momentum=0.9), batch_size=1, loss=loss))
        assert type(plan) is GraphPlan
        loss_sum = plan.run().loss_sum / (1 if weights is None else 4)
        tolerance = 1e-6 if dtype == "float32" else 1e-14
        assert (loss_sum, plan.state()["layers.0.bias.velocity"][0]) == pytest.approx(expected, rel=tolerance, abs=0)


def test_weights_may_be_of_any_size(make):
    """In float32 too, whose range ends long before: their sum goes to the device as float64."""
    plain, _ = make("graph, float32", l2=0.0)
    assert (plain._weights.size, plain._batch_weights.size) == (1, 1)  # jobs without weights bring none
    expected = plain.run().loss_sum
    for weight in (1e-200, 1e200):
        plan, _ = make("graph, float32", weights=np.full(23, weight), l2=0.0)
        assert plan.run().loss_sum / weight == pytest.approx(expected, rel=1e-6)
        for ours, theirs in zip(plan.job.layers, plain.job.layers, strict=True):
            np.testing.assert_allclose(plan._cupy.asnumpy(ours.weight), plain._cupy.asnumpy(theirs.weight), rtol=1e-5)


# What is left to the loop


@pytest.mark.parametrize("job", [{"dropout": 0.5}, {"clip_norm": 1.0}], ids=str)
def test_dropout_and_clipping_are_left_to_the_loop(backend, make_layers, small_problem, job):
    rows = backend.place(*small_problem, 1 / 255)
    plan = backend.compile(training_job(make_layers(backend), rows, optimizer=SGD(), batch_size=8, **job))
    assert type(plan) is LoopPlan


def test_rows_that_the_kernels_would_misread_are_left_to_the_loop(backend, cupy, make_layers, small_problem):
    rows = backend.place(small_problem[0], np.zeros((23, 3)), 1 / 255)
    job = training_job(make_layers(backend), rows, optimizer=SGD(), batch_size=8, loss="squared_error")
    assert type(backend.compile(job)) is GraphPlan
    for other in (
        {"on_host": True},
        {"labels": cupy.asarray(np.zeros((23, 2)))},  # too few
        {"labels": cupy.asarray(np.zeros((23, 3), np.float32))},
        {"labels": cupy.asarray(np.zeros((3, 23)).T)},
        {"weights": np.ones(22)},  # too few
    ):
        assert type(backend.compile(dataclasses.replace(job, rows=rows._replace(**other)))) is LoopPlan, other

"""The CUDA kernels know every loss, weights of rows, and penalties that follow the batch, in both plans.

They run on a GPU where there is one, and everywhere on the host, for which g++ builds them.
"""

import dataclasses
import shutil

import numpy as np
import pytest
from xpnn.backends import (
    LOSSES,
    SGD,
    Adam,
    GenericPlan,
    Layer,
    RMSprop,
    TrainingJob,
    get_backend,
    why_unavailable,
)
from xpnn.backends.cupy.backend import LoopPlan
from xpnn.backends.cupy.full_batch_plan import FullBatchPlan
from xpnn.backends.cupy.graph_plan import GraphPlan
from xpnn.backends.cupy.source import LOSS_NAMES

FEATURES = 7
RULE = SGD(0.03, momentum=0.9)
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
FULL = 200  # rows that are enough for the persistent plan on the stand-in's three multiprocessors
PLANS = {GraphPlan: {"count": 23, "batch_size": 5}, FullBatchPlan: {"count": FULL, "batch_size": FULL}}
# Of both plans, the types of numbers they know.
KINDS = [(GraphPlan, "float64"), (GraphPlan, "float32"), (FullBatchPlan, "float32")]
every_kind = pytest.mark.parametrize(("kind", "dtype"), KINDS, ids=lambda value: getattr(value, "__name__", value))


@pytest.fixture(params=["emulated", "device"])
def backend(request, monkeypatch):
    """The CuPy backend."""
    if request.param == "device":
        if reason := why_unavailable("cupy"):
            pytest.skip(reason)
        monkeypatch.setattr("xpnn.backends.cupy.full_batch_plan.LEAST_TILES", 0)  # it has more multiprocessors
    else:
        if shutil.which("g++") is None:
            pytest.skip("g++ is not installed")
        request.getfixturevalue("cupy")
    return get_backend("cupy")


@pytest.fixture
def make_pair(backend, generic, make_layers, labels_for):
    """`make_pair(...)`: the backend's plan, and the generic plan of the same job in float64."""

    def make(loss="sigmoid_cross_entropy", *, kind=GraphPlan, dtype="float64", optimizer=RULE,
             outputs=3, hidden=(9,), weights=None, **job):  # fmt: skip
        generator = np.random.default_rng(1)
        sizes = {**PLANS[kind], **{name: job.pop(name) for name in ("count", "batch_size") if name in job}}
        count = sizes["count"]
        images = generator.integers(0, 256, (count, FEATURES), dtype=np.uint8)
        labels = labels_for(loss, generator.integers(0, outputs, count), outputs)
        if loss == "sigmoid_cross_entropy":  # several at once, or none
            labels = (generator.random((count, outputs)) < 0.4).astype(np.float64)
        if isinstance(weights, str):  # "some"
            weights = generator.choice([0.0, 0.25, 1.0, 3.0], count)
        plans = []
        for each in (backend, generic):
            layers = make_layers(each, (FEATURES, *hidden, outputs), activation="tanh", dtype=dtype)
            for layer in layers:
                if each is generic:
                    layer.weight, layer.bias = layer.weight.astype("float64"), layer.bias.astype("float64")
            rows = each.place(images, labels, 1 / 255, weights)
            own = TrainingJob(layers, optimizer, rows, sizes["batch_size"], loss=loss, **job)
            plans.append(backend.compile(own) if each is backend else GenericPlan(generic, own))
        assert type(plans[0]) is kind
        return tuple(plans)

    return make


def assert_same_training(plan, reference, *, steps=12):
    """Take so many steps and more with both, on orders of their own making, and compare all that they keep."""
    dtype = plan.job.layers[0].weight.dtype
    tolerance = TOLERANCE[str(dtype)]
    generator, count = np.random.default_rng(3), len(plan.job.rows.images)
    while plan.step < steps:
        order = generator.permutation(count)
        ours, theirs = plan.run(order), reference.run(order)
        assert ours.loss == pytest.approx(theirs.loss, rel=tolerance, abs=tolerance)
        assert ours.rows == theirs.rows
        assert abs(ours.correct - theirs.correct) <= (dtype == "float32")
    assert plan.step == reference.step
    ours, theirs = plan.state(), reference.state()
    to_numpy = plan._cupy.asnumpy
    for one, other in zip(plan.job.layers, reference.job.layers, strict=True):
        np.testing.assert_allclose(to_numpy(one.weight), other.weight, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(to_numpy(one.bias), other.bias, rtol=tolerance, atol=tolerance)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=tolerance, atol=tolerance * max(1, abs(array).max()))


def test_every_loss_has_a_kernel():
    assert set(LOSS_NAMES) == set(LOSSES.values())
    assert all(LOSSES[name] is loss for loss, name in LOSS_NAMES.items())


@every_kind
@pytest.mark.parametrize("weights", [None, "some"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_with_weights_and_a_penalty_that_follows_the_batch(make_pair, loss, weights, kind, dtype):
    """The last batch of the graph plan has three rows of five."""
    plan, reference = make_pair(loss, kind=kind, dtype=dtype, weights=weights, l2=0.3, l2_per_batch=True)
    assert_same_training(plan, reference)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("hidden", [(9,), ()], ids=str)
@pytest.mark.parametrize("outputs", [1, 2, 33, 70])
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_outputs(make_pair, loss, outputs, hidden, dtype):
    """One, and more than a warp has threads."""
    assert_same_training(*make_pair(loss, outputs=outputs, hidden=hidden, dtype=dtype, weights="some", l2=0.01))


@pytest.mark.parametrize("outputs", [1, 32])
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
def test_outputs_of_full_batches(make_pair, loss, outputs):
    pair = make_pair(loss, kind=FullBatchPlan, outputs=outputs, hidden=(), dtype="float32", weights="some")
    assert_same_training(*pair, steps=5)


@every_kind
@pytest.mark.parametrize(
    "optimizer", [Adam(3e-3, epsilon=1e-2), Adam(3e-3, epsilon=1e-2, epsilon_hat=True), RMSprop(1e-3, epsilon=0.1)]
)
def test_epsilon(make_pair, optimizer, kind, dtype):
    """Large enough to matter."""
    assert_same_training(*make_pair(kind=kind, dtype=dtype, optimizer=optimizer), steps=5)


def totals_of(plan, *orders):
    return [plan.run(None if order is None else np.asarray(order)) for order in orders]


@every_kind
def test_weights_go_with_the_rows_of_each_run(make_pair, kind, dtype):
    """Of orders of fewer rows, of more, and of every row as it stands; batches without weight leave all as it is."""
    count = PLANS[kind]["count"]
    weights = np.arange(count) % 7 * 0.3
    plan, reference = make_pair(kind=kind, dtype=dtype, weights=weights, l2=0.3, l2_per_batch=True)
    long = np.random.default_rng(5).integers(0, count, 2 * count + 4)
    orders = [[3, 4], None, long, [0, 7, 14], None]
    for ours, theirs in zip(totals_of(plan, *orders), totals_of(reference, *orders), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=TOLERANCE[dtype])
        assert ours.rows == theirs.rows
    assert_same_training(plan, reference, steps=plan.step + 1)


def test_what_weighs_nothing_is_not_learnt(make_pair, backend):
    plan, _ = make_pair(weights=np.zeros(23), optimizer=SGD(0.1))
    before = [backend.to_numpy(layer.weight) for layer in plan.job.layers]
    assert plan.run().loss_sum == 0
    for layer, weight in zip(plan.job.layers, before, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(layer.weight), weight)


@pytest.mark.parametrize(("kind", "batch_size"), [(GraphPlan, 5), (GraphPlan, 23), (FullBatchPlan, FULL)])
def test_epochs_in_one_go(make_pair, monkeypatch, kind, batch_size):
    monkeypatch.setattr("xpnn.backends.cupy.plan.LEAST_STEPS", 3)
    dtype = "float32" if kind is FullBatchPlan else "float64"
    plan, reference = make_pair(
        kind=kind, dtype=dtype, batch_size=batch_size, weights="some", l2=0.3, l2_per_batch=True, loss="squared_error"
    )
    ours, theirs = plan.run_epochs(7), reference.run_epochs(7)
    assert [each.loss for each in ours] == pytest.approx([each.loss for each in theirs], rel=TOLERANCE[dtype])
    assert_same_training(plan, reference, steps=plan.step + 1)


def test_a_graph_is_replayed_with_the_weights_of_each_step(make_pair):
    plan, reference = make_pair(weights="some", count=200)  # 40 steps, of which a graph has 32
    assert_same_training(plan, reference, steps=80)


SMALL = np.exp(-30)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("weights", [None, np.array([4.0])], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("loss", "output", "label", "expected"),
    [
        ("sigmoid_cross_entropy", 30.0, 1.0, (np.log1p(SMALL), -SMALL / (1 + SMALL))),
        ("sigmoid_cross_entropy", -30.0, 0.0, (np.log1p(SMALL), SMALL / (1 + SMALL))),
        ("sigmoid_cross_entropy", -3e4, 1.0, (3e4, -1.0)),
        ("sigmoid_cross_entropy", 3e4, 0.0, (3e4, 1.0)),
        ("squared_error", 1e8, 1e8 + 0.25, (1 / 32, -0.25)),
    ],
)
def test_no_digit_is_lost(backend, loss, output, label, expected, weights, dtype):
    """The first velocity is the gradient; the mean of one row does not depend on its weight."""
    layers = [Layer(backend.put(np.zeros((1, 1), dtype)), backend.put(np.full(1, output, dtype)), "identity")]
    rows = backend.place(np.zeros((1, 1), np.uint8), np.array([[label]]), 1.0, weights)
    plan = backend.compile(TrainingJob(layers, SGD(0.1, momentum=0.9), rows, 1, loss=loss))
    assert type(plan) is GraphPlan
    loss_sum = plan.run().loss_sum / (1 if weights is None else 4)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert (loss_sum, plan.state()["layers.0.bias.velocity"][0]) == pytest.approx(expected, rel=tolerance, abs=0)


@pytest.mark.parametrize("weight", [1e-200, 1e200])
def test_weights_may_be_of_any_size(make_pair, weight):
    """In float32 too, whose range ends long before: their sum goes to the device as float64."""
    plan, _ = make_pair(dtype="float32", weights=np.full(23, weight))
    plain, _ = make_pair(dtype="float32")
    assert plan.run().loss_sum / weight == pytest.approx(plain.run().loss_sum, rel=1e-6)
    for ours, theirs in zip(plan.job.layers, plain.job.layers, strict=True):
        np.testing.assert_allclose(plan._cupy.asnumpy(ours.weight), plain._cupy.asnumpy(theirs.weight), rtol=1e-5)


def test_jobs_without_weights_bring_none(make_pair):
    plan, _ = make_pair()
    assert (plan._weights.size, plan._batch_weights.size) == (1, 1)


# What is left to the loop


@pytest.mark.parametrize("job", [{"dropout": 0.5}, {"clip_norm": 1.0}], ids=str)
def test_dropout_and_clipping_are_left_to_the_loop(backend, make_layers, small_problem, job):
    rows = backend.place(*small_problem, 1 / 255)
    plan = backend.compile(TrainingJob(make_layers(backend), SGD(), rows, 8, **job))
    assert type(plan) is LoopPlan


@pytest.mark.parametrize(
    "other",
    [
        {"on_host": True},
        {"labels": np.zeros((23, 2))},
        {"labels": np.zeros((23, 3), np.float32)},
        {"labels": np.zeros((3, 23)).T},
        {"weights": np.ones(22)},
    ],
    ids=["images on the host", "too few labels", "labels of another type", "transposed labels", "too few weights"],
)
def test_rows_that_the_kernels_would_misread_are_left_to_the_loop(backend, cupy, make_layers, small_problem, other):
    rows = backend.place(small_problem[0], np.zeros((23, 3)), 1 / 255)
    job = TrainingJob(make_layers(backend), SGD(), rows, 8, loss="squared_error")
    assert type(backend.compile(job)) is GraphPlan
    if "labels" in other:
        other = {"labels": cupy.asarray(other["labels"])}
    assert type(backend.compile(dataclasses.replace(job, rows=rows._replace(**other)))) is LoopPlan

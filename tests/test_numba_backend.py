"""What only the Numba backend has: kernels and their fall-backs, flat buffers, tiles, the compiled run and its cache.

The contract that all backends share is in test_backend_contract.py. With NUMBA_DISABLE_JIT=1 the kernels are plain
Python and the same tests hold; those about compiling are skipped.
"""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import requires
from itertools import pairwise

import numpy as np
import pytest
from xpnn.backends import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    SGD,
    Activation,
    Adam,
    AdamW,
    BackendUnavailable,
    ConfigError,
    GenericPlan,
    Layer,
    ModelFileError,
    RMSprop,
    Rows,
    Totals,
    TrainingJob,
    get_backend,
    why_unavailable,
)

if reason := why_unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

import numba
from numba.core import config, event
from xpnn.backends import numba_compile, numba_operations, numba_optimizers, numba_plan
from xpnn.backends.numba_backend import NumbaBackend
from xpnn.backends.numba_plan import NumbaPlan

compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT=1")

RULES = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-2),
    "adam": Adam(1e-2),
    "adamw": AdamW(1e-2, weight_decay=0.1),
}
KNOWN = [name for name in ACTIVATIONS if numba_operations.activation_code(name) is not None]


@pytest.fixture
def backend():
    return get_backend("numba")


def make_rows(backend, count=23, features=6, dtype="uint8"):
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (count, features), dtype=np.uint8)
    labels = np.argmax(images[:, :3], axis=1).astype(np.int64)
    return backend.place(
        images.astype(dtype) / 255 if dtype.startswith("float") else images.astype(dtype), labels, 1 / 255
    )


def make_layers(sizes=(6, 4, 3), activation="relu", dtype="float64"):
    generator = np.random.default_rng(2)
    kinds = [activation] * (len(sizes) - 2) + ["identity"]
    return [
        Layer(generator.normal(0, 0.7, (n, m)).astype(dtype), generator.normal(0, 0.3, m).astype(dtype), kind)
        for (n, m), kind in zip(pairwise(sizes), kinds, strict=True)
    ]


def train(plan, epochs=3):
    """Shuffled epochs of all rows; their totals."""
    generator, count = np.random.default_rng(3), len(plan.job.rows.labels)
    return [plan.run(generator.permutation(count)) for _ in range(epochs)]


def make_pair(
    backend, generic, optimizer=RULES["momentum"], *, count=23, batch_size=5, dtype="float64", images="uint8", **job
):
    """The Numba plan and the generic one of the same job, each with layers of its own."""
    sizes, activation = job.pop("sizes", (6, 4, 3)), job.pop("activation", "relu")
    jobs = [
        TrainingJob(
            make_layers(sizes, activation, dtype), optimizer, make_rows(backend, count, dtype=images), batch_size, **job
        )
        for _ in range(2)
    ]
    plan = backend.compile(jobs[0])
    assert type(plan) is NumbaPlan
    return plan, GenericPlan(generic, jobs[1])


def assert_same_training(plan, reference, rtol=1e-10, epochs=3):
    for ours, theirs in zip(train(plan, epochs), train(reference, epochs), strict=True):
        assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=rtol)
        assert (ours.correct, ours.rows) == (theirs.correct, theirs.rows)
    for ours, theirs in zip(plan.job.layers, reference.job.layers, strict=True):
        np.testing.assert_allclose(ours.weight, theirs.weight, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(ours.bias, theirs.bias, rtol=rtol, atol=rtol)
    assert plan.step == reference.step
    theirs = reference.state()
    assert plan.state().keys() == theirs.keys()
    for name, array in plan.state().items():
        np.testing.assert_allclose(array, theirs[name], rtol=rtol, atol=rtol)


def parameters_of(plan):
    return np.concatenate([array.ravel() for layer in plan.job.layers for array in (layer.weight, layer.bias)])


# The plan against the generic one


def test_every_optimizer_with_a_kernel_has_a_rule_here():
    known = {kind for kind in OPTIMIZERS.values() if numba_optimizers.rule_of(kind()) is not None}
    assert {type(rule) for rule in RULES.values()} == known


def test_the_kernels_know_these_rows():
    """A new row needs no kernel; these do not lose theirs."""
    assert {"identity", "relu", "leaky_relu", "tanh", "sigmoid"} <= set(KNOWN)
    assert {"sgd", "rmsprop", "adam", "adamw"} <= {rule.name for rule in RULES.values()}


@pytest.mark.parametrize("activation", KNOWN)
@pytest.mark.parametrize("rule", list(RULES))
def test_plan_trains_as_the_generic_one(backend, generic, rule, activation):
    plan, reference = make_pair(backend, generic, RULES[rule], activation=activation, l2=0.01)
    assert_same_training(plan, reference)


@pytest.mark.parametrize("sizes", [(6, 3), (6, 7, 3), (6, 5, 4, 3), (6, 4, 1, 4, 5, 3)])
def test_any_depth(backend, generic, sizes):
    assert_same_training(*make_pair(backend, generic, sizes=sizes, activation="tanh"))


@pytest.mark.parametrize(
    ("images", "dtype", "rtol"),
    [
        ("uint8", "float32", 2e-5),
        ("float32", "float32", 2e-5),
        ("float64", "float32", 2e-5),
        ("int64", "float64", 1e-10),
    ],
)
def test_image_and_network_types(backend, generic, images, dtype, rtol):
    plan, reference = make_pair(backend, generic, dtype=dtype, images=images)
    assert_same_training(plan, reference, rtol)
    assert all(array.dtype == dtype for array in (*plan.state().values(), plan.job.layers[0].weight))


def test_learning_rate_of_each_step(backend, generic):
    plan, reference = make_pair(backend, generic, learning_rate=lambda step: 0.1 / step)
    assert_same_training(plan, reference)


@pytest.mark.parametrize("batch_size", [70, 150, 200])
def test_batches_larger_than_a_tile(backend, generic, monkeypatch, batch_size):
    monkeypatch.setattr(numba_plan, "SERIAL_PRODUCT", 64 * 6 * 4)  # the larger product of a tile of 64 rows
    plan, reference = make_pair(backend, generic, count=150, batch_size=batch_size)
    assert plan._buffers.x.size == {70: 35, 150: 50, 200: 50}[batch_size] * 6
    assert_same_training(plan, reference)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "rows"),
    [
        ((784, 10, 10), 60_000, 66),  # 66 x 784 x 10 multiply-adds are one thread's
        ((784, 32, 32, 10), 60_000, 20),
        ((64, 32, 10), 510, 255),
        ((64, 32, 10), 512, 171),  # 256 x 64 x 32 = 2^19 multiply-adds are two threads'
        ((784, 10, 10), 128, 64),  # two halves, not 66 and 62
        ((784, 256, 10), 60_000, 5_000),  # 16.8 MB hold 5,349 rows: twelve equal tiles
        ((784, 256, 10), 128, 128),
    ],
)
def test_tile_rows(sizes, batch_size, rows):
    data = Rows(np.zeros((60_000, 784), dtype=np.uint8), np.zeros(60_000, dtype=np.int64), 1 / 255)
    job = TrainingJob(make_layers(sizes, dtype="float32"), SGD(0.1), data, batch_size)
    assert numba_plan._tile_rows(job) == rows


def test_full_batch_needs_little_memory(backend):
    images = np.zeros((60_000, 784), dtype=np.uint8)
    rows = Rows(images, np.zeros(60_000, dtype=np.int64), 1 / 255)
    plan = backend.compile(TrainingJob(make_layers((784, 256, 10), dtype="float32"), SGD(0.1), rows, 60_000))
    assert plan._data.images is images
    assert sum(buffer.nbytes for buffer in plan._buffers) < 40_000_000  # as float32 the images are 188 MB


# Runs


def test_a_divided_epoch_is_bit_identical(backend, generic):
    order = np.random.default_rng(4).permutation(23)
    whole, divided = (make_pair(backend, generic, dtype="float32")[0] for _ in range(2))
    total = whole.run(order)
    parts = Totals()
    for start in range(0, 23, 10):
        parts = divided.run(order[start : start + 10], parts)
    assert parts == total
    assert divided.step == whole.step == 5
    np.testing.assert_array_equal(parameters_of(divided), parameters_of(whole))


def test_two_runs_are_bit_identical(backend, generic):
    plans = [make_pair(backend, generic, RULES["adam"], count=40, batch_size=40, dtype="float32")[0] for _ in range(2)]
    assert train(plans[0]) == train(plans[1])
    np.testing.assert_array_equal(parameters_of(plans[0]), parameters_of(plans[1]))


def test_no_order_means_all_rows_as_they_stand(backend, generic):
    plans = [make_pair(backend, generic)[0] for _ in range(2)]
    assert plans[0].run() == plans[1].run(np.arange(23))
    np.testing.assert_array_equal(parameters_of(plans[0]), parameters_of(plans[1]))


def test_an_empty_order_changes_nothing(backend, generic):
    plan, _ = make_pair(backend, generic)
    before = parameters_of(plan)
    assert plan.run(np.empty(0, dtype=np.int64), Totals(1.5, 2, 3)) == Totals(1.5, 2, 3)
    assert plan.step == 0
    np.testing.assert_array_equal(parameters_of(plan), before)


@pytest.mark.parametrize(
    ("order", "shown"), [([0, 22, 23], "got 23 at position 2"), ([0, -1, 5], "got -1 at position 1")]
)
def test_rows_that_do_not_exist_are_refused(backend, generic, order, shown):
    plan, _ = make_pair(backend, generic)
    before = parameters_of(plan)
    with pytest.raises(ConfigError, match=rf"must be in \[0, 23\), {shown}"):
        plan.run(np.array(order))
    assert plan.step == 0
    np.testing.assert_array_equal(parameters_of(plan), before)


def test_the_order_stays_the_callers(backend, generic):
    plan, _ = make_pair(backend, generic)
    order = np.arange(23)
    order.flags.writeable = False  # Numba would take it for another type, and compile anew
    assert plan.run(order).rows == 23
    assert not any(np.shares_memory(array, order) for array in (*plan._buffers, *plan._network))


def test_labels_that_are_no_class_count_as_wrong(backend, generic):
    plan, reference = make_pair(backend, generic)
    for job in (plan.job, reference.job):
        job.rows.labels[:4] = [-1, 3, 1000, -(2**40)]
    assert_same_training(plan, reference)


# Flat buffers


def test_the_layers_are_views_of_one_buffer(backend, generic):
    plan, _ = make_pair(backend, generic)
    plan.run()
    first, second = plan.job.layers
    flat = np.concatenate([a.ravel() for a in (first.weight, second.weight, first.bias, second.bias)])
    np.testing.assert_array_equal(plan._parameters, flat)
    for layer in plan.job.layers:
        assert np.shares_memory(layer.weight, plan._parameters)
        assert np.shares_memory(layer.bias, plan._parameters)


def test_the_callers_arrays_are_left_alone(backend):
    layers = make_layers()
    weight, before = layers[0].weight, layers[0].weight.copy()
    backend.compile(TrainingJob(layers, SGD(0.1), make_rows(backend), 5)).run()
    np.testing.assert_array_equal(weight, before)
    assert layers[0].weight is not weight


def test_arrays_put_into_the_layers_are_taken_over(backend, generic):
    plan, reference = make_pair(backend, generic)
    train(plan)
    train(reference)
    for job in (plan.job, reference.job):
        for layer, fresh in zip(job.layers, make_layers(activation="relu"), strict=True):
            layer.weight, layer.bias = np.asfortranarray(fresh.weight * 0.5), fresh.bias + 1
    assert_same_training(plan, reference)
    assert np.shares_memory(plan.job.layers[0].weight, plan._parameters)


def test_two_plans_of_one_network_take_turns(backend, generic):
    plan, reference = make_pair(backend, generic)
    other, other_reference = backend.compile(plan.job), GenericPlan(generic, reference.job)
    for _ in range(2):
        assert_same_training(plan, reference)
        assert_same_training(other, other_reference)


@pytest.mark.parametrize("array", [np.zeros((6, 1)), np.zeros((6, 4), dtype=np.float32)])
def test_weights_of_another_kind_are_refused(backend, generic, array):
    plan, _ = make_pair(backend, generic)
    plan.job.layers[0].weight = array
    with pytest.raises(ConfigError, match=r"weight of layer 0 must stay float64 of shape \(6, 4\), got"):
        plan.run()


def test_training_goes_on_from_a_state(backend, generic):
    plan, _ = make_pair(backend, generic, RULES["adam"])
    train(plan)
    resumed, _ = make_pair(backend, generic, RULES["adam"])
    for layer, source in zip(resumed.job.layers, plan.job.layers, strict=True):
        layer.weight, layer.bias = source.weight.copy(), source.bias.copy()
    resumed.load_state(plan.state(), plan.step)
    assert train(resumed) == train(plan)
    assert resumed.step == plan.step
    np.testing.assert_array_equal(parameters_of(resumed), parameters_of(plan))


def test_state_is_a_copy_and_is_checked(backend, generic):
    plan, _ = make_pair(backend, generic)
    assert list(plan.state()) == [f"layers.{k}.{p}.velocity" for k in range(2) for p in ("weight", "bias")]
    for array in plan.state().values():
        array[...] = 1
    assert not any(array.any() for array in plan.state().values())
    with pytest.raises(ModelFileError, match=r"layers\.0\.bias\.velocity"):
        plan.load_state({}, 1)
    assert make_pair(backend, generic, SGD(0.1))[0].state() == {}


# What the kernels do not know goes the generic way


class OwnSGD(SGD):
    """A subclass may do anything."""


def own_loss(xp, outputs, labels, *, batch_size):
    loss_sum, correct, grad = LOSSES["softmax_cross_entropy"](xp, outputs, labels, batch_size=batch_size)
    return 2 * loss_sum, correct, 2 * grad


def double(xp, x):  # noqa: ARG001
    return 2 * x


def double_backward(xp, grad_y, y):  # noqa: ARG001
    return 2 * grad_y


def unknown(case, rows):
    """What is changed of a job that the kernels know."""
    return {
        "optimizer": {"optimizer": OwnSGD(0.1)},
        "loss": {"loss": "own"},
        "activation": {"layers": make_layers(activation="own")},
        "changed activation": {"layers": make_layers(activation="tanh")},
        "image layout": {"rows": rows._replace(images=np.asfortranarray(rows.images))},
        "image type": {"rows": rows._replace(images=rows.images.astype(np.float16))},
        "label type": {"rows": rows._replace(labels=rows.labels.astype(np.int32))},
        "network type": {"layers": make_layers(dtype="float16")},
    }[case]


UNKNOWN = (
    "optimizer",
    "loss",
    "activation",
    "changed activation",
    "image layout",
    "image type",
    "label type",
    "network type",
)


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_jobs_take_the_generic_plan(backend, generic, monkeypatch, case):
    for name in ("own", "tanh") if case == "changed activation" else ("own",):
        monkeypatch.setitem(ACTIVATIONS, name, Activation(double, double_backward))
    monkeypatch.setitem(LOSSES, "own", own_loss)
    plans = []
    for make in (backend.compile, lambda job: GenericPlan(generic, job)):
        job = TrainingJob(make_layers(), SGD(0.1), make_rows(backend), 5)
        plans.append(make(replace(job, **unknown(case, job.rows))))
    assert type(plans[0]) is GenericPlan
    if "type" not in case:
        assert_same_training(*plans)


@pytest.mark.parametrize("sizes", [(5, 3), (6, 4)])
def test_shapes_that_do_not_fit_never_reach_the_kernels(backend, sizes):
    layers = [*make_layers(sizes), *make_layers((3, 3))]
    assert type(backend.compile(TrainingJob(layers, SGD(0.1), make_rows(backend), 5))) is GenericPlan


def test_too_few_labels_never_reach_the_kernels(backend):
    rows = make_rows(backend)
    job = TrainingJob(make_layers(), SGD(0.1), rows._replace(labels=rows.labels[:-1]), 5)
    assert type(backend.compile(job)) is GenericPlan


# Operations


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_linear_and_backward(backend, generic, activation):
    generator = np.random.default_rng(5)
    x, weight, bias = generator.normal(size=(7, 5)), generator.normal(size=(5, 4)), generator.normal(size=4)
    y = backend.linear(x, weight, bias, activation=activation)
    np.testing.assert_allclose(y, generic.linear(x, weight, bias, activation=activation), rtol=1e-12)
    grad_y = generator.normal(size=(7, 4))
    before = grad_y.copy()
    ours = backend.linear_backward(grad_y, y, x, weight, activation=activation)
    for a, b in zip(ours, generic.linear_backward(grad_y, y, x, weight, activation=activation), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_array_equal(grad_y, before)
    assert backend.linear_backward(grad_y, y, x, weight, activation=activation, need_grad_x=False)[0] is None


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_nan_goes_through_every_activation(backend, activation):
    y = backend.linear(np.array([[np.nan]]), np.ones((1, 1)), np.zeros(1), activation=activation)
    assert np.isnan(y).all()


LOGITS = {
    "ordinary": np.random.default_rng(6).normal(size=(9, 4)),
    "ties": np.zeros((9, 4)),
    "huge": np.random.default_rng(7).choice([-1e4, 0.0, 1e4], size=(9, 4)),
}


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_loss(backend, generic, logits):
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3, 7])  # the last is no class
    loss_sum, correct, grad = backend.loss(logits, labels, loss="softmax_cross_entropy", batch_size=11)
    expected = generic.loss(logits, labels, loss="softmax_cross_entropy", batch_size=11)
    np.testing.assert_allclose(loss_sum, expected[0], rtol=1e-12)
    assert np.isfinite(loss_sum)
    assert correct == expected[1]
    np.testing.assert_allclose(grad, expected[2], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_nan_shows_in_the_loss(backend, generic, place):
    logits = np.random.default_rng(6).normal(size=(1, 4))
    logits[0, place] = np.nan
    for label in range(4):
        arguments = (logits, np.array([label]))
        loss_sum, correct, grad = backend.loss(*arguments, loss="softmax_cross_entropy", batch_size=1)
        assert np.isnan(loss_sum)
        assert np.isnan(grad).all()
        assert correct == generic.loss(*arguments, loss="softmax_cross_entropy", batch_size=1)[1] == (label == place)


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_update_is_in_place(backend, generic, rule, l2):
    optimizer, generator = RULES[rule], np.random.default_rng(8)
    ours = theirs = generator.normal(size=(5, 4))
    ours = ours.copy()
    state, expected = optimizer.init(np, ours), optimizer.init(np, theirs)
    for step in (1, 2, 3):
        grad, now = generator.normal(size=(5, 4)), {"step": step, "learning_rate": 0.1 / step, "l2": l2}
        result, state = backend.update(optimizer, ours, grad, state, **now)
        assert result is ours
        theirs, expected = generic.update(optimizer, theirs, grad, expected, **now)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        for slot, array in expected.items():
            np.testing.assert_allclose(state[slot], array, rtol=1e-12)


def test_update_of_arrays_that_are_not_flat(backend):
    parameter, grad = np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.ones((2, 3))
    before = parameter.copy()
    result, _ = backend.update(SGD(0.5), parameter, grad, {}, step=1, learning_rate=0.5)
    np.testing.assert_array_equal(result, before - 0.5)


@pytest.mark.parametrize("index", [slice(3, 9), np.array([4, 0, 22, 4])], ids=["slice", "array"])
@pytest.mark.parametrize("images", ["uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gather(backend, generic, index, images, dtype):
    rows = make_rows(backend, dtype=images)
    x, labels = backend.gather(rows, index, np.dtype(dtype))
    expected, expected_labels = generic.gather(rows, index, np.dtype(dtype))
    assert x.dtype == dtype
    np.testing.assert_array_equal(x, expected)  # equal to the last bit: no float64 in between
    np.testing.assert_array_equal(labels, expected_labels)


def test_gather_refuses_rows_that_do_not_exist(backend):
    with pytest.raises(ConfigError, match=r"must be in \[0, 23\), got 23 at position 1"):
        backend.gather(make_rows(backend), np.array([0, 23]), np.dtype(np.float32))


def test_operations_on_other_types_are_the_generic_ones(backend, generic, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "own", Activation(double, double_backward))
    generator = np.random.default_rng(9)
    for dtype, activation in ((np.float16, "relu"), (np.float64, "own")):
        x, weight, bias = (generator.normal(size=shape).astype(dtype) for shape in ((4, 3), (3, 2), 2))
        y = backend.linear(x, weight, bias, activation=activation)
        np.testing.assert_array_equal(y, generic.linear(x, weight, bias, activation=activation))
        ours = backend.linear_backward(y, y, x, weight, activation=activation)
        for a, b in zip(ours, generic.linear_backward(y, y, x, weight, activation=activation), strict=True):
            np.testing.assert_array_equal(a, b)
    monkeypatch.setitem(LOSSES, "own", own_loss)
    logits, labels = generator.normal(size=(4, 3)), np.array([0, 1, 2, 0])
    ours, theirs = (b.loss(logits, labels, loss="own", batch_size=4) for b in (backend, generic))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_put_lays_rows_one_after_the_other(backend):
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    placed = backend.put(array)
    assert placed.flags.c_contiguous
    assert placed.dtype == np.uint8
    assert not np.shares_memory(placed, array)
    np.testing.assert_array_equal(placed, array)
    np.testing.assert_array_equal(backend.to_numpy(placed), array)


# Getting and compiling it


def test_without_numba_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(BackendUnavailable, match=r"cannot import numba") as caught:
        NumbaBackend()
    (requirement,) = (each for each in requires("xpnn") if each.startswith("numba"))
    assert str(caught.value).endswith(f': pip install "{requirement}"')
    monkeypatch.setattr("xpnn.backends.numba_backend.requires", lambda name: ["numpy>=2.0", f"numba>=9 for {name}"])
    with pytest.raises(BackendUnavailable, match=r'pip install "numba>=9 for xpnn"$'):
        NumbaBackend()


def test_a_function_without_a_cache_folder_is_compiled_all_the_same():
    scope = {}
    exec(compile("def double(x):\n    return 2 * x", "<nowhere>", "exec"), scope)
    assert numba_compile.kernel(scope["double"])(21) == 42


def test_a_change_of_any_kernel_file_changes_every_cache_file(tmp_path):
    (tmp_path / "numba_a.py").write_text("a")
    before = numba_compile._digest(tmp_path)
    (tmp_path / "numba_b.py").write_text("b")
    after = numba_compile._digest(tmp_path)
    (tmp_path / "other.py").write_text("c")
    assert before != after == numba_compile._digest(tmp_path)
    kernel = numba_operations.activate
    assert getattr(kernel, "py_func", kernel).__qualname__ == f"activate_{numba_compile.SOURCES}"


def test_a_refused_cache_is_no_failure(monkeypatch):
    asked = []

    def njit(**options):
        asked.append("cache" in options)
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function 'double': no locator available for file '<nowhere>'")
        return lambda function: function

    monkeypatch.setattr(numba_compile.numba, "njit", njit)
    assert numba_compile.kernel(lambda x: 2 * x)(21) == 42
    assert asked == [True, False]


def test_the_notice_comes_once(caplog):
    caplog.set_level(logging.INFO, logger="xpnn")
    with numba_compile.announced("compiling"):
        assert not caplog.records
        for _ in range(2):
            with event.trigger_event("numba:compile"):
                pass
    assert [record.getMessage() for record in caplog.records] == ["compiling"]


@compiled_only
def test_the_first_compilation_is_announced_once(caplog):
    caplog.set_level(logging.INFO, logger="xpnn")
    function = numba.njit(lambda x: x + 1)
    with numba_compile.announced("compiling"):
        assert (function(1), function(1.5)) == (2, 2.5)
    with numba_compile.announced("compiling again"):
        assert function(2) == 3
    assert [record.getMessage() for record in caplog.records] == ["compiling"]


RELU = """
import numpy as np
from xpnn.backends import get_backend
print(get_backend("numba").linear(np.eye(2), np.eye(2), np.array([1.0, -1.0]), activation="relu").tolist())
"""


@compiled_only
@pytest.mark.parametrize("writable", [False, True])
def test_the_cache_folder_may_be_missing_or_unwritable(tmp_path, writable):
    (tmp_path / "file").touch()
    folder = tmp_path / ("missing" if writable else "file") / "cache"  # no folder can be made below a file
    # Numba would go on to __pycache__ and the user's cache; where it can be told not to, nothing is left to write to.
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(folder),
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
    }
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", RELU], env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, "[[2.0, 0.0], [1.0, 0.0]]\n"), result.stderr
    assert bool(list(folder.rglob("*activate*.nbc"))) == writable

"""Which jobs the compiled plan takes; all others go the generic way."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from xpnn.backends import (
    ACTIVATIONS,
    LOSSES,
    SGD,
    Activation,
    GenericPlan,
    Layer,
    StepOptions,
)
from xpnn.backends.testing.problem import training_job


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


def assert_same_training(plan, reference):
    generator = np.random.default_rng(3)
    for _ in range(3):
        order = generator.permutation(len(plan.job.rows.images))
        assert plan.run(order).loss_sum == pytest.approx(reference.run(order).loss_sum, rel=1e-10)
    for ours, theirs in zip(plan.job.layers, reference.job.layers, strict=True):
        np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(ours.bias, theirs.bias, rtol=1e-10, atol=1e-10)


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
        "optimizer": {"options": StepOptions(optimizer=OwnSGD(0.1), batch_size=5)},
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
        job = training_job(make_layers(), make_rows(backend), optimizer=SGD(0.1), batch_size=5)
        plans.append(make(replace(job, **unknown(case, job.rows))))
    assert type(plans[0]) is GenericPlan
    if "type" not in case:
        assert_same_training(*plans)


@pytest.mark.parametrize("sizes", [(5, 3), (6, 4)])
def test_shapes_that_do_not_fit_never_reach_the_kernels(backend, sizes):
    layers = [*make_layers(sizes), *make_layers((3, 3))]
    assert (
        type(backend.compile(training_job(layers, make_rows(backend), optimizer=SGD(0.1), batch_size=5))) is GenericPlan
    )


def test_too_few_labels_never_reach_the_kernels(backend):
    rows = make_rows(backend)
    job = training_job(make_layers(), rows._replace(labels=rows.labels[:-1]), optimizer=SGD(0.1), batch_size=5)
    assert type(backend.compile(job)) is GenericPlan


def test_what_the_kernels_do_not_know_is_said(backend):
    job = training_job(make_layers(), make_rows(backend), optimizer=OwnSGD(0.1), batch_size=4, dropout=0.5)
    plan = backend.compile(job)
    assert type(plan) is GenericPlan
    assert plan.description.endswith(", since the kernels do not know the optimizer 'sgd'")


def test_what_goes_by_the_operations_has_one_blas_thread(backend, monkeypatch):
    """What a sum of BLAS comes to depends on how many there are."""
    seen = []

    def noted(*args, **options):
        seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return own_loss(*args, **options)

    monkeypatch.setitem(LOSSES, "own", noted)
    with threadpool_limits(limits=2, user_api="blas"):
        job = training_job(make_layers(), make_rows(backend), optimizer=SGD(0.1), batch_size=5, loss="own")
        backend.compile(job).run()
        backend.evaluate(job.layers, job.rows, loss="own")
    assert len(seen) >= 6
    assert set(seen) == {1}


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
def test_labels_and_weights_that_do_not_fit_never_reach_the_kernels(backend, labels, weights):
    rows = backend.place(np.ones((9, 6), dtype=np.uint8), np.zeros(9, dtype=np.int64), 1 / 255)
    rows = rows._replace(labels=labels, weights=weights)
    job = training_job(make_layers((6, 5, 2)), rows, optimizer=SGD(0.1), batch_size=4, loss="squared_error")
    assert type(backend.compile(job)) is GenericPlan

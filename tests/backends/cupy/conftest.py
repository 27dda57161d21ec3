"""The CuPy backend on the stand-in and, where there is one, on a device; its plans beside the generic one.

A plan's kernels are compiled for its network and batch, for one or two seconds: tests that need just any plan take the
default job of `make_pair`, or one of the named jobs of test_plans.py.
"""

import shutil

import numpy as np
import pytest
from xpnn.backends import SGD, Adam, AdamW, GenericPlan, RMSprop, get_backend, why_unavailable
from xpnn.backends.testing.problem import training_job

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
# An epsilon that is large enough to matter.
RULES = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-3, epsilon=1e-2),
    "adam": Adam(3e-3, epsilon=1e-2),
    "adam, epsilon hat": Adam(3e-3, epsilon=1e-2, epsilon_hat=True),
    "adamw": AdamW(3e-3, epsilon=1e-2, weight_decay=0.1),
}


@pytest.fixture
def rules():
    """RULES, the optimizers by name."""
    return RULES


@pytest.fixture(params=["emulated", *(["device"] if not why_unavailable("cupy") else [])])
def backend(request, monkeypatch):
    """The CuPy backend; a test that asks for `cupy`, the stand-in, is not for a device."""
    if request.param == "device":
        if "cupy" in request.fixturenames:
            pytest.skip("what is tested is a matter of the stand-in")
        monkeypatch.setattr("xpnn.backends.cupy.full_batch_plan.LEAST_TILES", 0)  # it has more multiprocessors
    else:
        if shutil.which("g++") is None:
            pytest.skip("g++ is not installed")
        request.getfixturevalue("cupy")
    return get_backend("cupy")


@pytest.fixture
def make_pair(backend, generic, make_layers, labels_for):
    """`make_pair(...)`: the backend's plan, and the generic plan of the same job in float64."""

    def make(optimizer="momentum", *, hidden=(37,), outputs=3, features=19, count=23, batch_size=5, activation="relu",
             images="uint8", dtype="float64", loss="softmax_cross_entropy", weights=None, **job):  # fmt: skip
        optimizer, generator = RULES.get(optimizer, optimizer), np.random.default_rng(1)
        numbers = generator.integers(0, 256, (count, features))
        if np.dtype(images).kind == "f":
            numbers = numbers / 255 - 0.1
        elif np.dtype(images).kind == "i":
            numbers = numbers - 100
        labels = labels_for(loss, generator.integers(0, outputs, count), outputs)
        if loss == "sigmoid_cross_entropy":  # several at once, or none
            labels = (generator.random((count, outputs)) < 0.4).astype(np.float64)
        if isinstance(weights, str):  # "some"
            weights = generator.choice([0.0, 0.25, 1.0, 3.0], count)
        jobs = []
        for each in (backend, generic):
            layers = make_layers(each, (features, *hidden, outputs), activation=activation, dtype=dtype)
            for layer in layers:  # as large as they are in use, whatever the width
                shape = layer.weight.shape
                layer.weight = each.put(each.to_numpy(layer.weight) * np.float32(2 / shape[0] ** 0.5))
                if each is generic:
                    layer.weight, layer.bias = layer.weight.astype("float64"), layer.bias.astype("float64")
            rows = each.place(numbers.astype(images), labels, 1 / 255, weights)
            own = job if each is backend else {**job, "precision": "full"}
            jobs.append(training_job(layers, rows, optimizer=optimizer, batch_size=batch_size, loss=loss, **own))
        return backend.compile(jobs[0]), GenericPlan(generic, jobs[1])

    return make


@pytest.fixture
def assert_same_training():
    """`assert_same_training(plan, reference)` trains both on orders of its own, and compares all that they keep."""

    def compare(plan, reference, *, steps=30, tolerance=None):
        dtype = str(plan.job.layers[0].weight.dtype)
        tolerance = tolerance or TOLERANCE[dtype]
        generator, count = np.random.default_rng(3), len(plan.job.rows.images)
        while plan.step < steps:
            order = generator.permutation(count)
            ours, theirs = plan.run(order), reference.run(order)
            assert ours.loss == pytest.approx(theirs.loss, rel=tolerance, abs=tolerance)
            assert ours.rows == theirs.rows
            assert abs(ours.correct - theirs.correct) <= (dtype == "float32")  # of two equal logits rounding chooses
        assert plan.step == reference.step >= steps
        to_numpy = plan._cupy.asnumpy
        pairs = [
            (to_numpy(getattr(ours, name)), getattr(theirs, name))
            for ours, theirs in zip(plan.job.layers, reference.job.layers, strict=True)
            for name in ("weight", "bias")
        ]
        ours, theirs = plan.state(), reference.state()
        assert ours.keys() == theirs.keys()
        for one, other in [*pairs, *((ours[name], theirs[name]) for name in ours)]:
            assert one.dtype == np.dtype(dtype)
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * max(1, abs(other).max()))

    return compare

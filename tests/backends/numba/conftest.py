"""The machine codes that the room's tests compile, few and each for many tests, and makers of jobs that take them.

Compiling one schedule's kernel for one combination of types costs some ten seconds, and a test's steps milliseconds.
"""

from typing import NamedTuple

import numpy as np
import pytest
from xpnn.backends import SGD, Adam, AdamW, GenericPlan, RMSprop, get_backend, why_unavailable
from xpnn.backends.testing.problem import training_job

if why_unavailable("numba"):  # test_backend.py is skipped and says why
    collect_ignore_glob = ["test_[!b]*.py", "compiler", "network"]

FEATURES, OUTPUTS = 19, 3


class Kind(NamedTuple):
    """All that the types of a kernel's arguments follow from, and so its machine code.

    Attributes:
        way: the schedule.
        density: of the images; up to a half they are kept as lists of entries.
        images: type of the images.
        loss: one of classes or one of outputs.
        dtype: of the network.
    """

    way: str
    density: float
    images: str
    loss: str
    dtype: str

    @property
    def tolerance(self):
        return {"float64": 1e-10, "float32": 1e-4}[self.dtype]


# An orthogonal array: each way with each value of every other column, and each two values of two other columns together
# (of the types of images, each in lists and dense). `nox -s thorough` takes the whole product.
KINDS = {
    "units-sparse": Kind("units", 0.3, "uint8", "softmax_cross_entropy", "float64"),
    "units-dense": Kind("units", 1.0, "uint8", "sigmoid_cross_entropy", "float32"),
    "two layers-sparse": Kind("two layers", 0.3, "float32", "squared_error", "float64"),
    "two layers-dense": Kind("two layers", 1.0, "uint8", "softmax_cross_entropy", "float32"),
    "rows-sparse": Kind("rows", 0.3, "uint8", "softmax_cross_entropy", "float32"),
    "rows-dense": Kind("rows", 1.0, "float32", "sigmoid_cross_entropy", "float64"),
    "features-sparse": Kind("features", 0.3, "int16", "squared_error", "float32"),
    "features-dense": Kind("features", 1.0, "uint8", "softmax_cross_entropy", "float64"),
}
# Hidden units that lead to each schedule, in registers of 8 float64: 5 or 10 with padding, or 1 with padding. Those of
# two layers make blocks of two registers of sparse float64.
HIDDEN = {"units": (37, 9), "two layers": (80,), "rows": (5, 9), "features": (5, 9)}
KERNELS = {
    "units": "train_by_units",
    "two layers": "train_two_layers",
    "rows": "train_by_rows",
    "features": "train_by_features",
}
# An epsilon that is large enough to matter, and keeps Adam from making a step of a gradient that is but rounding.
RULES = {
    "sgd": SGD(0.05),
    "momentum": SGD(0.02, momentum=0.9),
    "nesterov": SGD(0.02, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-3, epsilon=1e-3),
    "adam": Adam(3e-3, epsilon=1e-3),
    "adam, epsilon hat": Adam(3e-3, epsilon=1e-3, epsilon_hat=True),
    "adamw": AdamW(3e-3, epsilon=1e-3, weight_decay=0.1),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """Each of KINDS; a test that names some of them takes it indirectly."""
    return KINDS[request.param]


@pytest.fixture(params=RULES)
def rule(request):
    """Each optimizer that the kernels know."""
    return RULES[request.param]


@pytest.fixture
def rules():
    """RULES, the optimizers by name."""
    return RULES


@pytest.fixture
def kinds():
    """KINDS, by name."""
    return KINDS


@pytest.fixture
def backend():
    """The Numba backend."""
    return get_backend("numba")


@pytest.fixture
def make_job(backend, make_layers, monkeypatch):
    """`make_job(kind, ...)`: a job of that kind that goes its way, the same numbers each time."""
    from xpnn.backends.numba.steps import schedules

    def make(kind, optimizer=RULES["momentum"], *, hidden=None, outputs=OUTPUTS, count=23, batch_size=5,
             activation="tanh", weights=None, **job):  # fmt: skip
        monkeypatch.setattr(schedules, "LARGE_BATCH", 1 if kind.way == "rows" else 10**9)
        generator = np.random.default_rng(1)
        images = generator.integers(1, 256, (count, FEATURES)) * (generator.random((count, FEATURES)) < kind.density)
        if np.dtype(kind.images).kind == "f":
            images = images / 255 - 0.1 * (images > 0)
        elif kind.images != "uint8":
            images = images - 300 * (images > 200)
        if kind.loss == "softmax_cross_entropy":
            labels = generator.integers(0, outputs, count)
        elif kind.loss == "sigmoid_cross_entropy":
            labels = generator.integers(0, 2, (count, outputs)).astype(np.float64)
        else:
            labels = generator.normal(size=(count, outputs))
        rows = backend.place(images.astype(kind.images), labels, 1 / 255, weights)
        sizes = (FEATURES, *(HIDDEN[kind.way] if hidden is None else hidden), outputs)
        layers = make_layers(backend, sizes, activation=activation, dtype=kind.dtype)
        return training_job(layers, rows, optimizer=optimizer, batch_size=batch_size, loss=kind.loss, **job)

    return make


@pytest.fixture
def make_plan(backend, make_job):
    """`make_plan(kind, ...)`: the compiled plan of such a job."""

    def make(kind, *args, **job):
        plan = backend.compile(make_job(kind, *args, **job))
        assert plan._engine.schedule.kernel.__name__ == KERNELS[kind.way], plan.description
        assert plan._engine.is_sparse == (kind.density <= 0.5)
        return plan

    return make


@pytest.fixture
def make_pair(generic, make_job, make_plan):
    """`make_pair(kind, ...)`: the compiled plan, and the generic plan of the same job."""
    return lambda *args, **job: (make_plan(*args, **job), GenericPlan(generic, make_job(*args, **job)))


@pytest.fixture
def assert_same_training():
    """`assert_same_training(plan, reference)` trains both on orders of its own, and compares all that they keep."""

    def compare(plan, reference, *, steps=None):
        dtype = plan.job.layers[0].weight.dtype.name
        tolerance, steps = {"float64": (1e-10, steps or 100), "float32": (1e-4, steps or 30)}[dtype]
        generator, count = np.random.default_rng(3), len(plan.job.rows.images)
        while plan.step < steps:
            order = generator.permutation(count)
            ours, theirs = plan.run(order), reference.run(order)
            assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=tolerance, abs=tolerance)
            assert ours.rows == theirs.rows
            assert abs(ours.correct - theirs.correct) <= (dtype == "float32")  # of two equal logits rounding chooses
        assert plan.step == reference.step >= steps
        for ours, theirs in zip(plan.job.layers, reference.job.layers, strict=True):
            assert ours.weight.dtype == theirs.weight.dtype == dtype
            np.testing.assert_allclose(ours.weight, theirs.weight, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(ours.bias, theirs.bias, rtol=tolerance, atol=tolerance)
        ours, theirs = plan.state(), reference.state()
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_allclose(array, theirs[name], rtol=tolerance, atol=tolerance)

    return compare


@pytest.fixture
def numbers_of():
    """`numbers_of(plan)`: all parameters and slots in one array."""

    def numbers(plan):
        parameters = [array.ravel() for layer in plan.job.layers for array in (layer.weight, layer.bias)]
        return np.concatenate([*parameters, *(array.ravel() for array in plan.state().values())])

    return numbers

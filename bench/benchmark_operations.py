"""Benchmarks of hot operations and plans on each backend.

`pytest bench --benchmark-enable` times them, `--benchmark-compare` compares two commits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xpnn.backends import SGD, Adam, Backend, Optimizer, StepOptions, TrainingJob, available_backends, get_backend
from xpnn.bench.compare.data import draw_pixels
from xpnn.nn import MLP, Dataset

BATCH, FEATURES, UNITS, CLASSES = 128, 784, 256, 10
NAMES = [name for name in available_backends() if name != "array-api-strict"]


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each available backend."""
    return get_backend(request.param)


def draw(backend: Backend, *shape: int) -> Any:
    """Return normal float32 numbers of the given shape on the device."""
    return backend.put(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def test_linear_relu(benchmark: Any, backend: Backend) -> None:
    """The forward pass of the first layer."""
    x, weight, bias = draw(backend, BATCH, FEATURES), draw(backend, FEATURES, UNITS), draw(backend, UNITS)
    benchmark(lambda: backend.to_numpy(backend.linear(x, weight, bias, activation="relu"))[0, 0])


def test_linear_backward(benchmark: Any, backend: Backend) -> None:
    """The backward pass of the first layer."""
    grad_y, y = draw(backend, BATCH, UNITS), draw(backend, BATCH, UNITS)
    x, weight = draw(backend, BATCH, FEATURES), draw(backend, FEATURES, UNITS)
    options: dict[str, Any] = {"activation": "relu", "need_grad_x": False}
    benchmark(lambda: backend.to_numpy(backend.linear_backward(grad_y, y, x, weight, **options)[2]))


def test_loss(benchmark: Any, backend: Backend) -> None:
    """Softmax, cross-entropy, its gradient and the count of correct rows."""
    logits = draw(backend, BATCH, CLASSES)
    labels = backend.put(np.arange(BATCH) % CLASSES)
    benchmark(lambda: backend.to_numpy(backend.loss(logits, labels, loss="softmax_cross_entropy", batch_size=BATCH)[2]))


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(1e-3)], ids=lambda optimizer: optimizer.name)
def test_update(benchmark: Any, backend: Backend, optimizer: Optimizer) -> None:
    """The optimizer update of the first layer's weights."""
    weight, grad = draw(backend, FEATURES, UNITS), draw(backend, FEATURES, UNITS)
    state = optimizer.init(backend.xp, weight)
    benchmark(
        lambda: backend.to_numpy(backend.update(optimizer, weight, grad, state, step=1, learning_rate=1e-3)[0])[0, 0]
    )


@pytest.fixture(scope="module", params=[0.2, 1.0], ids=lambda density: f"density-{density:g}")
def data(request: pytest.FixtureRequest) -> Dataset:
    """Rows as sparse as MNIST's, and dense rows."""
    return draw_pixels(request.param, rows=8192, test_rows=1)


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(1e-3)], ids=lambda optimizer: optimizer.name)
@pytest.mark.parametrize("batch_size", [BATCH, 8192])
def test_plan(benchmark: Any, backend: Backend, data: Dataset, batch_size: int, optimizer: Optimizer) -> None:
    """An epoch of a compiled plan."""
    net = MLP([FEATURES, UNITS, CLASSES], backend=backend)
    rows = net.place(data.train)
    plan = backend.compile(TrainingJob(net.layers, rows, StepOptions(optimizer=optimizer, batch_size=batch_size)))
    order = None if batch_size == len(data.train) else np.random.default_rng(0).permutation(len(data.train))
    benchmark.pedantic(plan.run, args=(order,), rounds=5, warmup_rounds=1)


def test_evaluate(benchmark: Any, backend: Backend, data: Dataset) -> None:
    """Evaluation of a data set."""
    net = MLP([FEATURES, UNITS, CLASSES], backend=backend)
    rows = net.place(data.train)
    benchmark(lambda: backend.evaluate(net.layers, rows))


def test_predict(benchmark: Any, backend: Backend, data: Dataset) -> None:
    """Predictions for images on the host."""
    net = MLP([FEATURES, UNITS, CLASSES], backend=backend)
    benchmark(lambda: net.predict(data.train.images))

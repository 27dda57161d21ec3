"""Hot operations on each backend, for `pytest bench --benchmark-enable` and `--benchmark-compare` between commits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xpnn.backends import SGD, Adam, Backend, Optimizer, available_backends, get_backend

BATCH, FEATURES, UNITS, CLASSES = 128, 784, 256, 10
NAMES = [name for name in available_backends() if name != "array-api-strict"]


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend that works on this machine."""
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
    """The optimizer's step on the first layer's weights."""
    weight, grad = draw(backend, FEATURES, UNITS), draw(backend, FEATURES, UNITS)
    state = optimizer.init(backend.xp, weight)
    benchmark(
        lambda: backend.to_numpy(
            backend.update(optimizer, weight, grad, state, step=1, learning_rate=1e-3)[0],
        )[0, 0]
    )

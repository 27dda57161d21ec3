"""Logits without training, by the kernels of the training, are those of the generic operations."""

import numpy as np
import pytest
from numba.core import config
from threadpoolctl import threadpool_info, threadpool_limits
from xpnn.backends import Backend
from xpnn.backends.numba import backend as numba_backend
from xpnn.backends.numba.compiler.team import Team
from xpnn.backends.numba.forward import density_of, forward_logits

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too slow as plain Python")


@pytest.mark.parametrize("density", [0.1, 1.0], ids=["sparse", "dense"])
@pytest.mark.parametrize("sizes", [(19, 6), (19, 37, 3), (19, 37, 9, 1)])  # with blocks of one register
@pytest.mark.parametrize("count", [0, 1, 128, 300])
def test_logits_are_the_generic_ones(generic, make_layers, density, sizes, count):
    generator = np.random.default_rng(1)
    images = generator.integers(1, 256, (count, 19)) * (generator.random((count, 19)) < density)
    images, layers = images.astype(np.uint8), make_layers(generic, sizes, activation="sigmoid")
    expected = images / 255
    for layer in layers:
        expected = generic.linear(expected, layer.weight, layer.bias, activation=layer.activation)
    results = [forward_logits(Team(threads), layers, images, 1 / 255) for threads in (1, 3)]
    assert results[0].dtype == np.float64
    np.testing.assert_allclose(results[0], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(results[1], results[0])


def test_the_density_is_that_of_a_sample_from_all_parts():
    images = np.zeros((5000, 3), np.uint8)
    assert density_of(images) == 0
    images[2500:] = 7
    assert density_of(images) == pytest.approx(0.5, abs=0.01)
    assert density_of(images[:0]) == 0


def test_a_small_pass_leaves_blas_one_thread(monkeypatch, generic, make_layers):
    seen = []

    def count_threads(*args, **kwargs):  # noqa: ARG001
        pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        seen.append(min(pools, default=0))  # NumPy's; a library that was loaded later may keep its own number

    monkeypatch.setattr(Backend, "evaluate", count_threads)
    layers, backend = make_layers(generic, (19, 37, 3), activation="relu"), numba_backend.NumbaBackend()
    rows = backend.place(np.zeros((10, 19), dtype=bool), np.zeros(10, dtype=int), 1.0)  # a type that no kernel knows
    with threadpool_limits(2, user_api="blas"):
        backend.evaluate(layers, rows)
        monkeypatch.setattr(numba_backend, "FORWARD_WORK", 1)
        backend.evaluate(layers, rows)
    if seen[1] != 2:
        pytest.skip("this BLAS lets nobody set its threads")
    assert seen == [1, 2]

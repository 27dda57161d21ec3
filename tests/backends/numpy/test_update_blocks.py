"""Updates of large parameters in blocks."""

import numpy as np
import pytest
from xpnn.backends import OPTIMIZERS, Adam, get_backend
from xpnn.backends.numpy import backend as numpy_backend

RULES = [*(kind(0.1) for kind in OPTIMIZERS.values()), Adam(0.1, epsilon=0.1, epsilon_hat=True)]


@pytest.mark.parametrize("optimizer", RULES, ids=repr)
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_in_blocks_has_the_bits_of_the_generic_one(generic, optimizer, l2, dtype, monkeypatch):
    generator = np.random.default_rng(0)
    start, grads = (generator.normal(size=shape).astype(dtype) for shape in ((5, 7), (3, 5, 7)))
    results = []
    for block, backend in ((4, get_backend("numpy")), (100, get_backend("numpy")), (100, generic)):
        monkeypatch.setattr(numpy_backend, "UPDATE_BLOCK", block)
        parameter = start.copy()
        state = optimizer.init(np, parameter)
        for step, grad in enumerate(grads, 1):
            parameter, state = backend.update(
                optimizer, parameter, grad.copy(), state, step=step, learning_rate=0.1, l2=l2
            )
        results.append([parameter, *state.values()])
    for blocks, whole, wanted in zip(*results, strict=True):
        np.testing.assert_array_equal(blocks, whole)
        np.testing.assert_array_equal(whole, wanted)
    assert not np.array_equal(results[0][0], start)

"""Updates of large parameters in blocks."""

import numpy as np
import pytest
from xpnn.backends import OPTIMIZERS, get_backend
from xpnn.backends.numpy import backend as numpy_backend


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_an_update_in_blocks_has_the_bits_of_one_at_once(kind, l2, monkeypatch):
    generator, optimizer = np.random.default_rng(0), kind(0.1)
    start, grads = generator.normal(size=(5, 7)), generator.normal(size=(3, 5, 7))
    results = []
    for block in (4, 100):
        monkeypatch.setattr(numpy_backend, "UPDATE_BLOCK", block)
        parameter = start.copy()
        state = optimizer.init(np, parameter)
        for step, grad in enumerate(grads, 1):
            parameter, state = get_backend("numpy").update(
                optimizer, parameter, grad.copy(), state, step=step, learning_rate=0.1, l2=l2
            )
        results.append([parameter, *state.values()])
    for blocks, whole in zip(*results, strict=True):
        np.testing.assert_array_equal(blocks, whole)
    assert not np.array_equal(results[0][0], start)

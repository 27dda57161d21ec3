"""Predictions of dense rows, some at a time."""

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends.numpy import backend as numpy_backend


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 8])
def test_rows_are_predicted_in_tiles(dtype, count, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (count, 6)).astype(dtype)
    net = nn.MLP([6, 7, 3], backend="numpy", seed=0)
    tiles, forward = [], net.backend.forward
    monkeypatch.setattr(net.backend, "forward", lambda layers, x: tiles.append(len(x)) or forward(layers, x))
    expected = net.backend.logits(net.layers, rows, 1 / 255)
    assert tiles == [count]
    tiles.clear()
    monkeypatch.setattr(numpy_backend, "PREDICTED_ROWS", 4)
    logits = net.backend.logits(net.layers, rows, 1 / 255)
    assert tiles == {0: [0], 1: [1], 4: [4], 5: [4, 1], 8: [4, 4]}[count]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert logits.shape == (count, 3)

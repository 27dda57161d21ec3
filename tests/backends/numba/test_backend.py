"""What the Numba backend has of its own beside its plans: evaluation by the kernels, and its install line.

The contract that all backends share is in backends/test_contract.py.
"""

import sys
from importlib.metadata import requires

import numpy as np
import pytest
from xpnn.backends import LOSSES, BackendUnavailable, Layer, why_unavailable

if reason := why_unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

from xpnn.backends.numba import backend as numba_backend
from xpnn.backends.numba.backend import NumbaBackend


@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_large_evaluation_goes_through_the_kernels(backend, generic, monkeypatch, loss):
    monkeypatch.setattr(numba_backend, "FORWARD_WORK", 0)
    generator = np.random.default_rng(3)
    layers = [Layer(generator.normal(size=(6, 3)), generator.normal(size=3), "identity")]
    labels = generator.integers(0, 3, 23) if loss == "softmax_cross_entropy" else generator.integers(0, 2, (23, 3))
    rows = backend.place(generator.integers(0, 256, (23, 6)).astype(np.uint8), labels, 1 / 255)
    ours, theirs = (b.evaluate(layers, rows, loss=loss) for b in (backend, generic))
    assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=1e-12)
    assert ours[1:] == theirs[1:]


def test_put_lays_rows_one_after_the_other(backend):
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    placed = backend.put(array)
    assert placed.flags.c_contiguous
    assert placed.dtype == np.uint8
    assert not np.shares_memory(placed, array)
    np.testing.assert_array_equal(placed, array)
    np.testing.assert_array_equal(backend.to_numpy(placed), array)


def test_without_numba_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(BackendUnavailable, match=r"cannot import numba") as caught:
        NumbaBackend()
    (requirement,) = (each for each in requires("xpnn") if each.startswith("numba"))
    assert str(caught.value).endswith(f': pip install "{requirement}"')
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["numpy>=2.0", f"numba>=9 for {name}"])
    with pytest.raises(BackendUnavailable, match=r'pip install "numba>=9 for xpnn"$'):
        NumbaBackend()

"""The CuPy backend's own logic, over a stand-in for CuPy made of NumPy; what needs a GPU is skipped without one.

The contract that all backends share is in backends/test_contract.py, which runs on CuPy where there is a device; what
happens when a GPU fails is in backends/cupy/test_failures.py.
"""

import subprocess
import sys

import numpy as np
import pytest
from xpnn.backends import (
    SGD,
    Adam,
    BackendUnavailable,
    ConfigError,
    RunError,
    get_backend,
    why_unavailable,
)
from xpnn.backends.cupy import start
from xpnn.backends.cupy.graph_plan import GraphPlan
from xpnn.backends.testing.problem import training_job

SCALE = 1 / 255


@pytest.fixture
def on_stand_in(cupy):  # noqa: ARG001
    return get_backend("cupy")


def refusal():
    """Why the backend does not start; one line, as every error."""
    with pytest.raises(BackendUnavailable) as caught:
        get_backend("cupy")
    assert str(caught.value).startswith("backend cupy: ")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("backend cupy: ")


# Starting, and refusing to


def test_starts_on_the_stand_in(on_stand_in):
    assert on_stand_in.name == "cupy"
    assert on_stand_in.xp.__name__ == "array_api_compat.cupy"
    assert get_backend("auto").name == "cupy"


@pytest.mark.parametrize(
    ("failure", "cause", "expected"),
    [
        (
            ModuleNotFoundError("No module named 'cupy'", name="cupy"),
            None,
            f"cupy is not installed; on a machine with an NVIDIA GPU: {start.INSTALL}",
        ),
        (
            ImportError("\n=====\nFailed to import CuPy.\n====="),
            ImportError("libnvrtc.so.13:\nno such file"),
            f"cupy cannot be imported (libnvrtc.so.13: no such file): {start.REPAIR}",
        ),
        (
            ModuleNotFoundError("No module named 'cuda'", name="cuda"),
            None,
            f"cupy cannot be imported (No module named 'cuda'): {start.REPAIR}",
        ),
    ],
)
def test_cupy_that_cannot_be_imported(monkeypatch, failure, cause, expected):
    def fail(_):
        raise failure from cause

    monkeypatch.setattr(start, "import_module", fail)
    assert refusal() == expected
    assert 'pip install "xpnn[cuda13]", or "xpnn[cuda12]"' in expected


@pytest.mark.parametrize("where", ["getDeviceCount", "arange"])
def test_a_small_kernel_that_does_not_run(cupy, monkeypatch, where):
    def fail(*_, **__):
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorNoDevice:\nno CUDA-capable device is detected")

    monkeypatch.setattr(cupy if where == "arange" else cupy.cuda.runtime, where, fail)
    reason = "cudaErrorNoDevice: no CUDA-capable device is detected"
    assert refusal() == f"a small kernel does not run on a GPU ({reason}): {start.REPAIR}"


def test_kernel_with_a_wrong_result(cupy, monkeypatch):
    monkeypatch.setattr(cupy, "asnumpy", lambda _: np.zeros((2, 2)))
    said = "it gave [[0.0, 0.0], [0.0, 0.0]] instead of [[6, 15], [15, 51]]"
    assert refusal() == f"a small kernel does not run on a GPU ({said}): {start.REPAIR}"


# Arrays


def test_put_copies_and_waits(cupy, on_stand_in):
    host = np.arange(6, dtype=np.uint8).reshape(2, 3)
    device = on_stand_in.put(host)
    host[:] = 0
    assert isinstance(device, cupy.ndarray)
    assert device.dtype == np.uint8
    np.testing.assert_array_equal(on_stand_in.to_numpy(device), [[0, 1, 2], [3, 4, 5]])
    assert cupy.cuda.memory.blocking[-1] is True


def test_to_numpy_gives_a_host_array_of_its_own(on_stand_in):
    device = on_stand_in.put(np.zeros(2))
    host = on_stand_in.to_numpy(device)
    assert type(host) is np.ndarray
    host[:] = 1
    np.testing.assert_array_equal(on_stand_in.to_numpy(device), [0, 0])


@pytest.mark.parametrize("index", [slice(1, 3), [2, 0]])
def test_gather_scales_integers_and_leaves_the_data_alone(on_stand_in, index):
    images, labels = np.array([[0, 51], [102, 255], [5, 10]], np.uint8), np.array([1, 0, 2])
    rows = on_stand_in.place(images, labels, SCALE)
    at = index if isinstance(index, slice) else on_stand_in.put(np.array(index))
    x, taken = on_stand_in.gather(rows, at, np.dtype("float32"))
    assert x.dtype == np.float32
    np.testing.assert_allclose(on_stand_in.to_numpy(x), images[index] * np.float32(SCALE), rtol=1e-6)
    np.testing.assert_array_equal(on_stand_in.to_numpy(taken), labels[index])
    np.testing.assert_array_equal(on_stand_in.to_numpy(rows.images), images)


def test_gather_leaves_floating_rows_unscaled(on_stand_in):
    rows = on_stand_in.place(np.array([[0.5, 2.0]]), np.array([0]), SCALE)
    x, _ = on_stand_in.gather(rows, slice(None), np.dtype("float64"))
    np.testing.assert_array_equal(on_stand_in.to_numpy(x), [[0.5, 2.0]])


# Training, against NumPy


def train(backend, make_layers, problem, optimizer, activation="relu"):
    """Two runs; returns the weights, the totals, the optimizer's state and the plan."""
    layers = make_layers(backend, activation=activation)
    rows = backend.place(*problem, SCALE)
    plan = backend.compile(training_job(layers, rows, optimizer=optimizer, batch_size=8, l2=0.01))
    totals = plan.run(np.random.default_rng(3).permutation(23))
    totals = plan.run(None, totals)
    weights = [backend.to_numpy(array) for layer in layers for array in (layer.weight, layer.bias)]
    return weights, (*totals, *backend.evaluate(layers, rows)), plan.state(), plan


@pytest.mark.parametrize(("optimizer", "activation"), [(SGD(0.1, momentum=0.9), "relu"), (Adam(), "tanh")])
def test_training_equals_numpy(on_stand_in, make_layers, small_problem, optimizer, activation):
    got = train(on_stand_in, make_layers, small_problem, optimizer, activation)
    expected = train(get_backend("numpy"), make_layers, small_problem, optimizer, activation)
    for ours, theirs in zip(got[0], expected[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12)
    assert got[2].keys() == expected[2].keys()
    for name, slot in got[2].items():
        np.testing.assert_allclose(slot, expected[2][name], rtol=0, atol=1e-12)
    assert isinstance(got[3], GraphPlan)


def test_state_can_be_taken_up_again(on_stand_in, make_layers, small_problem):
    *_, state, plan = train(on_stand_in, make_layers, small_problem, Adam())
    plan.load_state(state, plan.step)
    for name, slot in plan.state().items():
        np.testing.assert_array_equal(slot, state[name])


def test_a_run_reads_from_the_device_once(cupy, on_stand_in, make_layers, small_problem):
    rows = on_stand_in.place(*small_problem, SCALE)
    layers = make_layers(on_stand_in)
    plan = on_stand_in.compile(training_job(layers, rows, optimizer=Adam(), batch_size=4))
    before = cupy.reads
    plan.run(np.arange(23))  # six steps; the stand-in refuses reads by any other way
    assert cupy.reads == before + 1
    on_stand_in.evaluate(layers, rows)
    assert cupy.reads == before + 2


def test_logits_equal_numpy(on_stand_in, make_layers, small_problem):
    numpy = get_backend("numpy")
    got, expected = (each.logits(make_layers(each), small_problem[0], SCALE) for each in (on_stand_in, numpy))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(("order", "said"), [([0, 23], "got 23 at position 1"), ([-1, 0], "got -1 at position 0")])
def test_an_order_out_of_range_is_refused(on_stand_in, make_layers, small_problem, order, said):
    rows = on_stand_in.place(*small_problem, SCALE)
    plan = on_stand_in.compile(training_job(make_layers(on_stand_in), rows, optimizer=SGD(), batch_size=8))
    with pytest.raises(ConfigError, match=rf"the order's rows must be in \[0, 23\), {said}"):
        plan.run(np.array(order))


# On a device


@pytest.fixture
def on_device():
    if reason := why_unavailable("cupy"):
        pytest.skip(reason)
    return get_backend("cupy")


def test_arrays_come_back_from_the_device(on_device):
    for dtype in ("uint8", "int64", "float32", "float64"):
        host = np.arange(12).astype(dtype).reshape(3, 4)
        back = on_device.to_numpy(on_device.put(host))
        assert back.dtype == host.dtype
        np.testing.assert_array_equal(back, host)
        assert back.flags.writeable


def test_training_on_the_device_equals_numpy(on_device, make_layers, small_problem):
    got = train(on_device, make_layers, small_problem, Adam())
    expected = train(get_backend("numpy"), make_layers, small_problem, Adam())
    for ours, theirs in zip(got[0], expected[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-11)


def test_the_device_runs_out_of_memory(on_device):
    pool = on_device._cupy.get_default_memory_pool()
    before = pool.get_limit()
    pool.set_limit(size=pool.total_bytes() + (1 << 20))
    try:
        full = r"copying float64 of shape .*: the GPU's memory is full \(Out of memory allocating 8,388,608 bytes"
        with pytest.raises(RunError, match=full):
            on_device.put(np.zeros(1 << 20))
    finally:
        pool.set_limit(size=before)


def test_importing_the_backends_module_does_not_import_cupy():
    code = "import sys, xpnn.backends, xpnn.backends.cupy.backend; sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

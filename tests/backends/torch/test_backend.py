"""PyTorch: where its tensors are, what it leaves alone, and what is said where it cannot be had."""

import sys

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import SGD, BackendUnavailable, get_backend
from xpnn.backends.testing.problem import training_job
from xpnn.backends.torch.backend import TorchBackend

torch = pytest.importorskip("torch")


@pytest.fixture
def backend():
    return TorchBackend("cpu")


@pytest.fixture
def default_device():
    """PyTorch's own default device, restored afterwards."""
    before = torch.get_default_device()
    yield torch.set_default_device
    torch.set_default_device(before)


def test_the_device_is_a_gpu_where_there_is_one():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    backend = get_backend("torch")
    assert backend.device.type == expected
    assert backend.put(np.zeros(2)).device == backend.device


def test_the_device_may_be_named():
    assert TorchBackend("cpu").device == torch.device("cpu")
    assert TorchBackend(device="cpu").put(np.zeros(2)).device == torch.device("cpu")


def test_a_default_device_that_the_user_has_set_is_taken(default_device):
    default_device("meta")  # it has no values, so that the trial on it fails and names it
    with pytest.raises(BackendUnavailable, match=r"does not run on the device meta .*torch.set_default_device"):
        TorchBackend()
    assert TorchBackend("cpu").device.type == "cpu"


def test_apples_device_has_no_float64_and_is_not_the_default(monkeypatch):
    monkeypatch.setattr(torch, "get_default_device", lambda: torch.device("mps"))
    assert TorchBackend().device.type == "cpu"


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(BackendUnavailable, match=rf"float64 does not run on the device {device} \(.*take another"):
        TorchBackend(device)


def test_without_torch_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailable, match=r'cannot import torch .*pip install "xpnn\[torch\]"'):
        TorchBackend()


def test_a_device_that_computes_wrongly_is_refused(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "tolist", lambda _: [[0.0]])
    with pytest.raises(BackendUnavailable, match=r"gave \[\[0.0\]\] instead of \[\[6, 15\], \[15, 51\]\]"):
        TorchBackend("cpu")


def test_torch_records_no_gradients(backend, make_data):
    net = nn.MLP([6, 4, 3], backend=backend)
    nn.train(net, make_data(), epochs=1, batch_size=8)
    assert not any(array.requires_grad for layer in net.layers for array in (layer.weight, layer.bias))


def test_own_arrays_are_tensors_of_the_device_without_their_history(backend):
    tensor = torch.ones(2, 3, requires_grad=True)
    own = backend.own(tensor)
    assert own.data_ptr() == tensor.data_ptr()
    assert not own.requires_grad
    assert backend.own(np.ones((2, 3))) is None
    assert backend.own(torch.ones(2, 3, device="meta")) is None
    assert backend.own(torch.ones(2, 3).to_sparse()) is None


def test_the_bias_and_relu_change_no_other_array(backend):
    """ReLU is in place: it must be the product's memory, also where there is a single row."""
    x, weight, bias = torch.ones(1, 2), -torch.ones(2, 2), torch.zeros(2)
    assert backend.linear(x, weight, bias, activation="relu").tolist() == [[0.0, 0.0]]
    assert (x.tolist(), weight.tolist(), bias.tolist()) == ([[1.0, 1.0]], [[-1.0, -1.0]] * 2, [0.0, 0.0])


def test_the_trained_network_is_that_of_numpy(backend, make_data):
    data = make_data()
    nets = [nn.MLP([6, 4, 3], backend=each, dtype="float64", seed=3) for each in (backend, "numpy")]
    for net in nets:
        nn.train(net, data, optimizer=SGD(0.5, momentum=0.9), epochs=3, batch_size=8, seed=3)
    for name, array in nets[0].parameters().items():
        np.testing.assert_allclose(array, nets[1].parameters()[name], rtol=1e-12)


def test_tiles_are_those_of_the_device(backend, make_layers, small_problem):
    assert backend.tile_rows == 4096
    backend.tile_rows = 5
    plan = backend.compile(
        training_job(make_layers(backend), backend.place(*small_problem, 1 / 255), optimizer=SGD(0.5), batch_size=23)
    )
    assert plan.run().rows == 23
    assert TorchBackend("cpu").tile_rows == 4096


# The same bits again


@pytest.mark.parametrize("skipped", range(4))
def test_arrays_come_to_lie_in_pytorch_s_own_memory(backend, skipped):
    """At multiples of 64 bytes, on which the bits of MKL's products hang, wherever NumPy had them."""
    array = np.arange(100.0)[2 * skipped :]
    tensor = backend.put(array)
    assert tensor.data_ptr() % 64 == 0
    np.testing.assert_array_equal(backend.to_numpy(tensor), array)
    array[:] = 0
    assert tensor[0] == 2 * skipped


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float16", "float32", ">f8", ">i4"])
def test_arrays_of_every_type_come_as_they_are(backend, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)[::-1, ::2]
    array.flags.writeable = False
    tensor = backend.put(array)
    assert backend.to_numpy(tensor).dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(backend.to_numpy(tensor), array)


def test_sums_have_a_fixed_order_in_one_thread(backend):
    """PyTorch's own threads, also in a block within another; afterwards they are as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with backend.fixed_order():
            assert torch.get_num_threads() == 1
            with backend.fixed_order():
                assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_reproducible_training_has_the_same_bits_on_any_number_of_threads(backend):
    """Shards of 1,875 rows of 32 outputs: PyTorch would give each thread a part of the sum of the losses."""
    generator = np.random.default_rng(0)
    rows = nn.Split(generator.normal(size=(60_000, 4)).astype(np.float32), generator.integers(0, 32, 60_000))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            net = nn.MLP([4, 32], backend=backend, seed=0)
            history = nn.train(net, rows, epochs=2, batch_size=None, reproducible=True, validation=rows)
            figures = [(each.train_loss, each.validation_loss) for each in history]
            results.append((figures, {name: array.tobytes() for name, array in net.parameters().items()}))
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1]

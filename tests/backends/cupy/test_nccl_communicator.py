"""Sums over GPUs by NCCL: one process on a device or on the stand-in for CuPy, two processes on the stand-in.

What two GPUs do with each other has not been seen; see docs/gpu.md.
"""

import importlib
import json
import logging
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import SGD, ConfigError, DeviceError, DeviceLost, get_backend, why_unavailable
from xpnn.backends.communicator import ALONE
from xpnn.backends.cupy.backend import LoopPlan
from xpnn.backends.cupy.nccl_communicator import NcclCommunicator, Place, gpu_communicator
from xpnn.backends.cupy.start import LOCAL_RANK_VARIABLES
from xpnn.backends.reduction import LEAST_BYTES, SumOverRanks
from xpnn.backends.testing.problem import training_job

SMALL, LARGE = (6, 5, 4, 3), (6, 20, 420, 420, 3)  # the gradient of a layer of the large one is worth its own sum
BATCH_SIZE, STEPS = 32, 6  # an epoch's
PARAMETERS = {sizes: sum((n + 1) * m for n, m in pairwise(sizes)) for sizes in (SMALL, LARGE)}


def trained(backend, sizes, communicator=None, *, reproducible=False):
    """Train a network for an epoch in float64; returns its parameters, one after the other, and its training loss."""
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (BATCH_SIZE * (STEPS - 1) + 19, sizes[0]), dtype=np.uint8)
    labels = np.argmax(images[:, : sizes[-1]], axis=1)
    net = nn.MLP(list(sizes), backend=backend, seed=1, dtype="float64")
    history = nn.train(
        net, nn.Split(images, labels), optimizer=SGD(0.05, momentum=0.9), epochs=1, batch_size=BATCH_SIZE, seed=2,
        communicator=communicator, reproducible=reproducible,
    )  # fmt: skip
    return np.concatenate([array.ravel() for array in net.parameters().values()]), history[-1].train_loss


# One process


@pytest.fixture(params=["emulated", *(["on a device"] if not why_unavailable("cupy") else [])])
def backend(request):
    """The CuPy backend, on the stand-in and on a GPU where there is one."""
    if request.param == "emulated":
        request.getfixturevalue("cupy")
        return get_backend("cupy")
    made = get_backend("cupy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of CuPy, where it does not find the library
        if not importlib.import_module("cupy.cuda.nccl").available:
            pytest.skip("CuPy finds no NCCL: pip install nvidia-nccl-cu13, or -cu12")
    return made


@pytest.fixture
def alone(backend):
    return NcclCommunicator(backend._cupy, ALONE)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_one_process_sums_and_gathers_its_own(backend, alone, dtype):
    host = np.arange(12).astype(dtype).reshape(3, 4)
    array = backend.put(host)
    alone.sum(array)
    np.testing.assert_array_equal(backend.to_numpy(array), host)
    wait = alone.start_sum(array[1:])
    wait()
    array += array  # on the current stream, after the sum
    np.testing.assert_array_equal(backend.to_numpy(array), host * 2)
    gathered = alone.gather(array.T)
    assert gathered.shape == (1, 4, 3)
    assert gathered.dtype == dtype
    np.testing.assert_array_equal(backend.to_numpy(gathered)[0], 2 * host.T)
    columns = array[:, 1:3]
    alone.sum(columns)
    alone.start_sum(columns)()
    np.testing.assert_array_equal(backend.to_numpy(array), host * 2)


def test_what_is_on_the_host_goes_by_the_other_communicator(alone):
    assert (alone.rank, alone.size, alone.on_host) == (0, 1, False)
    seen = []
    alone._host = SimpleNamespace(
        sum=lambda array: seen.append(("sum", array.tolist())),
        start_sum=lambda array: seen.append(("start_sum", array.tolist())),
        gather=lambda array: seen.append(("gather", array.tolist())),
        exchange=lambda value: seen.append(("exchange", value)),
        barrier=lambda: seen.append("barrier"),
    )
    alone.sum(np.ones(2))
    alone.start_sum(np.ones(1))
    alone.gather(np.zeros(1))
    alone.exchange({"any": "thing"})
    alone.barrier()
    assert seen == [
        ("sum", [1, 1]), ("start_sum", [1]), ("gather", [0]), ("exchange", {"any": "thing"}), "barrier",
    ]  # fmt: skip


def test_one_process_trains_alike_with_and_without_it(backend, alone):
    """In a fixed order of shards, whose sums are gathered; and with the sums that many ranks take."""
    expected = trained(backend, SMALL, reproducible=True)
    got = trained(backend, SMALL, alone, reproducible=True)
    np.testing.assert_array_equal(got[0], expected[0])
    assert got[1] == expected[1]
    assert backend.communicator(alone) is alone
    assert backend.communicator(ALONE) is ALONE


@pytest.mark.parametrize("sizes", [SMALL, LARGE])
def test_one_process_takes_steps_with_the_sums_of_many(backend, alone, make_layers, sizes):
    weights = []
    for sums in (False, True):
        generator = np.random.default_rng(5)
        images, labels = generator.random((40, 6)), generator.integers(0, 3, 40)
        layers = make_layers(backend, sizes)
        job = training_job(layers, backend.place(images, labels, 1.0), optimizer=SGD(0.1), batch_size=8)
        plan = LoopPlan(backend, job, backend._cupy)
        if sums:
            plan._reduction = SumOverRanks(backend, layers, alone)
        totals = plan.run()
        weights.append([backend.to_numpy(layer.weight) for layer in layers])
        assert totals.rows == 40
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_type_that_nccl_does_not_sum(backend, alone):
    with pytest.raises(ConfigError, match=r"NCCL sums arrays of float32, .*, got complex128"):
        alone.sum(backend.put(np.zeros(2, np.complex128)))


# Two processes, each of them on the stand-in with a device of its own

RANK = """
import sys; sys.path.insert(0, sys.argv[1])
from backends.cupy.test_nccl_communicator import on_a_rank
on_a_rank(sys.argv[2])
"""


def on_a_rank(folder):
    """What each of two processes does; its results go to a folder."""
    from conftest import stand_in_for_cupy  # the script has the folder of all tests on its path
    from mpi4py import MPI

    with stand_in_for_cupy() as cupy:
        messages = []
        logging.getLogger("xpnn").addHandler(SimpleNamespace(level=0, handle=lambda record: messages.append(record)))
        logging.getLogger("xpnn").setLevel(logging.INFO)
        cupy.cuda.device.count, nccl = 2, importlib.import_module("cupy.cuda.nccl")
        backend, world = get_backend("cupy"), nn.distributed.world()
        figures = {"device": cupy.cuda.Device().id, "calls": {}, "losses": {}}
        arrays = {}
        for name, sizes, reproducible in (
            ("small", SMALL, False), ("large", LARGE, False), ("shards", SMALL, True),
        ):  # fmt: skip
            nccl.calls.clear()
            arrays[name], figures["losses"][name] = trained(backend, sizes, world, reproducible=reproducible)
            figures["calls"][name] = list(nccl.calls)
        over_gpus = backend.communicator(world)
        figures["is kept"] = over_gpus is backend.communicator(world)
        figures["kind"] = type(over_gpus).__name__
        own = backend.put(np.full(3, world.rank + 1.0))
        figures["gathered"] = backend.to_numpy(over_gpus.gather(own)).tolist()
        columns = backend.put(np.arange(6.0).reshape(2, 3) + world.rank)
        over_gpus.sum(columns[:, 1:])
        over_gpus.start_sum(columns[:, :1])()
        figures["summed"] = backend.to_numpy(columns).tolist()
        rows = backend.place(np.zeros((4, 6)), np.zeros(4, np.int64), 1.0)
        job = training_job(
            nn.MLP([6, 3], backend=backend).layers, rows, optimizer=SGD(0.1), batch_size=4, communicator=over_gpus
        )
        figures["plan"] = backend.compile(job).description
        with pytest.raises(Exception, match="the ranks of NCCL called differently") as caught:
            over_gpus.sum(backend.put(np.zeros(2 + world.rank)))
        figures["unlike"] = type(caught.value).__name__

        cupy.cuda.device.count = 1
        cupy.cuda.Device(0).use()
        nccl.calls.clear()
        with pytest.raises(DeviceError, match="NCCL failed on rank") as caught:
            NcclCommunicator(cupy, world)
        figures["one device"] = str(caught.value)
        arrays["shared"], figures["losses"]["shared"] = trained(backend, SMALL, world)
        figures["calls"]["shared"] = list(nccl.calls)
        figures["messages"] = [f"{record.levelname} {record.getMessage()}" for record in messages]
    np.savez(Path(folder, f"{MPI.COMM_WORLD.Get_rank()}.npz"), **arrays)
    Path(folder, f"{MPI.COMM_WORLD.Get_rank()}.json").write_text(json.dumps(figures))


def test_two_processes_emulated(mpiexec, tmp_path, cupy):  # noqa: ARG001
    script, tests = tmp_path / "rank.py", Path(__file__).parents[2]
    script.write_text(RANK)
    done = mpiexec(2, script, tests, tmp_path, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    figures = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    with np.load(tmp_path / "0.npz") as first, np.load(tmp_path / "1.npz") as second:
        arrays = [dict(first), dict(second)]

    # each has the device of its number on the machine, and the weights of a process alone
    assert [of_rank["device"] for of_rank in figures] == [0, 1]
    for name, sizes in (("small", SMALL), ("large", LARGE), ("shared", SMALL)):
        weights, loss = trained(get_backend("numpy"), sizes)
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])
        np.testing.assert_allclose(arrays[0][name], weights, rtol=0, atol=1e-12)
        assert figures[0]["losses"][name] == figures[1]["losses"][name] == pytest.approx(loss, abs=1e-12)
    weights, loss = trained(get_backend("cupy"), SMALL, reproducible=True)
    for of_rank in range(2):
        np.testing.assert_array_equal(arrays[of_rank]["shards"], weights)
        assert figures[of_rank]["losses"]["shards"] == loss

    # one sum a step over one buffer; of the large network, those of the last layers begin beside the others' gradients
    assert figures[0]["calls"] == figures[1]["calls"]
    calls = figures[0]["calls"]
    assert calls["small"] == [["allReduce", PARAMETERS[SMALL], "float64", False]] * STEPS
    last, before = 421 * 3 + 421 * 420, 21 * 420 + 7 * 20
    assert last * 8 >= LEAST_BYTES > before * 8
    assert calls["large"] == [["allReduce", last, "float64", True], ["allReduce", before, "float64", False]] * STEPS
    assert {name for name, *_ in calls["shards"]} == {"allGather"}
    assert calls["shared"] == []

    for of_rank in figures:
        assert (of_rank["kind"], of_rank["is kept"]) == ("NcclCommunicator", True)
        assert of_rank["gathered"] == [[1, 1, 1], [2, 2, 2]]
        assert of_rank["summed"] == [[1, 3, 5], [7, 9, 11]]
        assert of_rank["plan"] == "generic: a loop over the operations of cupy, summed by NCCL on the GPUs"
        assert of_rank["unlike"] == "KernelFault"
        assert "check that each rank has its own GPU" in of_rank["one device"]
    told, shared = figures[0]["messages"]
    assert told == "INFO the gradients of 2 ranks are summed by NCCL on their GPUs"
    assert shared.startswith(
        "WARNING the gradients of 2 ranks are summed on the host: ranks 0 and 1 have the same GPU, "
    )
    assert figures[1]["messages"] == []


# Which way the sums go, and which device a process takes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"available": False}, "CuPy finds no NCCL on rank 0: pip install nvidia-nccl-cu13"),
        ({}, "ranks 0 and 1 have the same GPU, 0000:01:00.0 of "),
    ],
)
def test_sums_go_through_the_host_where_nccl_cannot_emulated(cupy, ranks, monkeypatch, caplog, change, said):
    nccl = importlib.import_module("cupy.cuda.nccl")
    for name, value in change.items():
        monkeypatch.setattr(nccl, name, value)
    with caplog.at_level(logging.INFO, "xpnn"):
        assert ranks(2, lambda communicator: gpu_communicator(cupy, communicator) is communicator) == [True, True]
    assert len(caplog.records) == 1
    assert caplog.records[0].levelname == "WARNING"
    assert f"summed on the host: {said}" in caplog.text


@pytest.mark.parametrize("failed", [[], [1], [0, 1]])
def test_all_ranks_make_a_new_one_where_that_of_any_has_failed_emulated(cupy, ranks, monkeypatch, failed):
    class Made:
        def __init__(self, *_):
            self.has_failed = self.is_aborted = False

        def abort(self):
            self.is_aborted = True

    module = sys.modules[NcclCommunicator.__module__]
    monkeypatch.setattr(module, "_MADE", {})
    monkeypatch.setattr(module, "NcclCommunicator", Made)
    monkeypatch.setattr(module, "_own_place", lambda _: Place("a", str(ranks.current()), 22707, 13))

    def work(communicator):
        first = gpu_communicator(cupy, communicator)
        first.has_failed = communicator.rank in failed
        second, third = gpu_communicator(cupy, communicator), gpu_communicator(cupy, communicator)
        return second is first, third is second, first.is_aborted

    # one that has failed was aborted when it did
    assert ranks(2, work) == [(not failed, True, bool(failed) and rank not in failed) for rank in range(2)]


def test_unlike_versions_of_nccl():
    from xpnn.backends.cupy.nccl_communicator import _why_on_host

    places = (Place("a", "0000:01:00.0", 22707, 13), Place("b", "0000:01:00.0", 22800, 13))
    assert _why_on_host(places) == "NCCL is 22800 on rank 1 and 22707 on rank 0: install the same everywhere"
    assert _why_on_host((places[0], places[1]._replace(nccl=22707))) == ""
    assert "rank 1: pip install nvidia-nccl-cu12" in _why_on_host((places[0], Place("b", "x", 0, 12)))


@pytest.mark.parametrize("variable", LOCAL_RANK_VARIABLES)
def test_each_process_of_a_machine_takes_its_own_device_emulated(cupy, monkeypatch, variable):
    for name in LOCAL_RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    cupy.cuda.device.count = 4
    current = cupy.cuda.Device
    get_backend("cupy")
    assert current().id == 0  # no launcher
    for local_rank, device in (("2", 2), ("7", 3), ("4", 0), ("no number", 0), ("", 0)):
        current(0).use()
        monkeypatch.setenv(variable, local_rank)
        get_backend("cupy")
        assert current().id == device
    current(1).use()
    monkeypatch.setenv(variable, "2")
    get_backend("cupy")
    assert current().id == 1  # chosen before
    current(0).use()
    cupy.cuda.device.count = 1  # the launcher shows each its own
    get_backend("cupy")
    assert current().id == 0


# Failures


@pytest.fixture
def emulated(cupy):
    return NcclCommunicator(cupy, ALONE)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (2, r"\(NCCL_ERROR_SYSTEM_ERROR: .*\): check that the machines reach each other \(NCCL_SOCKET_IFNAME"),
        (5, r"\(NCCL_ERROR_INVALID_USAGE: .*\): check that each rank has its own GPU, .*; set NCCL_DEBUG=INFO for"),
    ],
)
@pytest.mark.parametrize("method", ["sum", "start_sum", "gather"])
def test_an_error_of_nccl_is_told_and_ends_it_emulated(cupy, emulated, monkeypatch, status, said, method):
    def fail(*_):
        raise cupy.cuda.nccl.NcclError(status)

    for name in ("allReduce", "allGather"):
        monkeypatch.setattr(emulated._comm, name, fail)
    with pytest.raises(DeviceError, match=rf"^\w+ .* of the ranks: NCCL failed on rank 0 {said}") as caught:
        getattr(emulated, method)(cupy.zeros(3))
    assert not isinstance(caught.value, DeviceLost)
    assert isinstance(caught.value.__cause__, cupy.cuda.nccl.NcclError)
    monkeypatch.undo()
    with pytest.raises(cupy_fault(), match="was aborted"):
        emulated._comm.check_async_error()
    with pytest.raises(DeviceError, match="NCCL has failed before on rank 0: start all ranks again"):
        emulated.sum(cupy.zeros(3))


def test_a_lost_gpu_is_told_emulated(cupy, emulated, monkeypatch):
    def fail(*_):
        raise cupy.cuda.nccl.NcclError(1)

    def lost():
        assert emulated._comm._ranks is None  # aborted first: waiting for a device with a sum on it may never end
        error = cupy.cuda.runtime.CUDARuntimeError("cudaErrorLaunchFailure: unspecified launch failure")
        error.status = 719
        raise error

    monkeypatch.setattr(emulated._comm, "allReduce", fail)
    monkeypatch.setattr(cupy.cuda.runtime, "deviceSynchronize", lost)
    with pytest.raises(DeviceLost, match=r"rank 0's GPU is lost to its process \(cudaErrorLaunchFailure"):
        emulated.sum(cupy.zeros(3))


def test_arrays_live_until_their_sum_was_waited_for_emulated(cupy, emulated):
    array = cupy.ones(3)
    wait = emulated.start_sum(array)
    key = id(array)
    del array
    assert key in cupy.held
    wait()
    del wait
    assert emulated._begun == {}


# What the stand-in refuses, as no NCCL does


def cupy_fault():
    return sys.modules["host_kernels"].KernelFault


def reduce(cupy, comm, array, *, count=None, type=None, stream=None):  # noqa: A002
    nccl = cupy.cuda.nccl
    stream = cupy.cuda.get_current_stream() if stream is None else stream
    ptr, kind = array.data.ptr, nccl.NCCL_FLOAT64 if type is None else type
    comm.allReduce(ptr, ptr, array.size if count is None else count, kind, nccl.NCCL_SUM, stream.ptr)


@pytest.fixture
def comm(cupy):  # noqa: ARG001
    nccl = importlib.import_module("cupy.cuda.nccl")
    return nccl.NcclCommunicator(1, nccl.get_unique_id(), 0)


def test_the_stand_in_checks_arguments_emulated(cupy, comm, stream):
    nccl, array = cupy.cuda.nccl, cupy.zeros(4)
    with pytest.raises(TypeError, match="NCCL was told float32 of an array of float64"):
        reduce(cupy, comm, array, type=nccl.NCCL_FLOAT32)
    with pytest.raises(cupy_fault(), match="there is no array of 5 float64"):
        reduce(cupy, comm, array, count=5)
    other, one = cupy.zeros(4), nccl.NCCL_FLOAT64
    with pytest.raises(cupy_fault(), match="the buffers overlap"):
        comm.allReduce(array.data.ptr, array.data.ptr + 8, 3, one, nccl.NCCL_SUM, 0)
    with pytest.raises(cupy_fault(), match="no stream at 0x7"):
        comm.allReduce(array.data.ptr, other.data.ptr, 4, one, nccl.NCCL_SUM, 7)
    with pytest.raises(TypeError, match="expected bytes, got tuple"):
        nccl.NcclCommunicator(1, tuple(nccl.get_unique_id()), 0)
    with pytest.raises(nccl.NcclError, match="INVALID_ARGUMENT"):
        nccl.NcclCommunicator(1, nccl.get_unique_id(), 1)
    with stream:
        stream.begin_capture()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="allReduce on a stream that captures"):
            reduce(cupy, comm, array)
    comm.abort()
    with pytest.raises(cupy_fault(), match="was aborted or destroyed"):
        reduce(cupy, comm, array)


def test_the_stand_in_orders_streams_emulated(cupy, comm, stream):
    array = cupy.zeros(4)
    with pytest.raises(cupy_fault(), match="its stream does not wait for the current one's work"):
        reduce(cupy, comm, array, stream=stream)
    stream.wait_event(cupy.cuda.get_current_stream().record())
    reduce(cupy, comm, array[1:3], stream=stream)
    array[:1] += 1  # beside it
    array[3:] = 2
    for use in (lambda: array + 1, lambda: array.get(), lambda: array.fill(0), lambda: cupy.sum(array), array.copy):
        with pytest.raises(cupy_fault(), match=r"used while nccl\.allReduce was at work on it"):
            use()
    with pytest.raises(cupy_fault(), match="used while"):
        array[1:2] = 0
    with pytest.raises(cupy_fault(), match="never recorded"):
        cupy.cuda.Stream.null.wait_event(cupy.cuda.Event())
    cupy.cuda.get_current_stream().wait_event(stream.record())
    np.testing.assert_array_equal(array.get(), [1, 0, 0, 2])


def test_the_stand_in_finds_what_was_freed_before_its_time_emulated(cupy, comm, stream):
    array = cupy.zeros(4)
    stream.wait_event(cupy.cuda.get_current_stream().record())
    reduce(cupy, comm, array, stream=stream)
    end = stream.record()
    del array
    with pytest.raises(cupy_fault(), match="its array was freed before the stream had come so far"):
        cupy.cuda.get_current_stream().wait_event(end)

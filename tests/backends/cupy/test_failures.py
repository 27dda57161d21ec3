"""What the CuPy backend says and leaves behind when a GPU fails, over the stand-in for CuPy that is made of NumPy."""

import dataclasses
import gc
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.backends import (
    SGD,
    Adam,
    BackendUnavailable,
    ConfigError,
    DeviceError,
    DeviceLost,
    GenericPlan,
    RunError,
    TrainingJob,
    doctor,
    get_backend,
)
from xpnn.backends.cupy import start
from xpnn.backends.cupy.errors import (
    LOST,
    _is_inside,
    batch_size_that_fits,
    gpu_memory,
    is_lost,
    is_out_of_memory,
    rows_that_fit,
)
from xpnn.backends.cupy.install import device_problem
from xpnn.nn.cli.app import xpnn

SCALE = 1 / 255
ILLEGAL = "cudaErrorIllegalAddress: an illegal memory access was encountered"
LOST_WORDS = (
    f"the GPU is lost to this process ({ILLEGAL}): start the process again; if it happens again, check the GPU with "
    "nvidia-smi, or use the backend numba"
)


@pytest.fixture
def on_stand_in(cupy):  # noqa: ARG001
    return get_backend("cupy")


def an_error(text, status=None, kind="CUDARuntimeError", module="cupy_backends.cuda.api.runtime", base=RuntimeError):
    """An error as CuPy raises it: known by the name of its class, and by CUDA's number in `status`."""
    error = type(kind, (base,), {"__module__": module})(text)
    if status is not None:
        error.status = status
    return error


def illegal():
    return an_error(ILLEGAL, 700)


def compile_failure():
    log = (
        'steps.cu(7): warning #177-D: variable "k" was declared\n\nsteps.cu(9): error: identifier "x" is undefined\n'
        '  x = 1;\n  ^\n\nsteps.cu(10): error: identifier "y" is undefined\n2 errors detected'
    )
    return an_error(log, kind="CompileException", module="cupy.cuda.compiler", base=Exception)


class Device:
    """Breaks after so many touches of the backend's work: from then on, every touch raises what `fail` makes."""

    def __init__(self, cupy, patch):
        self.left, self.touches, self.fail = float("inf"), 0, illegal
        runtime, pool = cupy.cuda.runtime, cupy.cuda.memory.pool
        names = ["array", "asnumpy", "_to_device"]
        places = [(cupy, name) for name in names] + [(cupy.ndarray, name) for name in ("get", "set")]
        for owner, name in places:
            if hasattr(owner, name):
                patch.setattr(owner, name, self._guard(getattr(owner, name), counts=name != "_to_device"))
        for owner, name in ((runtime, "memGetInfo"), (runtime, "deviceSynchronize"), (pool, "free_all_blocks")):
            patch.setattr(owner, name, self._guard(getattr(owner, name), counts=False))

    def _guard(self, function, *, counts):
        def guarded(*args, **kwargs):
            self.touches += counts and _is_inside.get()
            if self.touches > self.left:
                raise self.fail()
            return function(*args, **kwargs)

        return guarded


@pytest.fixture
def device(cupy, monkeypatch):
    return Device(cupy, monkeypatch)


def told(cupy, error, fits=None):
    """What an error becomes."""
    with pytest.raises(DeviceError) as caught, gpu_memory(cupy, "training", "use less", fits):
        raise error
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    return caught.value


# The memory is full


def test_what_was_asked_for_what_is_free_and_what_would_fit(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (300 << 20, 16 << 30))
    error = told(cupy, cupy.cuda.memory.OutOfMemoryError(1_500_000_000, 0), rows_that_fit(1 << 20, 1000))
    assert type(error) is DeviceError
    assert str(error) == (
        "training: the GPU's memory is full: 1.4 GiB (1,500,000,000 bytes) asked for, 300.0 MiB (314,572,800 bytes) of "
        "16.0 GiB (17,179,869,184 bytes) free; use less (270 rows would fit)"
    )


def test_a_limit_of_cupy_s_own_counts_as_the_device_s(cupy, monkeypatch):
    pool = cupy.cuda.memory.pool
    for name, number in (("get_limit", 5000), ("used_bytes", 1000), ("free_bytes", 10)):
        monkeypatch.setattr(pool, name, lambda number=number: number)
    seen = []
    error = told(cupy, cupy.cuda.memory.OutOfMemoryError(960, 0), lambda free: seen.append(free) or "")
    assert "960 bytes asked for, 3.9 KiB (4,000 bytes) of 4.9 KiB (5,000 bytes) free; use less" in str(error)
    monkeypatch.setattr(pool, "get_limit", lambda: 0)
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (500, 900))
    assert "510 bytes of 900 bytes free" in str(told(cupy, cupy.cuda.memory.OutOfMemoryError(960, 0)))
    assert seen == [4000]


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("CUDARuntimeError", 2, "cudaErrorMemoryAllocation: out of memory"),
        ("CUDADriverError", 2, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        ("CUBLASError", 3, "CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
def test_errors_of_cuda_and_its_libraries_that_mean_the_same(cupy, kind, status, text):
    before = cupy.cuda.memory.pool.held_when_freed
    error = told(cupy, an_error(text, status, kind))
    assert str(error).startswith(f"training: the GPU's memory is full: {text}, 16.0 GiB (")
    assert str(error).endswith(" free; use less")
    assert cupy.cuda.memory.pool.held_when_freed != before


def test_the_memory_of_the_failed_work_is_given_back(cupy):
    def work():
        array = cupy.zeros(100)
        mine = SimpleNamespace(array=array)
        mine.itself = mine  # a cycle, which only the collector frees
        raise cupy.cuda.memory.OutOfMemoryError(8, 0)

    kept = cupy.zeros(3)
    before = cupy.cuda.memory.pool.used_bytes()
    with pytest.raises(DeviceError), gpu_memory(cupy, "work", "use less"):
        work()
    assert cupy.cuda.memory.pool.held_when_freed == before >= kept.nbytes


@pytest.mark.parametrize(("free", "words"), [(10_000, "90 fit"), (100, "not even one row would fit"), (20_000, "")])
def test_rows_that_fit(free, words):
    assert rows_that_fit(100, 100, "{} fit")(free) == words


def test_the_batch_size_that_would_fit_does(cupy, on_stand_in, make_layers, make_problem, monkeypatch):
    rows, layers = on_stand_in.place(*make_problem(400), SCALE), make_layers(on_stand_in, (6, 20, 20, 3))
    peak, to_device = [0], cupy._to_device

    def count(result):
        array = to_device(result)
        arrays = [each for each in cupy.held.values() if each.base is None or type(each.base) is np.ndarray]
        peak[0] = max(peak[0], sum(each.nbytes for each in arrays))
        return array

    before = cupy.cuda.memory.pool.used_bytes()
    monkeypatch.setattr(cupy, "_to_device", count)
    job = TrainingJob(layers, SGD(), rows, batch_size=200)
    GenericPlan(on_stand_in, job).run(np.arange(200))
    needed = peak[0] - before  # bytes of a batch of 200
    said = int(batch_size_that_fits(dataclasses.replace(job, batch_size=400))(needed).split()[0])
    assert 100 <= said <= 200
    assert batch_size_that_fits(job, 64)(needed) == ""  # a tile of 64 rows fits: no smaller batch would help


@pytest.mark.parametrize("plan", [GenericPlan, lambda backend, job: backend.compile(job)])
def test_a_smaller_training_goes_on_in_the_same_process(
    cupy, on_stand_in, make_layers, small_problem, monkeypatch, plan
):
    def train(backend, batch_size, make_plan):
        layers = make_layers(backend)
        job = TrainingJob(layers, Adam(), backend.place(*small_problem, SCALE), batch_size)
        with gpu_memory(cupy, "training", "use less"):
            totals = make_plan(backend, job).run(np.arange(20))
        return totals, [backend.to_numpy(array) for layer in layers for array in (layer.weight, layer.bias)]

    held = cupy.cuda.memory.pool.used_bytes()
    monkeypatch.setattr(cupy.cuda.memory, "limit", 20 * 6 * 8 - 1)  # one byte less than a batch of 20 as float64
    with pytest.raises(DeviceError, match=r"^training: the GPU's memory is full: 960 bytes asked for"):
        train(on_stand_in, 20, GenericPlan)
    gc.collect()  # the error's own frames
    assert cupy.cuda.memory.pool.used_bytes() == held
    if plan is not GenericPlan:  # its buffers are larger than this limit
        monkeypatch.setattr(cupy.cuda.memory, "limit", float("inf"))
    totals, weights = train(on_stand_in, 5, plan)
    expected_totals, expected = train(get_backend("numpy"), 5, GenericPlan)
    np.testing.assert_allclose(totals, expected_totals, rtol=1e-12)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("work", "limit", "said"),
    [
        (
            lambda backend, layers, rows: backend.put(np.zeros((3, 5))),  # noqa: ARG005
            119,
            "copying float64 of shape (3, 5) to the GPU: the GPU's memory is full: 120 bytes asked for, ",
        ),
        (
            lambda backend, layers, rows: backend.evaluate(layers, rows),
            1103,
            "evaluation: the GPU's memory is full: 1.1 KiB (1,104 bytes) asked for, ",  # images as float64, 23 x 6
        ),
        (
            lambda backend, layers, rows: backend.logits(layers, np.ones((30, 6), np.uint8), 1),  # noqa: ARG005
            1439,
            "prediction: the GPU's memory is full: 1.4 KiB (1,440 bytes) asked for, ",  # images as float64, 30 x 6
        ),
    ],
)
def test_arrays_that_are_too_large(cupy, on_stand_in, make_layers, small_problem, monkeypatch, work, limit, said):
    layers, rows = make_layers(on_stand_in), on_stand_in.place(*small_problem, SCALE)
    monkeypatch.setattr(cupy.cuda.memory, "limit", limit)
    with pytest.raises(RunError, match="^" + re.escape(said)):
        work(on_stand_in, layers, rows)


def _plan(backend, layers, rows):
    return backend.compile(TrainingJob(layers, Adam(), rows, batch_size=8))


PLACES = {
    "copying float64 of shape (3, 5) to the GPU": lambda backend, layers, rows: backend.put(np.zeros((3, 5))),  # noqa: ARG005
    "evaluation": lambda backend, layers, rows: backend.evaluate(layers, rows),
    "prediction": lambda backend, layers, rows: backend.logits(layers, np.ones((30, 6), np.uint8), 1),  # noqa: ARG005
    "compiling": lambda backend, layers, rows: _plan(backend, layers, rows),
}


@pytest.mark.parametrize("place", [*PLACES, "training"])
@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (illegal, DeviceLost, LOST_WORDS),
        (compile_failure, DeviceError, 'a kernel does not compile (steps.cu(9): error: identifier "x" is undefined): '),
        (lambda: an_error("CUBLAS_STATUS_ARCH", 8, "CUBLASError"), DeviceError, "CuPy cannot do it (CUBLAS_STATUS_AR"),
        (lambda: an_error("out of memory", 2), DeviceError, "the GPU's memory is full: out of memory"),
    ],
)  # fmt: skip
def test_every_place_tells_every_failure(
    cupy, on_stand_in, device, monkeypatch, make_layers, small_problem, place, failure, kind, words
):
    layers, rows = make_layers(on_stand_in), on_stand_in.place(*small_problem, SCALE)
    plan = _plan(on_stand_in, layers, rows)
    run = (lambda *_: plan.run(np.arange(8))) if place == "training" else PLACES[place]
    device.fail, device.left = failure, -1
    if kind is not DeviceLost:  # the device itself answers
        monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (1, 2))
        monkeypatch.setattr(cupy.cuda.runtime, "deviceSynchronize", lambda: None)
        monkeypatch.setattr(cupy.cuda.memory.pool, "free_all_blocks", lambda: None)
    with pytest.raises(DeviceError) as caught:
        run(on_stand_in, layers, rows)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert str(caught.value).startswith("" if place == "compiling" else f"{place}: ")


# The device is lost


@pytest.mark.parametrize("status", sorted(LOST))
@pytest.mark.parametrize("kind", ["CUDARuntimeError", "CUDADriverError"])
def test_a_lost_device_is_told_and_not_touched(cupy, device, status, kind):
    device.left = -1
    error = told(cupy, an_error("name: text", status, kind))
    assert type(error) is DeviceLost
    assert str(error).startswith("training: the GPU is lost to this process (name: text): start the process again; if")


def test_what_clean_up_adds_does_not_hide_it(cupy):
    def covered(by):
        try:
            raise illegal()
        finally:
            raise by

    for by in (an_error("cudaErrorStreamCaptureInvalidated: x", 901), an_error("out of memory", 2), ValueError("x")):
        with pytest.raises(DeviceLost, match="cudaErrorIllegalAddress"), gpu_memory(cupy, "training", ""):
            covered(by)
    assert cupy.cuda.memory.pool.held_when_freed is None  # nothing is given back to a device that is lost


@pytest.mark.parametrize("text", ["CUBLAS_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_a_library_that_tells_first_of_a_lost_device(cupy, device, text):
    device.left = -1  # the questions after it give the true error
    error = told(cupy, an_error(text, 13, "CUBLASError"))
    assert type(error) is DeviceLost
    assert str(error) == f"training: {LOST_WORDS}"


@pytest.mark.parametrize("error", [ConfigError("a"), ValueError("b"), MemoryError("c"), KeyboardInterrupt()])
def test_other_errors_pass(cupy, error):
    with pytest.raises(type(error)) as caught, gpu_memory(cupy, "training", ""):
        raise error
    assert caught.value is error


def test_the_outermost_place_is_told(cupy):
    for work in ("training", "evaluation"):  # the second one shows that the first one is over
        with (
            pytest.raises(DeviceLost, match=rf"^{work}: "),
            gpu_memory(cupy, work, ""),
            gpu_memory(cupy, "copying", ""),
        ):
            raise illegal()


def test_numbers_alone_mean_nothing():
    for status in (2, 700):
        error = an_error("x", status, "CUBLASError")
        assert not is_lost(error)
        assert not is_out_of_memory(error)


# The command line: what a lost device leaves behind


def command(*arguments):
    return CliRunner().invoke(xpnn, ["train", *arguments])


SHORT = ["--dtype", "float64", "--epochs", "2", "--batch-size", "512", "--quiet"]  # two epochs of three chunks


@pytest.fixture
def small_chunks(tmp_path, monkeypatch):
    """An empty folder to work in, chunks of one batch, and a checkpoint after each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("xpnn.nn.training.loop._next_chunk", lambda chunk, elapsed, batch_size: batch_size)  # noqa: ARG005
    monkeypatch.setattr("xpnn.nn.runs.folder.CHECKPOINT_SECONDS", 0)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("seed", range(8))
def test_numpy_goes_on_with_a_training_that_lost_its_device(device, monkeypatch, seed):
    assert command("--backend", "numpy", *SHORT, "--out", "whole").exit_code == 0
    at_begin = []
    begin = nn.cli.train.RecordRun.on_train_begin
    monkeypatch.setattr(
        nn.cli.train.RecordRun, "on_train_begin", lambda *each: (begin(*each), at_begin.append(device.touches))
    )
    started = device.touches
    assert command("--backend", "cupy", *SHORT, "--out", "unbroken").exit_code == 0
    first, touches = at_begin[0] - started, device.touches - started
    # Anywhere between the first checkpoint and the end: in a chunk, or in an evaluation.
    device.left = device.touches + int(np.random.default_rng(seed).integers(first, touches - 1))
    broken = command("--backend", "cupy", *SHORT, "--out", "broken")
    checkpoint = nn.Checkpoint.load("broken/checkpoint.safetensors")
    assert broken.exit_code == 1, broken.output
    assert isinstance(broken.exception, SystemExit)
    assert LOST_WORDS in broken.stderr
    assert broken.stderr.endswith(
        "; the last checkpoint is in broken: go on with xpnn train --resume broken, or on another backend with "
        "xpnn train --resume broken --backend NAME\n"
    )
    assert broken.stderr.count("\n") == 1
    assert not Path("broken/summary.json").exists()
    assert not list(Path("broken").glob(".*.tmp"))
    assert checkpoint.epoch <= 3
    resumed = command("--resume", "broken", "--backend", "numpy", "--quiet")
    assert resumed.exit_code == 0, resumed.output
    assert json.loads(Path("broken/config.json").read_text())["backend"] == "numpy"
    whole, mended = (nn.load(f"{run}/model.safetensors", backend="numpy").parameters() for run in ("whole", "broken"))
    assert whole.keys() == mended.keys()
    for name, weights in whole.items():
        np.testing.assert_allclose(mended[name], weights, rtol=0, atol=1e-12)
    losses = [json.loads(line)["train_loss"] for line in Path("broken/metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("touch", [0, 1, 7])
def test_a_device_lost_before_the_first_checkpoint_leaves_nothing(cupy, device, touch):  # noqa: ARG001
    device.left = touch
    result = command("--backend", "cupy", *SHORT, "--out", "run")
    assert result.exit_code == 1
    assert result.stderr.endswith("or use the backend numba\n")
    assert not Path("run").exists()


@pytest.mark.usefixtures("small_chunks", "cupy")
def test_a_device_lost_while_the_first_checkpoint_is_read_leaves_nothing(monkeypatch):
    def lost(self):  # noqa: ARG001
        raise DeviceLost("gone")

    monkeypatch.setattr(nn.MLP, "parameters", lost)
    result = command("--backend", "cupy", *SHORT, "--out", "run")
    assert (result.exit_code, result.stderr) == (1, "xpnn: gone\n")
    assert not Path("run").exists()


@pytest.mark.usefixtures("small_chunks")
def test_a_full_memory_names_the_checkpoint_too_and_a_resumed_run_keeps_it(device):
    assert command("--backend", "numpy", *SHORT, "--out", "run").exit_code == 0
    Path("run/summary.json").unlink()  # as if it had been stopped before that
    before = Path("run/checkpoint.safetensors").read_bytes()
    device.fail = lambda: an_error("cudaErrorMemoryAllocation: out of memory", 2)
    device.left = 0
    result = command("--resume", "run", "--backend", "cupy", "--quiet")
    assert result.exit_code == 1
    assert "the GPU's memory is full: cudaErrorMemoryAllocation: out of memory" in result.stderr
    assert "; the last checkpoint is in run: go on with xpnn train --resume run, or " in result.stderr
    assert Path("run/checkpoint.safetensors").read_bytes() == before
    assert json.loads(Path("run/config.json").read_text())["backend"] == "numpy"


# Starting: a device that is too old, full, or taken; and what `xpnn backends` says of it


def refusal():
    with pytest.raises(BackendUnavailable) as caught:
        get_backend("cupy")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("backend cupy: ")


@pytest.mark.parametrize(
    ("capability", "built_for", "packages", "expected"),
    [
        ((7, 5), 13, {"cupy-cuda13x": ""}, ""),
        ((5, 0), 12, {"cupy-cuda12x": ""}, ""),
        ((3, 0), 14, {"cupy-cuda14x": ""}, ""),  # not known: the small kernel shows
        (
            (6, 1),
            13,
            {"cupy-cuda13x": ""},
            "GTX has compute capability 6.1, and CuPy for CUDA 13 knows none older than 7.5: pip uninstall -y "
            'cupy-cuda13x && pip install "xpnn[cuda12]", or use the backend numba',
        ),
        (
            (3, 7),
            12,
            {"cupy-cuda12x": ""},
            "GTX has compute capability 3.7, and CuPy for CUDA 12 knows none older than 5.0: use the backend numba",
        ),
    ],
)
def test_device_problem(capability, built_for, packages, expected):
    assert device_problem("GTX", capability, built_for, packages) == expected


def devices(*capabilities):
    """What cudaGetDeviceProperties tells of devices."""
    return lambda index: {
        "name": b"GTX %d" % index, "totalGlobalMem": 8 << 30,
        "major": capabilities[index][0], "minor": capabilities[index][1],
    }  # fmt: skip


def test_a_device_that_is_too_old_compiles_nothing(cupy, monkeypatch):
    monkeypatch.setattr(cupy, "arange", lambda *_, **__: pytest.fail("a kernel was compiled"))
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", devices((6, 1), (9, 0)))
    only = "GTX 0 has compute capability 6.1, and CuPy for CUDA 13 knows none older than 7.5: "
    assert refusal().startswith(only)
    assert refusal().endswith('pip install "xpnn[cuda12]", or use the backend numba')
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 2)
    assert refusal().endswith("or use the backend numba; or take GPU 1 by CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: 1)
    with pytest.raises(BaseException, match="a kernel was compiled"):  # the one in use is not too old
        start.start_cupy()


def test_the_doctor_tells_a_device_that_is_too_old(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", devices((6, 1)))
    monkeypatch.setattr(doctor, "installed_cupy", lambda: {"cupy-cuda13x": "14.2.0"})
    (found,) = doctor.examine().cuda.devices
    assert (found.name, found.memory, found.compute_capability) == ("GTX 0", 8 << 30, "6.1")
    assert found.problem.startswith("GTX 0 has compute capability 6.1, and CuPy for CUDA 13 knows none older than 7.5")
    shown = " ".join(CliRunner().invoke(xpnn, ["backends"]).stdout.split())
    assert "CUDA device GTX 0, 8 GiB, compute capability 6.1 problem GTX 0 has compute capability 6.1, and" in shown
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", devices((9, 0)))
    (found,) = doctor.examine().cuda.devices
    assert (found.compute_capability, found.problem) == ("9.0", "")


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (
            an_error("cudaErrorMemoryAllocation: out of memory", 2),
            "a small kernel does not run (cudaErrorMemoryAllocation: out of memory); close what else runs on the GPU, ",
        ),
        (
            an_error("cudaErrorDevicesUnavailable: busy", 46),
            "a small kernel does not run (cudaErrorDevicesUnavailable: busy); check with nvidia-smi whether another",
        ),
        (
            compile_failure(),
            'a small kernel does not run (steps.cu(9): error: identifier "x" is undefined); bring its CUDA libraries',
        ),
    ],
)
def test_a_small_kernel_that_fails(cupy, monkeypatch, failure, expected):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(cupy, "arange", fail)
    assert refusal().startswith(expected)


@pytest.mark.parametrize(("visible", "said"), [(None, "CUDA_VISIBLE_DEVICES"), ("-1", 'DEVICES, which is "-1"')])
def test_the_choice_of_devices_is_told_where_there_is_none(cupy, monkeypatch, visible, said):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    assert refusal().endswith(said)

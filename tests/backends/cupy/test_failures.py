"""What the CuPy backend says and leaves behind when a GPU fails, over the stand-in for CuPy that is made of NumPy."""

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
    Adam,
    ConfigError,
    DeviceError,
    DeviceLost,
    GenericPlan,
    RunError,
    get_backend,
)
from xpnn.backends.cupy.errors import _is_inside, gpu_errors
from xpnn.backends.testing.problem import training_job
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


def an_error(text, kind="CUDARuntimeError", module="cupy_backends.cuda.api.runtime"):
    """An error as CuPy raises it: known by its class's module and name."""
    return type(kind, (RuntimeError,), {"__module__": module})(text)


def illegal():
    return an_error(ILLEGAL)


def compile_failure():
    log = (
        'steps.cu(7): warning #177-D: variable "k" was declared\n\nsteps.cu(9): error: identifier "x" is undefined\n'
        '  x = 1;\n  ^\n\nsteps.cu(10): error: identifier "y" is undefined\n2 errors detected'
    )
    return an_error(log, "CompileException", "cupy.cuda.compiler")


class Device:
    """Breaks after so many touches of the backend's work: from then on, every touch raises what `fail` makes.

    After an illegal access, the device answers no question either.
    """

    def __init__(self, cupy, patch):
        self.left, self.touches, self.fail = float("inf"), 0, illegal
        runtime, pool = cupy.cuda.runtime, cupy.cuda.memory.pool
        names = ["array", "asnumpy", "_to_device"]
        places = [(cupy, name) for name in names] + [(cupy.ndarray, name) for name in ("get", "set")]
        for owner, name in places:
            if hasattr(owner, name):
                patch.setattr(owner, name, self._guard(getattr(owner, name), counts=name != "_to_device"))
        for owner, name in ((runtime, "memGetInfo"), (runtime, "deviceSynchronize"), (pool, "free_all_blocks")):
            patch.setattr(owner, name, self._guard(getattr(owner, name), counts=False, is_question=True))

    def _guard(self, function, *, counts, is_question=False):
        def guarded(*args, **kwargs):
            self.touches += counts and _is_inside.get()
            if self.touches > self.left and (self.fail is illegal or not is_question):
                raise self.fail()
            return function(*args, **kwargs)

        return guarded


@pytest.fixture
def device(cupy, monkeypatch):
    return Device(cupy, monkeypatch)


def told(cupy, error):
    """What an error becomes."""
    with pytest.raises(DeviceError) as caught, gpu_errors(cupy, "training", "use less"):
        raise error
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    return caught.value


# The memory is full


def test_what_was_asked_for_what_is_free_and_what_to_do(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (300 << 20, 16 << 30))
    error = told(cupy, cupy.cuda.memory.OutOfMemoryError(1_500_000_000, 0))
    assert type(error) is DeviceError
    assert str(error) == (
        "training: the GPU's memory is full (Out of memory allocating 1,500,000,000 bytes (allocated so far: 0 bytes))"
        ", 0.3 of 16.0 GiB are free: use less"
    )


@pytest.mark.parametrize(
    "error",
    [
        an_error("cudaErrorMemoryAllocation: out of memory"),
        an_error("CUDA_ERROR_OUT_OF_MEMORY: out of memory", "CUDADriverError", "cupy_backends.cuda.api.driver"),
        an_error("CUBLAS_STATUS_ALLOC_FAILED", "CUBLASError", "cupy_backends.cuda.libs.cublas"),
    ],
)
def test_errors_of_cuda_and_its_libraries_that_mean_the_same(cupy, error):
    before = cupy.cuda.memory.pool.held_when_freed
    expected = f"training: the GPU's memory is full ({error}), 16.0 of 16.0 GiB are free: use less"
    assert str(told(cupy, error)) == expected
    assert cupy.cuda.memory.pool.held_when_freed != before


def test_the_memory_of_the_failed_work_is_given_back(cupy):
    def work():
        array = cupy.zeros(100)
        mine = SimpleNamespace(array=array)
        mine.itself = mine  # a cycle, which only the collector frees
        raise cupy.cuda.memory.OutOfMemoryError(8, 0)

    kept = cupy.zeros(3)
    before = cupy.cuda.memory.pool.used_bytes()
    with pytest.raises(DeviceError), gpu_errors(cupy, "work", "use less"):
        work()
    assert cupy.cuda.memory.pool.held_when_freed == before >= kept.nbytes


@pytest.mark.parametrize("plan", [GenericPlan, lambda backend, job: backend.compile(job)])
def test_a_smaller_training_goes_on_in_the_same_process(
    cupy, on_stand_in, make_layers, small_problem, monkeypatch, plan
):
    def train(backend, batch_size, make_plan):
        layers = make_layers(backend)
        job = training_job(layers, backend.place(*small_problem, SCALE), optimizer=Adam(), batch_size=batch_size)
        with gpu_errors(cupy, "training", "use less"):
            totals = make_plan(backend, job).run(np.arange(20))
        return totals, [backend.to_numpy(array) for layer in layers for array in (layer.weight, layer.bias)]

    held = cupy.cuda.memory.pool.used_bytes()
    monkeypatch.setattr(cupy.cuda.memory, "limit", 20 * 6 * 8 - 1)  # one byte less than a batch of 20 as float64
    with pytest.raises(DeviceError, match=r"^training: the GPU's memory is full \(Out of memory allocating 960 bytes"):
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
            "copying float64 of shape (3, 5) to the GPU: the GPU's memory is full (Out of memory allocating 120 bytes",
        ),
        (
            lambda backend, layers, rows: backend.evaluate(layers, rows),
            1103,
            "evaluation: the GPU's memory is full (Out of memory allocating 1,104 bytes",  # images as float64, 23 x 6
        ),
        (
            lambda backend, layers, rows: backend.logits(layers, np.ones((30, 6), np.uint8), 1),  # noqa: ARG005
            1439,
            "prediction: the GPU's memory is full (Out of memory allocating 1,440 bytes",  # images as float64, 30 x 6
        ),
    ],
)
def test_arrays_that_are_too_large(cupy, on_stand_in, make_layers, small_problem, monkeypatch, work, limit, said):
    layers, rows = make_layers(on_stand_in), on_stand_in.place(*small_problem, SCALE)
    monkeypatch.setattr(cupy.cuda.memory, "limit", limit)
    with pytest.raises(RunError, match="^" + re.escape(said)):
        work(on_stand_in, layers, rows)


def _plan(backend, layers, rows):
    return backend.compile(training_job(layers, rows, optimizer=Adam(), batch_size=8))


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
        (lambda: an_error("CUBLAS_STATUS_ARCH", "CUBLASError"), DeviceError, "CuPy cannot do it (CUBLAS_STATUS_ARCH"),
        (lambda: an_error("out of memory"), DeviceError, "the GPU's memory is full (out of memory)"),
    ],
)  # fmt: skip
def test_every_place_tells_every_failure(on_stand_in, device, make_layers, small_problem, place, failure, kind, words):
    layers, rows = make_layers(on_stand_in), on_stand_in.place(*small_problem, SCALE)
    plan = _plan(on_stand_in, layers, rows)
    run = (lambda *_: plan.run(np.arange(8))) if place == "training" else PLACES[place]
    device.fail, device.left = failure, -1
    with pytest.raises(DeviceError) as caught:
        run(on_stand_in, layers, rows)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{place}: ")


# The device is lost


def test_a_device_that_no_longer_answers_is_lost(cupy, device):
    device.left = -1
    error = told(cupy, illegal())
    assert type(error) is DeviceLost
    assert str(error) == f"training: {LOST_WORDS}"
    assert cupy.cuda.memory.pool.held_when_freed is None  # nothing is given back to it


@pytest.mark.parametrize("text", ["CUBLAS_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_a_library_that_fails_first_on_a_lost_device(cupy, device, text):
    device.left = -1  # the device's own answer gives the true error
    assert str(told(cupy, an_error(text, "CUBLASError"))) == f"training: {LOST_WORDS}"


def test_a_failed_clean_up_does_not_hide_a_full_memory(cupy):
    def work():
        try:
            raise cupy.cuda.memory.OutOfMemoryError(8, 0)
        finally:
            raise an_error("cudaErrorStreamCaptureInvalidated: x")

    with pytest.raises(DeviceError, match="memory is full"), gpu_errors(cupy, "training", ""):
        work()


@pytest.mark.parametrize("error", [ConfigError("a"), ValueError("b"), MemoryError("c"), KeyboardInterrupt()])
def test_other_errors_pass(cupy, error):
    with pytest.raises(type(error)) as caught, gpu_errors(cupy, "training", ""):
        raise error
    assert caught.value is error


def test_the_outermost_place_is_told(cupy):
    for work in ("training", "evaluation"):  # the second one shows that the first one is over
        with (
            pytest.raises(DeviceError, match=rf"^{work}: "),
            gpu_errors(cupy, work, ""),
            gpu_errors(cupy, "copying", ""),
        ):
            raise illegal()


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
@pytest.mark.parametrize("seed", range(4))
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
        "; the last checkpoint is in broken: resume with xpnn train --resume broken, or on another backend with "
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
    def lost(self, **options):  # noqa: ARG001
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
    device.fail = lambda: an_error("cudaErrorMemoryAllocation: out of memory")
    device.left = 0
    result = command("--resume", "run", "--backend", "cupy", "--quiet")
    assert result.exit_code == 1
    assert "the GPU's memory is full (cudaErrorMemoryAllocation: out of memory)" in result.stderr
    assert "; the last checkpoint is in run: resume with xpnn train --resume run, or " in result.stderr
    assert Path("run/checkpoint.safetensors").read_bytes() == before
    assert json.loads(Path("run/config.json").read_text())["backend"] == "numpy"

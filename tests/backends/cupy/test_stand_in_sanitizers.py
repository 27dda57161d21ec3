"""The stand-in's kernels under ThreadSanitizer and AddressSanitizer."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

KERNELS = (Path(__file__).parents[2] / "stand_in" / "examples.cu").read_text(encoding="utf-8")
TWO_PHASES = (Path(__file__).parents[2] / "stand_in" / "two_phases.cu").read_text(encoding="utf-8")


@pytest.fixture
def two_phases(host):
    """`two_phases(code, sanitizer)`: the sum's launch under a sanitizer."""

    def run(code=TWO_PHASES, sanitizer="thread", *, parts=3, shared_mem=256):
        if reason := host.why_no_compiler(sanitizer):
            pytest.skip(reason)
        arrays = (
            np.arange(3 * 64, dtype=np.float32),
            *(np.zeros(n, np.float32) for n in (parts, 3)),
            np.zeros(1, np.uint32),
        )
        launch = host.Launch(code, (), "two_phases", (3,), (64,), arrays, shared_mem, cooperative=True)
        return host.sanitize([launch], sanitizer)

    return run


def line_of(text, code=TWO_PHASES):
    return 1 + next(number for number, line in enumerate(code.splitlines()) if text in line)


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_a_correct_kernel_is_clean(two_phases, sanitizer):
    results, report = two_phases(sanitizer=sanitizer)
    assert report == ""
    np.testing.assert_array_equal(results[0][1], np.arange(192).reshape(3, 64).sum(axis=1))
    np.testing.assert_array_equal(results[0][2], np.full(3, np.arange(192).sum()))


def test_a_missing_barrier_of_the_block_is_a_race(two_phases):
    report = two_phases(TWO_PHASES.replace("__syncthreads();  // of the block", "")).report
    assert "ThreadSanitizer: data race" in report
    assert f".cu:{line_of('if (t < half)')} " in report


def test_a_missing_barrier_of_the_grid_is_a_race(two_phases):
    report = two_phases(TWO_PHASES.replace("grid_barrier(arrived);  // of the grid", "(void)arrived;")).report
    assert "ThreadSanitizer: data race" in report
    assert f".cu:{line_of('y[blockIdx.x] += parts[b]')} " in report
    assert f".cu:{line_of('if (t == 0) parts[blockIdx.x]')} " in report


def test_a_barrier_that_does_not_publish_is_a_race(two_phases):
    report = two_phases(TWO_PHASES.replace("add_release(arrived, 1);", "atomicAdd(arrived, 1u);")).report
    assert "ThreadSanitizer: data race" in report


def test_blocks_of_an_ordinary_launch_race(host):
    if reason := host.why_no_compiler("thread"):
        pytest.skip(reason)
    code = 'extern "C" __global__ void name(float* y) {\n    y[threadIdx.x] += blockIdx.x;\n}\n'
    launch = host.Launch(code, (), "name", (1,), (64,), (np.zeros(64, np.float32),))
    assert host.sanitize([launch, launch]).report == ""  # two launches follow each other
    launch.grid = (2,)
    assert ".cu:2 " in host.sanitize([launch]).report


@pytest.mark.parametrize("writer", [0, 40, 63])
def test_a_race_between_two_barriers(host, writer):
    if reason := host.why_no_compiler("thread"):
        pytest.skip(reason)
    code = """
    extern "C" __global__ void name(float* y, int writer) {
        SHARED_MEMORY(room);
        __syncthreads();
        if (int(threadIdx.x) == writer) room[0] = 1;
        if (threadIdx.x == 20) y[0] = room[0];
        __syncthreads();
    }
    """
    launch = host.Launch(code, (), "name", (1,), (64,), (np.zeros(1, np.float32), np.int32(writer)), 1)
    report = host.sanitize([launch]).report
    assert ".cu:5 " in report
    assert ".cu:6 " in report


def test_a_race_of_a_warp(host):
    if reason := host.why_no_compiler("thread"):
        pytest.skip(reason)
    code = KERNELS.replace("    __syncwarp();\n    unsigned fragment", "    unsigned fragment")
    arrays = np.zeros((16, 16), np.uint16), np.zeros((16, 8), np.uint16), np.zeros((16, 8), np.float32)
    reports = [
        host.sanitize([host.Launch(text, (), "product_by_ldmatrix", (1,), (32,), arrays, 768)]).report
        for text in (KERNELS, code)
    ]
    assert reports[0] == ""
    assert f".cu:{line_of('load_matrices(fragment', code)} " in reports[1]


@pytest.mark.parametrize(
    ("change", "line"),
    [({"parts": 2}, "if (t == 0) parts[blockIdx.x]"), ({"shared_mem": 252}, "sums[t] = x[")],
)
def test_an_access_beyond_an_array(two_phases, change, line):
    report = two_phases(sanitizer="address", **change).report
    assert "AddressSanitizer: heap-buffer-overflow" in report
    assert f".cu:{line_of(line)}" in report


def test_a_deadlock_under_a_sanitizer(two_phases):
    report = two_phases(TWO_PHASES.replace("< gridDim.x) pause()", "<= gridDim.x) pause()")).report
    assert report.startswith("kernel two_phases: deadlock, block (0, 0, 0): ")
    assert "data race" not in report


def test_what_ran_on_the_stand_in_runs_under_a_sanitizer(cupy, host, adds, stream, module):
    if reason := host.why_no_compiler("thread"):
        pytest.skip(reason)
    y = cupy.zeros(8)
    with stream:
        stream.begin_capture()
        adds(y[2:5], 1)
        graph = stream.end_capture()
    with host.recording() as launches:
        graph.launch(stream)
        adds(y, 10)
        module.get_function("order")((1,), (8,), (cupy.zeros(1, dtype=np.uint32), y.view(np.uint32)[:8]))
    adds(y, 1)  # no longer recorded
    assert [launch.name for launch in launches] == ["add_number", "add_number", "order"]
    results, report = host.sanitize(launches)
    assert report == ""
    np.testing.assert_array_equal(results[0][0], [1, 1, 1])
    np.testing.assert_array_equal(results[1][0], [10, 10, 11, 11, 11, 10, 10, 10])

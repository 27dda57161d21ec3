"""ThreadSanitizer finds no race between the CUDA threads of any plan, and finds each barrier that is taken away.

AddressSanitizer finds no access outside of arrays and shared memory. A plan takes up to a minute: here is one of them,
and a barrier of it; all are in `nox -s thorough`.
"""

import re
from contextlib import nullcontext, suppress
from importlib.resources import files

import numpy as np
import pytest
from xpnn.backends import SGD, Adam, get_backend
from xpnn.backends.cupy import division, full_batch_plan, graph_plan
from xpnn.backends.cupy.full_batch_plan import FullBatchPlan
from xpnn.backends.cupy.graph_plan import GraphPlan
from xpnn.backends.cupy.source import source
from xpnn.backends.testing.problem import training_job

BARRIER = "__syncthreads();"
# What each job goes through: layers of all kinds, tiles with one and more groups of threads, shards.
JOBS = {
    "tensor": {"hidden": (37, 9), "batch_size": 40, "dtype": "float32"},
    "wide": {"hidden": (37, 70, 9), "batch_size": 40, "dtype": "float64", "later_weights": 0},
    "persistent": {"hidden": (20, 7), "batch_size": 200, "dtype": "float32"},
    "small": {"hidden": (9,), "batch_size": 24, "dtype": "float32", "shard_rows": 12, "multiprocessors": 6},
}
# The job in which a file's barriers matter.
FILES = {
    "tensor_tile.cuh": "tensor",
    "scalar_tile.cuh": "wide",
    "later_layers.cuh": "tensor",
    "steps.cu": "tensor",
    "full_batch.cu": "persistent",
    "grid_barrier.cuh": "persistent",
}


thorough = pytest.mark.thorough
every_job = pytest.mark.parametrize(
    "job", [pytest.param(job, marks=[] if job == "small" else thorough) for job in JOBS]
)


def text_of(name):
    return (files("xpnn.backends.cupy.kernels") / name).read_text(encoding="utf-8")


BARRIERS = [
    (name, number)
    for name in FILES
    for number, line in enumerate(text_of(name).splitlines(), start=1)
    if BARRIER in line
]


def without_barrier(text, name, number):
    """A source with its headers, without the barrier in one line of one of them."""
    lines, here = text.splitlines(), ("", 0)
    for k, line in enumerate(lines):
        if match := re.match(r'#line (\d+) "(.*)"', line):
            here = (match[2], int(match[1]))
            continue
        if here == (name, number):
            lines[k] = line.replace(BARRIER, "")
        here = (here[0], here[1] + 1)
    return "\n".join(lines)


@pytest.fixture
def report_of(cupy, make_layers, monkeypatch):
    """`report_of(job)`: what ThreadSanitizer says of two runs of a plan; `job` is a row of JOBS."""
    import host_kernels

    if reason := host_kernels.why_no_compiler("thread"):
        pytest.skip(reason)

    def report(name, sanitizer="thread", *, may_break=False):
        job = JOBS[name]
        monkeypatch.setattr(division, "LATER_WEIGHTS", job.get("later_weights", 1 << 16))
        monkeypatch.setattr(division, "SHARD_ROWS", job.get("shard_rows", 20))
        multiprocessors = 3 if name == "persistent" else job.get("multiprocessors", 12)
        monkeypatch.setattr(cupy.cuda.device, "multiprocessors", multiprocessors)
        backend, generator, batch_size = get_backend("cupy"), np.random.default_rng(1), job["batch_size"]
        count = batch_size if name == "persistent" else batch_size * 3 // 2
        images = generator.integers(0, 256, (count, 20), dtype=np.uint8)
        rows = backend.place(images, generator.integers(0, 5, count), 1 / 255)
        layers = make_layers(backend, (20, *job["hidden"], 5), dtype=job["dtype"])
        rule = Adam(1e-3) if name in ("tensor", "small") else SGD(0.1, momentum=0.9)
        plan = backend.compile(training_job(layers, rows, optimizer=rule, batch_size=batch_size, l2=0.01))
        assert type(plan) is (FullBatchPlan if name == "persistent" else GraphPlan)
        assert name == "persistent" or "update" in {node.kernel.name for node in plan._nodes}
        few = generator.permutation(count)[:50]  # of the persistent plan, one of three blocks has no rows
        broken = suppress(ValueError) if may_break else nullcontext()  # a count of NaN
        with host_kernels.recording() as launches, broken:
            try:
                if name == "persistent":
                    plan.run(few)
                    plan.run_epochs(2)
                else:
                    plan.run(generator.permutation(count))
            except host_kernels.KernelFault as fault:  # without a barrier it may not even run
                return str(fault)
        assert launches
        return host_kernels.sanitize(launches, sanitizer).report

    return report


@every_job
def test_no_race(report_of, job):
    assert report_of(job) == ""


@every_job
def test_no_access_outside_of_memory(report_of, job):
    assert report_of(job, "address") == ""


@pytest.fixture
def remove(monkeypatch):
    """`remove(name, number)`: the kernels lose a barrier."""

    def remove_from_sources(name, number):
        for module in (graph_plan, full_batch_plan):
            monkeypatch.setattr(module, "source", lambda kernels: without_barrier(source(kernels), name, number))

    return remove_from_sources


@pytest.mark.parametrize(("name", "number"), BARRIERS, ids=lambda value: str(value))
@thorough
def test_every_missing_barrier_is_found(report_of, remove, name, number):
    remove(name, number)
    report = report_of(FILES[name], may_break=True)
    assert "data race" in report or "threads wait" in report


@pytest.mark.parametrize(
    ("name", "job"),
    [("tensor_tile.cuh", "small"), pytest.param("full_batch.cu", "persistent", marks=thorough)],
)
def test_a_missing_barrier_is_found_at_its_lines(report_of, remove, name, job):
    """The first barrier of a file; a race names lines of the sources."""
    remove(*next(barrier for barrier in BARRIERS if barrier[0] == name))
    assert re.search(r"data race[\s\S]*\w+\.cuh?:\d+", report_of(job, may_break=True))

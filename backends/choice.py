"""The choice of `auto`: which backend is expected to finish a training first, and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np

from .base import Backend
from .job_outline import Estimate, JobOutline, Probe
from .numpy.backend import NumPyBackend
from .plan import Layer, TrainingJob
from .threads import one_blas_thread

PROBE_SECONDS = 0.004  # a probe is repeated for so long, and its shortest time counts
PROBE_ROWS = 512  # of a probe, or a batch of at most NumPy's tile; fewer where they are more work than this:
PROBE_MULTIPLY_ADDS = 2e8
LOOP, LOOP_SECONDS = 10_000, 0.0006  # turns of a loop in Python, and what they take where Numba's times were measured


def measure(job: JobOutline) -> Probe:
    """Take some steps of the job on NumPy, on made-up rows, and run a loop in Python: some 30 ms in all."""
    rows = min(job.rows, max(PROBE_ROWS, min(job.batch_size, NumPyBackend.tile_rows)))
    rows = max(1, min(rows, int(PROBE_MULTIPLY_ADDS / job.multiply_adds_of_row)))
    batch_size = min(job.batch_size, rows)
    rows -= rows % batch_size
    layers = [
        Layer(np.full((a, b), 0.01, job.dtype), np.zeros(b, job.dtype), job.activation) for a, b in pairwise(job.sizes)
    ]
    layers[-1].activation = "identity"
    backend = NumPyBackend()
    placed = backend.place(np.ones((rows, job.sizes[0]), job.images_dtype), np.zeros(rows, np.int64), 1 / 255)
    plan = backend.compile(TrainingJob(layers, job.optimizer, placed, batch_size))
    order = np.arange(rows) if job.batch_size < job.rows else None
    with np.errstate(all="ignore"):
        seconds = _shortest(lambda: plan.run(order))
        with one_blas_thread():
            alone = _shortest(lambda: plan.run(order))
    epochs = job.rows_in_all / rows
    return Probe(seconds * epochs, max(_shortest(_loop) / LOOP_SECONDS, 1.0), alone * epochs)


def expected(job: JobOutline, kinds: Mapping[str, type[Backend]]) -> dict[str, Estimate]:
    """Return what the backends expect of the job, the fastest first; those that cannot tell are left out.

    A backend that would have to compile for longer than NumPy takes for the whole job can never be the first.
    """
    probe = measure(job)
    told = {name: kind.estimate(job, probe) for name, kind in kinds.items()}
    known = [(name, estimate) for name, estimate in told.items() if estimate is not None]
    return dict(sorted(known, key=lambda each: each[1].total))


def _shortest(action: Callable[[], object]) -> float:
    """Return the shortest time of `action` in seconds, of two runs at least."""
    began, times = time.perf_counter(), list[float]()
    while len(times) < 2 or time.perf_counter() - began < PROBE_SECONDS:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def _loop() -> int:
    """Keep Python busy; what the compiler takes goes with it."""
    total = 0
    for k in range(LOOP):
        total += k * k
    return total

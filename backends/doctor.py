"""Report of `xpnn backends`: versions, hardware, BLAS, GPUs, and a short training run on every backend."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_info

from .array_api import ArrayAPIBackend
from .base import Backend
from .errors import BackendUnavailable
from .machine import hardware, versions
from .optimizers import SGD
from .plan import Layer, TrainingJob
from .registry import get_backend, registered_backends
from .step_options import StepOptions

TOLERANCE = 1e-4  # of the trial in float32 against float64; a right backend is off by about 1e-7


@dataclass(frozen=True)
class BackendReport:
    """Result of the trial of one backend.

    Attributes:
        name: its name.
        status: "ok", "unavailable", or "wrong" if the trial failed or deviates by more than `TOLERANCE`.
        reason: why it is not "ok"; empty otherwise.
        error: maximum relative deviation from the generic float64 result; None without a result.
        seconds: time to start and run the trial, including compilation.
    """

    name: str
    status: str
    reason: str
    error: float | None
    seconds: float


@dataclass(frozen=True)
class Report:
    """The whole report; `dataclasses.asdict` makes it JSON.

    Attributes:
        versions: of Python and packages; None for a package that is not installed.
        hardware: system, processor, and number of usable cores.
        blas: NumPy's BLAS and its number of threads.
        gpus: devices visible to CuPy.
        backends: reports in the order of registration.
        auto: backend chosen by "auto".
        auto_reason: reason of the choice.
    """

    versions: dict[str, str | None]
    hardware: dict[str, str | int]
    blas: str
    gpus: tuple[str, ...]
    backends: tuple[BackendReport, ...]
    auto: str
    auto_reason: str


def examine() -> Report:
    """Examine the machine and try every registered backend; failures are reported, not raised."""
    backends = tuple(try_backend(name) for name in registered_backends())
    started = {each.name for each in backends if each.status != "unavailable"}
    cupy: Any = sys.modules.get("cupy") if "cupy" in started else None
    software = versions() | {"cupy": None if cupy is None else str(cupy.__version__)}
    gpus = () if cupy is None else _gpus(cupy.cuda.runtime)
    chosen = get_backend("auto")
    return Report(software, hardware(), _blas(), gpus, backends, chosen.name, chosen.reason)


def try_backend(name: str) -> BackendReport:
    """Start a backend, train for a few steps, and compare with the generic float64 result."""
    start = time.perf_counter()
    status, reason, error = "ok", "", None
    try:
        got = trial(get_backend(name), "float32")
        expected = trial(ArrayAPIBackend(np), "float64")
        deviation = float(np.max(np.abs(got - expected) / np.maximum(np.abs(expected), 1)))
        error = deviation if math.isfinite(deviation) else None
        if not deviation <= TOLERANCE:  # NaN too
            status, reason = "wrong", f"its trial run deviates by {deviation:.1e}, at most {TOLERANCE:.0e} is rounding"
    except BackendUnavailable as unavailable:
        status, reason = "unavailable", str(unavailable)
    except Exception as failure:
        status, reason = "wrong", f"its trial run failed: {type(failure).__name__}: {' '.join(str(failure).split())}"
    return BackendReport(name, status, reason, error, time.perf_counter() - start)


def trial(backend: Backend, dtype: str) -> npt.NDArray[np.float64]:
    """Train a fixed 5-4-3 network for three steps, and return sums, weights and biases as one vector, (numbers,)."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (24, 5), dtype=np.uint8)  # (samples, features)
    labels = np.argmax(images[:, :3], axis=1).astype(np.int64)  # (samples,)
    weights = [generator.normal(0, 1, shape).astype(dtype) for shape in ((5, 4), (4, 3))]
    biases = [np.full(4, 0.5, dtype), np.zeros(3, dtype)]  # positive, so that every hidden unit takes part
    parameters = zip(map(backend.put, weights), map(backend.put, biases), ("relu", "identity"), strict=True)
    layers = [Layer(*each) for each in parameters]
    rows = backend.place(images, labels, 1 / 255)
    plan = backend.compile(
        TrainingJob(layers, rows, StepOptions(optimizer=SGD(0.1, momentum=0.9), batch_size=8, l2=0.01))
    )
    sums = [*plan.run(generator.permutation(24)), *backend.evaluate(layers, rows)]
    trained = [backend.to_numpy(array).ravel() for layer in layers for array in (layer.weight, layer.bias)]
    return np.concatenate([np.array(sums), *trained]).astype(np.float64)


def _gpus(runtime: Any) -> tuple[str, ...]:
    """Return name, memory and compute capability of each device, and the driver's CUDA version."""
    try:
        driver = runtime.driverGetVersion()  # 1000 major + 10 minor
        devices = [runtime.getDeviceProperties(number) for number in range(runtime.getDeviceCount())]
    except Exception as error:  # of a device that the trial run has lost
        return (f"cannot be queried: {' '.join(str(error).split())}",)
    return tuple(
        f"{of['name'].decode()}, {of['totalGlobalMem'] / 2**30:.0f} GiB, "
        f"compute capability {of['major']}.{of['minor']}, driver for CUDA {driver // 1000}.{driver % 1000 // 10}"
        for of in devices
    )


def _blas() -> str:
    """Describe NumPy's BLAS, ignoring others in the process such as SciPy's."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    pools.sort(key=lambda pool: "numpy" not in pool["filepath"])
    return "unknown" if not pools else "{internal_api} {version}, {num_threads} threads".format_map(pools[0])

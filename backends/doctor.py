"""What `xpnn backends` tells: this Python and its processor, the GPU's software, and a real run on every backend."""

from __future__ import annotations

import importlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import array_api_compat.numpy as compat_numpy
import numpy as np
import numpy.typing as npt

from .array_api import ArrayAPIBackend
from .base import Backend
from .cupy.install import TOO_OLD, device_problem, driver_cuda, fits, install_problem, installed_cupy
from .errors import BackendUnavailable
from .machine import hardware, versions
from .optimizers import SGD
from .plan import Layer, TrainingJob
from .registry import get_backend, registered_backends

TOLERANCE = 1e-4  # of the trial in float32 against float64; a right backend is off by about 1e-7
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Processor:
    """The processor; `physical_cores` is None where the system does not tell it, the others count hyperthreads."""

    system: str
    model: str
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int  # that this process may run on


@dataclass(frozen=True)
class Blas:
    """The BLAS that NumPy was built with; `threads` is None without the package threadpoolctl."""

    name: str | None
    version: str | None
    threads: int | None
    thread_variables: dict[str, str | None]  # environment variable -> its value


@dataclass(frozen=True)
class Device:
    """A CUDA device; memory in bytes, compute capability as "9.0"; `problem` says what mends it if it is too old."""

    name: str
    memory: int
    compute_capability: str
    problem: str = ""


@dataclass(frozen=True)
class Cuda:
    """CuPy and the NVIDIA driver; `fits` is None where it cannot be told, `problem` has the line that mends it."""

    packages: dict[str, str]  # installed package of CuPy -> version; more than one is a conflict
    driver: str | None  # the newest CUDA that the driver offers, as "13.0"; None without a driver
    fits: bool | None
    problem: str
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class BackendReport:
    """One backend after a trial on it.

    Attributes:
        name: what it is chosen by.
        status: "ok"; "unavailable", it did not start; or "wrong", it started and the trial failed.
        reason: why it is not ok, else empty.
        error: largest deviation of the trial from the generic float64 result, relative; None if it gave no number.
        seconds: time of the start and the trial, compilation included.
    """

    name: str
    status: str
    reason: str
    error: float | None
    seconds: float


@dataclass(frozen=True)
class Report:
    """All of it; `dataclasses.asdict` makes it JSON. `auto` is what "auto" takes here, None if nothing works."""

    versions: dict[str, str | None]
    processor: Processor
    blas: Blas
    cuda: Cuda
    backends: tuple[BackendReport, ...]
    auto: str | None
    auto_reason: str


def examine() -> Report:
    """Examine the machine and try every registered backend; one that is broken is stated and breaks nothing."""
    backends = tuple(try_backend(name) for name in registered_backends())
    started = {each.name for each in backends if each.status != "unavailable"}
    too_old = any(each.name == "cupy" and TOO_OLD in each.reason for each in backends)
    packages, driver = installed_cupy(), driver_cuda()
    cuda = Cuda(
        packages=packages,
        driver=None if driver is None else f"{driver[0]}.{driver[1]}",
        fits=fits(next(iter(packages)), driver) if len(packages) == 1 else None,
        problem=install_problem(packages, driver) if packages else "",
        devices=_attempt(lambda: _devices(packages), ()) if "cupy" in started or too_old else (),
    )
    try:
        chosen = get_backend("auto")
        auto, auto_reason = chosen.name, chosen.reason
    except Exception as error:
        auto, auto_reason = None, f"{type(error).__name__}: {error}"
    software = versions() | {"cupy": next(iter(packages.values()), None)}
    return Report(software, _processor(), _blas(), cuda, backends, auto, auto_reason)


def try_backend(name: str) -> BackendReport:
    """Start a registered backend, train on it for a few steps, and compare with the generic float64 result."""
    start = time.perf_counter()
    status, reason, error = "ok", "", None
    try:
        got = trial(get_backend(name), "float32")
        expected = trial(ArrayAPIBackend(compat_numpy), "float64")
        deviation = float(np.max(np.abs(got - expected) / np.maximum(np.abs(expected), 1)))
        error = deviation if math.isfinite(deviation) else None
        if not deviation <= TOLERANCE:  # NaN too
            status, reason = "wrong", f"its trial run is off by {deviation:.1e}, at most {TOLERANCE:.0e} is rounding"
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
    plan = backend.compile(TrainingJob(layers, SGD(0.1, momentum=0.9), rows, batch_size=8, l2=0.01))
    sums = [*plan.run(generator.permutation(24)), *backend.evaluate(layers, rows)]
    trained = [backend.to_numpy(array).ravel() for layer in layers for array in (layer.weight, layer.bias)]
    return np.concatenate([np.array(sums), *trained]).astype(np.float64)


def _devices(packages: dict[str, str]) -> tuple[Device, ...]:
    """The devices that CuPy can see."""
    runtime = importlib.import_module("cupy").cuda.runtime
    built_for = _attempt(lambda: runtime.runtimeGetVersion() // 1000, 0)
    found = []
    for index in range(runtime.getDeviceCount()):
        of = runtime.getDeviceProperties(index)
        name, capability = of["name"].decode(), (int(of["major"]), int(of["minor"]))
        problem = device_problem(name, capability, built_for, packages)
        found.append(Device(name, int(of["totalGlobalMem"]), f"{capability[0]}.{capability[1]}", problem))
    return tuple(found)


def _processor() -> Processor:
    told = hardware()
    cores = _attempt(_physical_cores, None)
    return Processor(str(told["system"]), str(told["processor"]), cores, os.cpu_count(), int(told["cores"]))


def _physical_cores() -> int | None:
    """Pairs of package and core in Linux's list of processors; None where it has none."""
    blocks = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")
    ids = {tuple(row for row in block.splitlines() if row.startswith(("physical id", "core id"))) for block in blocks}
    return sum(len(pair) == 2 for pair in ids) or None


def _blas() -> Blas:
    config: Any = np.show_config(mode="dicts")
    built = _attempt(lambda: dict(config["Build Dependencies"]["blas"]), {})
    variables = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    return Blas(built.get("name"), built.get("version"), _attempt(_blas_threads, None), variables)


def _blas_threads() -> int | None:
    """Threads of the BLAS that NumPy has loaded, as threadpoolctl tells them."""
    pools = importlib.import_module("threadpoolctl").threadpool_info()
    threads = {"numpy" in pool["filepath"]: pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}
    return threads.get(True, threads.get(False))


def _attempt(question: Callable[[], Any], otherwise: Any) -> Any:
    """The answer, or `otherwise` where the system does not give one."""
    try:
        return question()
    except Exception:
        return otherwise

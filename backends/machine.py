"""Versions of packages, and hardware, for reports of measurements."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("xpnn", "numpy", "scipy", "numba", "array-api-compat", "safetensors")


def versions() -> dict[str, str | None]:
    """Return the versions of Python, xpnn and its numerical packages; None for those not installed."""
    return {"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}}


def hardware() -> dict[str, str | int]:
    """Return system, processor model, and number of usable cores."""
    return {"system": f"{platform.system()} {platform.machine()}", "processor": _processor(), "cores": usable_cores()}


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(usable_core_numbers())


def usable_core_numbers() -> set[int]:
    """Return the indices of the cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def even_cores(cores: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return the number of cores, fastest first, among which equal shares of the work are done soonest.

    With slow cores among them, the slowest sets the pace: of an Apple processor the performance cores are taken, and
    on Linux as many cores as make the most of the capacities that it states for ARM. An efficiency core of Intel's
    multiplies about as fast as a hyperthread of a performance core, so all of those are taken.
    """
    numbers = usable_core_numbers()
    if platform.system() == "Darwin":
        return min(len(numbers), _performance_cores() or len(numbers))
    try:
        texts = [(cores / f"cpu{number}" / "cpu_capacity").read_text(encoding="ascii") for number in numbers]
        capacities = sorted(map(int, texts), reverse=True)
    except (OSError, ValueError):  # not ARM, or not Linux
        return len(numbers)
    return max(range(1, len(capacities) + 1), key=lambda count: count * capacities[count - 1])


def memory_bytes() -> float:
    """Return the memory of the machine in bytes; infinite if unknown."""
    if not hasattr(os, "sysconf"):  # Windows
        return math.inf
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        return math.inf


def version_of(package: str) -> str | None:
    """Return an installed package's version; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _performance_cores() -> int:
    """Return the number of performance cores as macOS reports it; 0 if it does not."""
    count, size = ctypes.c_int(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    name = b"hw.perflevel0.logicalcpu"
    ctypes.CDLL(None).sysctlbyname(name, ctypes.byref(count), ctypes.byref(size), None, ctypes.c_size_t(0))
    return count.value


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's model name; on ARM, macOS and Windows LLVM's name of it, such as "apple-m1"."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    if names:
        return names[0]
    with suppress(ImportError, OSError):
        from llvmlite.binding import get_host_cpu_name

        if (name := get_host_cpu_name()) != "generic":
            return str(name)
    return platform.processor() or platform.machine()

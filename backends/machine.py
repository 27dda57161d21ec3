"""Versions of packages, and hardware, for reports of measurements."""

from __future__ import annotations

import math
import os
import platform
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


def memory_bytes() -> float:
    """Return the memory of the machine in bytes; infinite if unknown."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not on Windows
        return math.inf


def version_of(package: str) -> str | None:
    """Return an installed package's version; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's model name, as precisely as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

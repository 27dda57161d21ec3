"""Which GPUs a figure was measured on, as the driver's own tool tells it; no CUDA context is made."""

from __future__ import annotations

import subprocess

from ..backends.cupy_install import driver_cuda

FIELDS = ("name", "memory.total", "compute_cap", "driver_version", "clocks.max.sm", "power.limit")


def gpus() -> list[dict[str, str]]:
    """Return each GPU's name, memory, compute capability, driver, the CUDA it offers, and limits; empty without one.

    Source: `nvidia-smi --help-query-gpu`.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    driver = driver_cuda()
    cuda = "" if driver is None else ".".join(map(str, driver))
    rows = ([value.strip() for value in line.split(",")] for line in answer.splitlines() if line.strip())
    return [{**dict(zip(FIELDS, row, strict=False)), "cuda": cuda} for row in rows]

"""Which GPUs a figure was measured on, as the driver's own tool tells it; and the error where there is none."""

from __future__ import annotations

import subprocess

from ...backends import MissingDependency

FIELDS = ("name", "memory.total", "compute_cap", "driver_version", "clocks.max.sm", "power.limit")


def no_device(library: str, error: Exception, mend: str) -> MissingDependency:
    """Return the error of a peer whose library, named with its version, finds no device."""
    said = " ".join([type(error).__name__, *str(error).split()])[:200]
    return MissingDependency(f"it needs a CUDA device, and {library} has none ({said}): check nvidia-smi, and {mend}")


def gpus() -> list[dict[str, str]]:
    """Return each GPU's name, memory, compute capability, driver, and limits; empty without one.

    Source: `nvidia-smi --help-query-gpu`.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = ([value.strip() for value in line.split(",")] for line in answer.splitlines() if line.strip())
    return [dict(zip(FIELDS, row, strict=False)) for row in rows]

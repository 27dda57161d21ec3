"""Results file of a benchmark run, written after each workload."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ...backends import ConfigError
from ...backends.machine import hardware, version_of, versions
from ...nn.files.atomic import write_atomically

FORMAT = 1
GPU_FIELDS = ("name", "memory.total", "compute_cap", "driver_version", "clocks.max.sm", "power.limit")
PEER_PACKAGES = ("scikit-learn", "torch", "triton", "jax", "jaxlib", "optax", "cupy-cuda12x", "cupy-cuda13x", "mpi4py")
# Of the contestants; and the operations a second of a large matrix product, that each one's are compared with.
BEGINNING: dict[str, Any] = {"missing": {}, "thread_pools": {}, "load_seconds": {}, "product_rate": None}
ALIKE = ("options", "hardware", "threads", "versions", "commit")  # what must not differ in a resumed run


class Results:
    """Results of a benchmark run and their file.

    Attributes:
        path: the file, JSON.
        content: its content.
    """

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content

    @classmethod
    def new(cls, path: Path, *, options: Mapping[str, Any], threads: int) -> Results:
        """Begin a run, whose file is written with the first workload.

        Args:
            path: the file, which must not exist.
            options: options of the run.
            threads: processors and threads of each contestant.

        Raises:
            ConfigError: the file exists.
        """
        if path.exists():
            raise ConfigError(f"{path} is there already: choose another --out, or go on with it by --resume {path}")
        return cls(path, {**_header(options, threads), **BEGINNING, "workloads": {}})

    @classmethod
    def resume(cls, path: Path, *, options: Mapping[str, Any], threads: int) -> Results:
        """Resume an earlier run.

        Raises:
            ConfigError: the file cannot be read, or its options or circumstances differ.
        """
        content, now = read(path), _header(options, threads)
        for key in ALIKE:
            if content[key] != now[key]:
                raise ConfigError(
                    f"{path} was measured under other circumstances: {_difference(key, content[key], now[key])}; "
                    "begin a new file with --out"
                )
        return cls(path, content)

    def add(self, workload: Mapping[str, Any], contestants: Mapping[str, Any], **sizes: int) -> None:
        """Add the results of a workload, and write the file.

        Args:
            workload: result of `Workload.to_json`.
            contestants: result of `measure`.
            sizes: numbers of training and test rows.
        """
        self.content["workloads"][workload["name"]] = {"workload": workload, **sizes, "contestants": contestants}
        write(self.path, self.content)

    @property
    def done(self) -> set[str]:
        """Names of the workloads in the file."""
        return set(self.content["workloads"])


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write results as JSON."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def read(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ConfigError: it cannot be read, or is not a results file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}; name a file that `xpnn bench` has written") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"{path} does not hold results of format {FORMAT}; name one that `xpnn bench` has written")
    return content


def commit(folder: Path | None = None) -> str | None:
    """Return the commit of the clone that contains a folder (by default this file's), with `-dirty` if changed.

    None outside a clone of xpnn.
    """
    folder = folder or Path(__file__).resolve().parent
    top = _said("git", "-C", str(folder), "rev-parse", "--show-toplevel")
    if top is None or not (Path(top) / "bench" / "compare" / Path(__file__).name).exists():
        return None
    return _said("git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")


def gpus() -> list[dict[str, str]]:
    """Return name, memory, compute capability, driver and limits of each GPU.

    Source: `nvidia-smi --help-query-gpu`.
    """
    answer = _said("nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader") or ""
    rows = ([value.strip() for value in line.split(",")] for line in answer.splitlines() if line.strip())
    return [dict(zip(GPU_FIELDS, row, strict=False)) for row in rows]


def circumstances(program: str) -> dict[str, Any]:
    """Return command, date, hardware, versions and commit of a measurement.

    Args:
        program: command without its arguments.
    """
    peers = {name: found for name in PEER_PACKAGES if (found := version_of(name)) is not None}
    devices = gpus()
    return {
        "command": f"{program} {shlex.join(sys.argv[1:])}",
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "hardware": {**hardware(), **({"gpus": devices} if devices else {})},
        "versions": {**versions(), **peers},
        "commit": commit(),
    }


def _header(options: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Return the header of the file."""
    return {"format": FORMAT, "options": dict(options), "threads": threads, **circumstances("xpnn")}


def _difference(key: str, before: Any, now: Any) -> str:
    """Describe the difference of two values, recursively for tables."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{key} was {before}, is {now}"
    rows = sorted(row for row in before.keys() | now.keys() if before.get(row) != now.get(row))
    return ", ".join(f"{key}.{row} was {before.get(row)}, is {now.get(row)}" for row in rows)


def _said(*command: str) -> str | None:
    """Return the output of a program, or None if it is empty or the program fails or is missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None

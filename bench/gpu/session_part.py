"""Part of `bench/gpu/session.sh`: a command with a time limit, and its row in a file.

It does not import xpnn, so that import errors are reported as rows, too.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

TAIL = 6000  # characters of the output that the row has


def run_part(name: str, command: list[str], *, seconds: float, until: float, log: Path) -> dict[str, Any]:
    """Run a command and its children with a time limit.

    Args:
        name: name of the part.
        command: command and arguments.
        seconds: time limit.
        until: deadline in seconds since 1970.
        log: file to append the output to.

    Returns:
        The row: outcome, exit code, seconds and the end of the output.
    """
    row: dict[str, Any] = {"part": name, "command": shlex.join(command)}
    if absent := missing_program(command):
        return {**row, "outcome": f"skipped: {absent} is not there"}
    limit = min(seconds, until - time.time())
    if limit <= 0:
        return {**row, "outcome": "skipped: no time is left"}
    with log.open("ab") as output:
        output.write(f"\n===== {name}: {shlex.join(command)}\n".encode())
        output.flush()
        begin, started = output.tell(), time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            os.killpg(process.pid, signal.SIGKILL)  # the processes that it has started, too
            process.wait()
    outcome = "passed" if code == 0 else f"stopped after {limit:.0f} s" if code is None else f"failed: exit code {code}"
    text = log.read_bytes()[begin:].decode(errors="replace")
    return {**row, "outcome": outcome, "seconds": round(time.perf_counter() - started, 2), "tail": text[-TAIL:]}


def missing_program(command: list[str]) -> str:
    """Return the program, or the package run by `python -m`, if it is not installed; else an empty string.

    Python is the running one, as everywhere in a session. A missing module of a package is left to the command.
    """
    if shutil.which(command[0]) is None:
        return command[0]
    package = command[2].partition(".")[0] if command[1:2] == ["-m"] and len(command) > 2 else ""
    return package if package and find_spec(package) is None else ""


def last_line(text: str) -> str:
    """Return the last non-blank line of an output, or an empty string."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A JSON file; the row is appended.")
@click.option("--name", required=True)
@click.option("--seconds", type=float, required=True, help="The part's limit.")
@click.option("--until", type=float, default=float("inf"), help="The end of the whole step, seconds since 1970.")
@click.argument("command", nargs=-1, required=True)
def main(out: Path, name: str, seconds: float, until: float, command: tuple[str, ...]) -> None:
    """Run COMMAND; exit 1 if it failed or took too long, 0 if it passed or was skipped."""
    out.parent.mkdir(parents=True, exist_ok=True)
    row = run_part(name, list(command), seconds=seconds, until=until, log=out.with_suffix(".log"))
    rows = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    out.write_text(json.dumps([*rows, row], indent=1) + "\n", encoding="utf-8")
    is_failure = not row["outcome"].startswith(("passed", "skipped"))
    took = f" ({row['seconds']} s)" if "seconds" in row else ""
    said = last_line(row["tail"]) if is_failure else ""
    click.echo(f"{name}: {row['outcome']}{took}" + (f": {said}" if said else ""))
    sys.exit(int(is_failure))


if __name__ == "__main__":
    main()

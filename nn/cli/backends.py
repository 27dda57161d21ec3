"""`xpnn backends`."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict

import rich_click as click

from ...backends.doctor import Report, examine
from .options import examples, json_option
from .output import answer, say

WIDTH = 80


@click.command(epilog=examples("xpnn backends", "xpnn backends --json"))
@json_option
def backends(as_json: bool) -> None:
    """Report versions, processor, BLAS and GPUs, and test every backend with training steps.

    Exit code 1 if a backend computes wrong results; a backend that is not installed is not an error.
    """
    report = examine()
    if as_json:
        answer(json.dumps(asdict(report)))
    else:
        say("\n".join(_lines(report)))
    sys.exit(1 if any(backend.status == "wrong" for backend in report.backends) else 0)


def _lines(report: Report) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "machine"
    yield from _entry("system", str(report.hardware["system"]))
    yield from _entry("processor", f"{report.hardware['processor']}, {report.hardware['cores']} usable cores")
    yield from _entry("BLAS", report.blas)
    for gpu in report.gpus:
        yield from _entry("GPU", gpu)
    yield "versions"
    for name, version in report.versions.items():
        yield from _entry(name, version or "not installed")
    yield "backends, each after a training step"
    for backend in report.backends:
        detail = f"ok, started and trained in {backend.seconds:.2f} s, off by {backend.error or 0:.0e}"
        yield from _entry(backend.name, detail if backend.status == "ok" else f"{backend.status}: {backend.reason}")
    chosen, *_ = report.auto_reason.split("; ")  # why others are passed over stands above
    yield from _entry("auto", chosen.removeprefix("auto chose "))


def _entry(name: str, text: str) -> list[str]:
    """Return an entry, wrapped to the width of the terminal."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"  {name:<18}", subsequent_indent=" " * 20, break_on_hyphens=False
    )

"""Table of epoch times in the README, from the newest results: `python -m xpnn.bench.compare.readme`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ...backends import ConfigError
from ...nn.cli.output import note
from ..program import Program
from .contestants import contestant_names, title_of
from .report import cell, took_part
from .results_file import read
from .workloads import WORKLOADS

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
SHOWN_VERSIONS = {"numpy": "NumPy", "numba": "Numba", "scikit-learn": "scikit-learn", "torch": "PyTorch", "jax": "JAX"}


def newest(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return path and content of the newest complete run of the fixed workloads in a folder.

    Raises:
        ConfigError: there is none.
    """
    runs = [(path, read(path)) for path in sorted(folder.glob("*.json"))]
    whole = [
        (path, content)
        for path, content in runs
        if content["options"]["kind"] == "workloads" and set(WORKLOADS) <= set(content["workloads"])
    ]
    if not whole:
        raise ConfigError(
            f"{folder} holds no run of the fixed workloads; write one with `xpnn bench --out {folder}/...`"
        )
    return max(whole, key=lambda run: datetime.fromisoformat(run[1]["date"]))


def table(content: Mapping[str, Any], link: str) -> str:
    """Return the Markdown table of a results file, with versions, hardware and a link to the file."""
    names = [name for name in contestant_names() if name in took_part(content)]
    lines = ["| median milliseconds | " + " | ".join(map(title_of, names)) + " |", "|---" * (len(names) + 1) + "|"]
    marked = False
    for name in (name for name in WORKLOADS if name in content["workloads"]):
        entry = content["workloads"][name]
        marked |= any(figures.get("mark") for figures in entry["contestants"].values())
        cells = (cell(entry["contestants"], each).replace("*", "\\*") for each in names)
        lines.append(f"| {name}: {entry['workload']['summary']} | " + " | ".join(cells) + " |")
    note = " \\* did not reach the others' accuracy or loss." if marked else ""
    versions = content["versions"]
    software = ", ".join(f"{title} {versions[name]}" for name, title in SHOWN_VERSIONS.items() if versions.get(name))
    day = datetime.fromisoformat(content["date"])
    return "\n".join(
        [
            *lines,
            "",
            f"Medians of {content['options']['epochs']} epochs on 60,000 rows (predict: 10,000) in float32, "
            f"interleaved, and in brackets their ratio to the fastest peer's.{note} {day.day} {day:%B %Y}, "
            f"{content['hardware']['processor']}, {content['threads']} threads; {software} ([{link}]({link})).",
        ]
    )


def rewritten(page: str, text: str) -> str:
    """Return the page with `text` between its markers.

    Raises:
        ConfigError: the markers are missing, repeated or out of order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ConfigError(f"the page must have {BEGIN} once and {END} once after it: put them where the table belongs")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


@click.command(cls=Program)
@click.option("--readme", type=click.Path(exists=True, path_type=Path), default=Path("README.md"), show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"), show_default=True)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the page is not up to date.")
def main(readme: Path, results: Path, check: bool) -> None:
    """Update the README with the newest run."""
    path, content = newest(results)
    page = readme.read_text(encoding="utf-8")
    wanted = rewritten(page, table(content, path.as_posix()))
    if check:
        if page != wanted:
            note(f"{readme} is not up to date: run `python -m xpnn.bench.compare.readme`")
        sys.exit(page != wanted)
    readme.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()

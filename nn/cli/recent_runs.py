"""The run folders below `runs`, where `xpnn train` puts them."""

from __future__ import annotations

from pathlib import Path

from ..files.plain_text import is_plain

RUNS = Path("runs")


def recent_runs(folder: Path = RUNS) -> list[Path]:
    """Return the folders that hold a run, the one that began last first."""
    found = []
    try:
        for path in folder.iterdir():
            config = path / "config.json"
            if is_plain(path.name) and config.is_file():
                found.append((config.stat().st_mtime, path))
    except OSError:  # there is none, or it may not be looked into
        return []
    return [path for _, path in sorted(found, reverse=True)]

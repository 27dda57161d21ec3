"""A path that does not exist, and the one beside it that was probably meant."""

from __future__ import annotations

import os
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path

from .plain_text import is_plain

LIKE = 0.6  # least likeness of two names, from 0 to 1
LOOKED_AT = 10_000  # names of a folder


def did_you_mean(path: str | os.PathLike[str]) -> str:
    """Return `; did you mean runs/quickstart?` for the end of a message, or nothing where nothing is near."""
    near = nearest_path(Path(path))
    return "" if near is None else f"; did you mean {near}?"


def nearest_path(path: Path) -> Path | None:
    """Return the path whose first wrong part is replaced by the nearest name in its folder; None if none is near.

    A longer name that begins as the wrong one does is near, too: `runs/quickstart` finds `runs/quickstart-20261121`,
    and of several the last by name, which is the newest run.
    """
    try:
        folder, name, rest = _first_missing(path)
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, LOOKED_AT)]
    except (OSError, ValueError):  # no such folder, no right to look into it, or a zero byte in the name
        return None
    if not name or name in names:  # it is there, but leads nowhere
        return None
    known = [(_likeness(name, other), other) for other in names if is_plain(other) and not other.startswith(".")]
    likeness, best = max(known, default=(0.0, ""))
    if likeness < LIKE:
        return None
    whole = (folder / best).joinpath(*rest)
    return whole if whole.exists() else nearest_path(whole) or folder / best


def _first_missing(path: Path) -> tuple[Path, str, tuple[str, ...]]:
    """Return the folder that exists, the name that is missing in it, and the parts after that."""
    parts = path.parts
    for k in range(len(parts)):
        if not Path(*parts[: k + 1]).exists():
            return Path(*parts[:k]), parts[k], parts[k + 1 :]
    return path, "", ()


def _likeness(name: str, other: str) -> float:
    """Return how like two names are, from 0 to 1, upper and lower case being the same."""
    name, other = name.casefold(), other.casefold()
    beginning = other[: len(name)] if len(name) >= 4 else other  # all short names begin like something
    return max(SequenceMatcher(None, name, text).ratio() for text in (other, beginning))

"""Table lookup with suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from .errors import ConfigError

Value = TypeVar("Value")


def look_up(kind: str, name: str, table: Mapping[str, Value]) -> Value:
    """Return `table[name]`.

    Raises:
        ConfigError: there is no such row; the message lists the rows and suggests the nearest.
    """
    try:
        return table[name]
    except (KeyError, TypeError):
        raise ConfigError(
            f"unknown {kind} {name!r}{did_you_mean(name, table)}: choose one of {', '.join(table)}"
        ) from None


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """Return a question for the name that is most similar, in upper or lower case; empty if none is."""
    by_lower = {each.strip().lower(): each for each in names}
    near = difflib.get_close_matches(str(name).strip().lower(), by_lower, n=1, cutoff=0.7)
    return f" (did you mean {by_lower[near[0]]!r:.80}?)" if near else ""

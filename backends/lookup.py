"""Table lookup with suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
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
        near = difflib.get_close_matches(str(name), table, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise ConfigError(f"unknown {kind} {name!r}{hint} choose one of {', '.join(table)}") from None

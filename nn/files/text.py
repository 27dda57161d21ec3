"""Untrusted text: strict JSON, text safe for terminals, and names quoted in messages."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # what a terminal obeys, and what no file can hold
LONGEST = 400  # characters of a reason
QUOTED = r"""(?<!\w)(?:'[^']*'|"[^"]*")(?!\w)"""


def is_plain(text: str) -> bool:
    """Return whether text is free of control characters and encodable."""
    return UNPRINTABLE.search(text) is None


def reason_of(error: Exception) -> str:
    """Format the reason of a rejected file as a short line, which may quote the file."""
    text = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return printable(text)[:LONGEST]


def printable(text: str) -> str:
    """Replace control characters by question marks."""
    return UNPRINTABLE.sub("?", text)


def listed(names: Sequence[str]) -> str:
    """Quote and join names, the first six of them, for a message."""
    return ", ".join(f"{printable(name)!r:.40}" for name in names[:6]) + (", ..." if len(names) > 6 else "")


def sub_unquoted(pattern: str, replacement: Callable[[re.Match[str]], str], text: str) -> str:
    """Replace the matches of a pattern in a message, but not in quotes, which hold the user's own words."""
    return re.sub(f"{QUOTED}|{pattern}", lambda found: found[0] if found[0][0] in "'\"" else replacement(found), text)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object strictly.

    Raises:
        ValueError: not a JSON object in UTF-8, duplicate keys, NaN or infinite numbers, or nested too deeply.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text  # json would take UTF-16 too
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"it must be a JSON object, got {type(value).__name__}")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from its pairs, rejecting duplicate keys."""
    made = dict(pairs)
    if len(made) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"duplicate key {twice!r:.80}")
    return made


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")

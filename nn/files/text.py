"""Text from outside: JSON, of which what is ambiguous is an error, and what a terminal may be shown."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # what a terminal obeys, and what no file can hold
LONGEST = 400  # characters of a reason


def is_plain(text: str) -> bool:
    """Return whether a terminal only shows it, and a file can hold it."""
    return UNPRINTABLE.search(text) is None


def reason_of(error: Exception) -> str:
    """Say in one short line why a file was refused; some of the text may be the file's own."""
    text = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return printable(text)[:LONGEST]


def printable(text: str) -> str:
    """Return the text with a question mark for each character that a terminal would obey."""
    return UNPRINTABLE.sub("?", text)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that `text` is.

    Raises:
        ValueError: it is no JSON object in UTF-8, an object in it has a key twice, a number is NaN or infinite, or it
            is nested too deeply.
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
    """Make an object of its pairs; of two values for one key, programs would take one or the other."""
    made = dict(pairs)
    if len(made) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r:.80} stands twice")
    return made


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")

"""JSON from outside, read without goodwill: what is ambiguous or no JSON is an error."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


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

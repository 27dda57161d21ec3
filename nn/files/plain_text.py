"""Text that comes from files and goes to a terminal."""

from __future__ import annotations

import re

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

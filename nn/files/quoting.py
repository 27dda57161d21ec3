"""Words of a command as they can be pasted into the shell of this system."""

from __future__ import annotations

import os
import re
import shlex

PLAIN_ON_WINDOWS = re.compile(r"[\w.:\\/=+-]+")  # what neither cmd nor PowerShell reads as anything but itself


def quoted(*words: str | os.PathLike[str], windows: bool = os.name == "nt") -> str:
    """Return words as one line for a POSIX shell, or for cmd and PowerShell.

    A path that begins like an option gets `./` in front where it comes as a path, not as a string.

    Args:
        words: options and other words as strings, what names a file or folder as a path.
        windows: for which of the two.
    """
    texts = [word if isinstance(word, str) else _as_path(os.fspath(word), windows=windows) for word in words]
    return " ".join(map(_for_windows, texts)) if windows else shlex.join(texts)


def _as_path(text: str, *, windows: bool) -> str:
    """Return a path that no command takes for an option."""
    if not text.startswith("-"):
        return text
    return f".\\{text}" if windows else f"./{text}"


def _for_windows(text: str) -> str:
    """Return a word in double quotes, which both shells know; single ones are nothing to cmd."""
    if PLAIN_ON_WINDOWS.fullmatch(text):
        return text
    doubled = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return f'"{doubled}{_trailing_backslashes(doubled)}"'


def _trailing_backslashes(text: str) -> str:
    """Return as many backslashes as the text ends with: before a quote they have to be doubled."""
    return "\\" * (len(text) - len(text.rstrip("\\")))

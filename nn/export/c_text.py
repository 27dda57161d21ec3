"""Names, literals, comments and templates of C source."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from ...backends import ConfigError
from ..files.text import printable

LONGEST_NAME = 40  # characters
LONGEST_STRING = 4095  # bytes that a C99 compiler must take
LARGEST_FLOAT = float(np.finfo(np.float32).max)
WIDTH = 100  # characters of a line
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
KEYWORDS = re.compile(
    "auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long|register|"
    "restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|while"
)


def check_name(name: Any) -> str:
    """Check the name that all public names of the source begin with, and return it.

    Raises:
        ConfigError: it cannot begin a name in C.
    """
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not NAME.fullmatch(name) or KEYWORDS.fullmatch(name):
        raise ConfigError(
            f"name must be a letter and then letters, digits or _, at most {LONGEST_NAME} and no keyword of C, "
            f"got {name!r:.80}"
        )
    return name


class Identifiers:
    """Identifiers that are all different."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def make(self, base: str) -> str:
        """Return the identifier, followed by a number if it is taken."""
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name


def word_of(text: str, number: int) -> str:
    """Return the ASCII letters and digits of a text, with _ between words; the number if there are none."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:LONGEST_NAME] or str(number)


def float_literal(number: float) -> str:
    """Return the nearest float32, in the digits that it takes to read it back.

    Raises:
        ConfigError: it is not finite in float32.
    """
    if not abs(number) <= LARGEST_FLOAT:
        raise ConfigError(f"numbers must be finite in float32, got {number:g}: scale the inputs, or export as .onnx")
    text = f"{np.float32(number):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def double_literal(number: float) -> str:
    """Return a double that reads back as the same float64; NAN for NaN."""
    return "NAN" if math.isnan(number) else repr(float(number))


def string_literal(text: str) -> str:
    """Return a string of UTF-8, in ASCII characters without trigraphs.

    Raises:
        ConfigError: it is longer than compilers take.
    """
    content = text.encode()
    if len(content) > LONGEST_STRING:
        raise ConfigError(f"a name must have at most {LONGEST_STRING:,} bytes for C, got {len(content):,}: shorten it")
    escaped = {ord('"'): '\\"', ord("\\"): "\\\\", ord("?"): "\\?"}
    inner = [escaped.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in content]
    return f'"{"".join(inner)}"'


def comment_text(text: str, *, longest: int = 80) -> str:
    """Return text that cannot end a comment, nor change how the lines around it are read."""
    shown = "".join(each if each.isprintable() else "?" for each in printable(text))
    shown = re.sub(r"\?(?=\?)", "? ", shown.replace("*/", "* /").replace("/*", "/ *"))
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def array(definition: str, items: Iterable[str]) -> str:
    """Return the definition of an array, with its items in lines of limited width."""
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH and len(line) > 3:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join([f"{definition} = {{", *lines, line, "};", ""])


class Parts:
    """Templates in a file of this package, each below its name in a comment.

    Args:
        file: name of the file.
        values: what stands for the names in all of them.
    """

    def __init__(self, file: str, values: Mapping[str, object]) -> None:
        text = files(__package__).joinpath(file).read_text(encoding="utf-8")
        _, *pieces = re.split(r"^/\* part: (.+) \*/\n", text, flags=re.MULTILINE)
        self._templates = {
            name: Template(f"{part.strip()}\n") for name, part in zip(pieces[::2], pieces[1::2], strict=True)
        }
        self._values = values

    def fill(self, part: str, **values: object) -> str:
        """Return the text of a part."""
        return self._templates[part].substitute(self._values, **values)

"""Output of commands: answers and text on stdout, notes on stderr, and the exit code if a part of it was lost."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from ...backends import ConfigError
from ..files.atomic import is_stdout
from .streams import failures

LOST = 1  # exit code

_has_answered = False


def answer(text: str, *, newline: bool = True) -> None:
    """Print to stdout what programs read: JSON, or a table. Nothing else is printed there."""
    global _has_answered
    _has_answered = True
    click.echo(text, nl=newline)


def say(text: str = "") -> None:
    """Print text to stdout."""
    click.echo(text)


def say_beside(files: Iterable[Path], *, as_json: bool) -> Callable[[str], None]:
    """Return `say`, or `note` if one of the files to write is standard output.

    Raises:
        ConfigError: a JSON object would be printed into that file.
    """
    global _has_answered
    taken = next(filter(is_stdout, files), None)
    if taken is None:
        return say
    if as_json:
        raise ConfigError(f"--json prints to standard output, which is {taken}: name another file, or leave out --json")
    _has_answered = True
    return note


def note(text: str) -> None:
    """Print a note, warning or error to stderr."""
    click.echo(text, err=True)


def say_error(text: str) -> None:
    """Print an error on one line to stderr."""
    note(f"{click.style('xpnn:', fg='red', bold=True)} {text}")


def final_code(code: int) -> int:
    """Return the exit code of a command: `LOST` in place of 0 if something could not be printed.

    The reason is printed on a stream that works. A reader that has left, as in `xpnn ... | head`, needs none.
    """
    lost = failures()
    if code != 0 or not lost:
        return code
    name, error = next(iter(lost.items()))
    if not all(each.errno == errno.EPIPE for each in lost.values()):
        text = f"the command is done, but its output is incomplete: {name} cannot be written ({error.strerror})"
        if "stderr" not in lost:
            say_error(text)
        elif "stdout" not in lost and not _has_answered:
            say(f"xpnn: {text}")
    return LOST

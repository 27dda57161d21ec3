"""What a help page looks like: options in sections, then examples to copy; bold headings on a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

FURTHER = "Options"  # the section of what names none, `--help` among them; it comes last


def allowed_colour(environ: Mapping[str, str] = os.environ) -> bool | None:
    """Return False where the environment wants no colours (https://no-color.org), else None: where there is a terminal.

    Args:
        environ: environment variables.
    """
    return False if environ.get("NO_COLOR") or environ.get("TERM") == "dumb" else None


class Formatter(click.HelpFormatter):
    """Writes headings in bold."""

    def __init__(self, *, bold: bool, **sizes: Any) -> None:
        super().__init__(**sizes)
        self._bold = bold

    def write_heading(self, heading: str) -> None:
        """Write one; see click."""
        super().write_heading(click.style(heading, bold=True) if self._bold else heading)


class Context(click.Context):
    """Decides on colours once, for all that is written."""

    def __init__(self, command: click.Command, **attributes: Any) -> None:
        if attributes.get("parent") is None:
            attributes.setdefault("color", allowed_colour())
        super().__init__(command, **attributes)

    def make_formatter(self) -> click.HelpFormatter:
        """Return what lays out a help page; see click."""
        bold = self.color is not False and sys.stdout.isatty()
        return Formatter(bold=bold, width=self.terminal_width, max_width=self.max_content_width)


class Option(click.Option):
    """An option in a section of the help page; a range is told by the error for what is out of it."""

    def __init__(self, *declarations: Any, section: str = FURTHER, **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self.section = section

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return both columns of its entry; a flag and its opposite share a word."""
        record = super().get_help_record(ctx)
        return record and (re.sub(r"--(\S+) / --no-\1\b", r"--[no-]\1", record[0]), record[1])

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Return what click puts in brackets behind the help, without the range."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


def option(*declarations: str, section: str, **attributes: Any) -> Callable[[Function], Function]:
    """Return the decorator that adds an option to a command, in a section of its help page."""
    return click.option(*declarations, cls=Option, section=section, **attributes)


class Command(click.Command):
    """A command whose help page has sections, in the order of their first options, and examples at its end."""

    context_class = Context

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections; their texts begin in the same column."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(param, "section", FURTHER), []).append(record)
        sections[FURTHER] = sections.pop(FURTHER, [])
        width = max((len(left) for rows in sections.values() for left, _ in rows), default=0)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(left.ljust(width), right) for left, right in rows])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own that nothing breaks."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def command(*, examples: Sequence[str], **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Return the decorator that makes a function a command with examples."""
    return click.command(cls=Command, examples=examples, **attributes)

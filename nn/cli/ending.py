"""How a program ends after an error of xpnn's own."""

from __future__ import annotations

from typing import NoReturn

import click

from ...backends import RunError, XpnnError


def say_error(text: str) -> None:
    """Say on one line on stderr what is wrong."""
    click.echo(f"{click.style('xpnn:', fg='red', bold=True)} {text}", err=True)


def end_after(ctx: click.Context, error: XpnnError) -> NoReturn:
    """Say what is wrong, and exit: 1 if a run failed, 2 for wrong usage or bad input."""
    say_error(str(error))
    ctx.exit(1 if isinstance(error, RunError) else 2)

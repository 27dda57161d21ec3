"""How a program ends after an error of xpnn's own."""

from __future__ import annotations

from typing import NoReturn

import click

from ...backends import RunError, XpnnError


def end_after(ctx: click.Context, error: XpnnError) -> NoReturn:
    """Say what is wrong on one line on stderr, and exit: 1 if a run failed, 2 for wrong usage or bad input."""
    click.echo(f"xpnn: {error}", err=True)
    ctx.exit(1 if isinstance(error, RunError) else 2)

"""What the programs `python -m xpnn.bench...` have in common with `xpnn`: how an error looks."""

from __future__ import annotations

from typing import Any

import click

from ..backends import RunError, XpnnError


class Program(click.Command):
    """A command; an error of xpnn's own becomes one line on stderr and exit code 1 or 2, as in `nn/cli/app.py`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except XpnnError as error:
            click.echo(f"xpnn: {error}", err=True)
            ctx.exit(1 if isinstance(error, RunError) else 2)

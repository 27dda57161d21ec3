"""What the programs `python -m xpnn.bench...` have in common with `xpnn`: how an error looks."""

from __future__ import annotations

from typing import Any

import click

from ..backends import XpnnError
from ..nn.cli.ending import end_after


class Program(click.Command):
    """A command that ends after an error of xpnn's own as `xpnn` does."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except XpnnError as error:
            end_after(ctx, error)

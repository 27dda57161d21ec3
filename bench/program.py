"""Command class of the programs `python -m xpnn.bench...`, with the error messages of `xpnn`."""

from __future__ import annotations

from typing import Any

import click

from ..backends import XpnnError
from ..nn.cli.ending import end_after


class Program(click.Command):
    """Command with the error handling of `xpnn`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except XpnnError as error:
            end_after(ctx, error)

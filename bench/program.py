"""Command class of the programs `python -m xpnn.bench...`, with the error messages of `xpnn`."""

from __future__ import annotations

from typing import Any

import click

from ..backends import XpnnError
from ..nn.cli.ending import end_after


def comma_names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:  # noqa: ARG001
    """Parse comma-separated names."""
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


class Program(click.Command):
    """Command with the error handling of `xpnn`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except XpnnError as error:
            end_after(ctx, error)

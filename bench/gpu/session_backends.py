"""The first part of `bench/gpu/session.sh tests`: `xpnn backends`, and whether the one that is tested can be had."""

from __future__ import annotations

import click

from ...backends import BackendUnavailable, why_unavailable
from ...nn.cli.backends import backends
from ..program import Program


@click.command(cls=Program)
@click.argument("name", metavar="BACKEND")
@click.pass_context
def main(ctx: click.Context, name: str) -> None:
    """Examine this machine as `xpnn backends` does; fail, too, if BACKEND cannot be had, and say why at the end."""
    try:
        ctx.invoke(backends, as_json=False)  # it exits
    finally:
        if reason := why_unavailable(name):
            raise BackendUnavailable(reason)


if __name__ == "__main__":
    main()

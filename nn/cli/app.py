"""The command group: which commands there are, and what an error looks like."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from ...backends import RunError, XpnnError

LOGGER = logging.getLogger("xpnn")

# command -> its one line; the module of the same name is imported when the command is run
COMMANDS = {
    "train": "Train a network by a recipe.",
    "evaluate": "Measure a trained network on labelled rows.",
    "predict": "Classify image files with a trained network.",
    "explain": "Print a network's tensors and formulas.",
    "parity": "Train the same on several backends and compare.",
    "backends": "Examine this machine and its backends.",
}


class Commands(click.Group):
    """Imports a command when it is asked for, and turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of a user's way."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        if name not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        command: click.Command = getattr(import_module(f".{name}", __package__), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of xpnn's own becomes one line on stderr and exit code 1 or 2."""
        try:
            return super().invoke(ctx)
        except XpnnError as error:
            if ctx.params["debug"]:
                raise
            click.echo(f"xpnn: {error}", err=True)
            ctx.exit(1 if isinstance(error, RunError) else 2)
        except KeyboardInterrupt:
            click.echo("xpnn: interrupted", err=True)
            ctx.exit(130)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `xpnn train`: it trains on the digits that ship with scikit-learn, in seconds.",
)
@click.version_option(version("xpnn"), prog_name="xpnn")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def xpnn(debug: bool) -> None:  # noqa: ARG001 - read by Commands.invoke
    """Train feed-forward networks from scratch, on NumPy, Numba or CuPy."""
    LOGGER.handlers[:] = [logging.StreamHandler()]  # stderr; backends say there that they compile
    LOGGER.setLevel(logging.INFO)

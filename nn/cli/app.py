"""The command group: commands and error messages."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import Any

import rich_click as click
from click.exceptions import Exit

from ...backends import XpnnError
from .ending import PARAMETERS, end_after, end_with
from .options import examples

LOGGER = logging.getLogger("xpnn")

COMMANDS = {  # name -> its one line
    "train": "Train a network from a recipe.",
    "evaluate": "Evaluate a trained network on labelled rows.",
    "predict": "Predict the rows of a table, or the classes of pictures.",
    "export": "Export a trained network as ONNX, NumPy, C or a web page.",
    "explain": "Print a network's tensors and formulas.",
    "parity": "Compare training on several backends.",
    "backends": "Report on this machine and test its backends.",
    "bench": "Benchmark the backends against other libraries.",
}
ABOVE = {"bench"}  # in packages that import this one: found by their entry points


class LazyCommand(click.RichCommand):
    """Name and help line of a command that is imported on first use."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the command; see click."""
        command: click.Command
        if self.name in ABOVE:
            (point,) = entry_points(group="xpnn.commands", name=self.name)
            command = point.load()
        else:
            command = getattr(import_module(f".{self.name}", __package__), str(self.name))
        if parent is not None:
            parent.meta[PARAMETERS] = command.params
        return command.make_context(info_name, args, parent, **extra)


class Commands(click.RichGroup):
    """Command group that converts errors to one line and an exit code."""

    main = click.Group.main  # rich-click's own would draw boxes around errors, which nobody can search for

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of typical use."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an `XpnnError` becomes one line on stderr and exit code 1 or 2."""
        try:
            return super().invoke(ctx)
        except XpnnError as error:
            if ctx.params["debug"]:
                raise
            end_after(ctx, error)
        except KeyboardInterrupt:
            end_with(ctx, 130, "interrupted")
        except (click.ClickException, Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # no cause of the user's: a defect, or the machine's memory
            if ctx.params["debug"]:
                raise
            what = "the memory is full" if isinstance(error, MemoryError) else f"unexpected {type(error).__name__}"
            end_with(ctx, 1, f"{what}: {error}; `xpnn --debug ...` shows where")


@click.group(
    cls=Commands,
    commands={name: LazyCommand(name=name, help=line) for name, line in COMMANDS.items()},
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        # https://no-color.org; None: colours where there is a terminal
        "color": False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None,
        "rich_help_config": {
            "theme": "default-slim",  # headings and columns; ASCII on consoles without Unicode
            "commands_before_options": True,
            "style_helptext": "",
            "text_paragraph_linebreaks": "\n\n",
            "options_table_column_types": ["opt_all_metavar", "help"],
            "options_table_help_sections": ["help"],
            "force_terminal": None,
        },
    },
    epilog=examples("xpnn train", "xpnn train mnist-98 --out runs/mnist-98", "xpnn evaluate runs/mnist-98"),
)
@click.version_option(version("xpnn"), prog_name="xpnn")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def xpnn(debug: bool) -> None:  # noqa: ARG001 - read by Commands.invoke
    """Train feed-forward networks from scratch, on NumPy, Numba, CuPy, PyTorch or JAX.

    Start with `xpnn train`: it takes seconds and needs no download. See `xpnn COMMAND --help` for details.
    """
    LOGGER.handlers[:] = [logging.StreamHandler()]  # stderr; backends say there that they compile
    LOGGER.setLevel(logging.INFO)

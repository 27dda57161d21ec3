"""The command group: which commands there are, and what an error looks like."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Any

import click

from ...backends import XpnnError
from .ending import end_after, end_with
from .help_page import Command, Context

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

LOGGER = logging.getLogger("xpnn")

# command -> its one line; the module of the same name is imported when the command is run
COMMANDS = {
    "train": "Train a network by a recipe.",
    "evaluate": "Measure a trained network on labelled rows.",
    "predict": "Classify image files with a trained network.",
    "export": "Write a trained network as ONNX, NumPy or a page to draw on.",
    "explain": "Print a network's tensors and formulas.",
    "parity": "Train the same on several backends and compare.",
    "backends": "Examine this machine and its backends.",
    "completion": "Print a script that completes commands in your shell.",
}
ENTRY_POINT_GROUP = "xpnn.commands"  # where packages above this one, xpnn.bench among them, name theirs


def other_commands() -> dict[str, EntryPoint]:
    """Return the commands that other packages bring, by name; a built-in name cannot be taken over."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name not in COMMANDS}


class Commands(Command, click.Group):
    """Imports a command when it is asked for, and turns errors into one line and an exit code."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of a user's way, then those of other packages."""
        return [*COMMANDS, *other_commands()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        command: click.Command
        if name in COMMANDS:
            command = getattr(import_module(f".{name}", __package__), name)
        elif (point := other_commands().get(name)) is not None:
            command = point.load()
        else:
            from difflib import get_close_matches

            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands; only those of other packages are imported, for the line that says what they do."""
        others = [(name, _short_help(point)) for name, point in other_commands().items()]
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items(), *others])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, which are what is looked for, then the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return the commands that begin so; none of them is imported for it."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=COMMANDS.get(name)) for name in names]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of xpnn's own becomes one line on stderr and exit code 1 or 2."""
        try:
            return super().invoke(ctx)
        except XpnnError as error:
            if ctx.params["debug"]:
                raise
            end_after(ctx, error)
        except KeyboardInterrupt:
            end_with(ctx, 130, "interrupted")
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # no cause of the user's: a defect, or the machine's memory
            if ctx.params["debug"]:
                raise
            what = "the memory is full" if isinstance(error, MemoryError) else f"unexpected {type(error).__name__}"
            end_with(ctx, 1, f"{what}: {error}; `xpnn --debug ...` shows where")


def _short_help(point: EntryPoint) -> str:
    """Return a command's one line; one that cannot be imported does not spoil the help of the others."""
    try:
        command: click.Command = point.load()
    except Exception as error:
        return f"Cannot be loaded: {type(error).__name__}: {error}"
    return command.get_short_help_str(limit=100)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `xpnn train`: it takes seconds and needs no download. `xpnn COMMAND --help` tells more.",
    examples=["xpnn train", "xpnn train mnist-98 --out runs/mnist-98", "xpnn evaluate runs/mnist-98"],
)
@click.version_option(version("xpnn"), prog_name="xpnn")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def xpnn(debug: bool) -> None:  # noqa: ARG001 - read by Commands.invoke
    """Train feed-forward networks from scratch, on NumPy, Numba, CuPy, PyTorch or JAX."""
    LOGGER.handlers[:] = [logging.StreamHandler()]  # stderr; backends say there that they compile
    LOGGER.setLevel(logging.INFO)

"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..recipes import RECIPES

Command = TypeVar("Command", bound=Callable[..., Any])

backend_option = click.option(
    "--backend", default="auto", show_default=True, metavar="NAME", help="numpy, numba, cupy, ... or auto."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
recipe_argument = click.argument("recipe_name", required=False, metavar="[RECIPE]")


def data_options(command: Command) -> Command:
    """Add the options that say where rows come from."""
    for option in (
        click.option("--stratify", is_flag=True, help="Keep each class's share among the rows held back."),
        click.option(
            "--test-fraction",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=0.2,
            show_default=True,
            help="Share of rows held back, where the data have no test part.",
        ),
        click.option("--label-column", default="label", show_default=True, help="The label's column in a .csv."),
        click.option(
            "--data",
            metavar="SOURCE",
            help="A name (mnist, fashion-mnist, digits), a folder of IDX files, an .npz or a .csv.",
        ),
    ):
        command = option(command)
    return command


def recipe_list() -> str:
    """Return the recipes for a help page, a line each."""
    return "\b\nRecipes:\n" + "\n".join(f"  {recipe.name:<12}{recipe.summary}" for recipe in RECIPES.values())


def batch_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a number of rows, or `full`, for which 0 stands; None where the option is not given."""
    if value is None or value == "full":
        return None if value is None else 0
    if not (value.isdecimal() and int(value) >= 1):
        raise click.BadParameter(f"{value!r} is neither a whole number >= 1 nor 'full'", ctx, param)
    return int(value)

"""Options that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..recipes import RECIPES

Command = TypeVar("Command", bound=Callable[..., Any])


def _silence_log(ctx: click.Context, param: click.Parameter, value: bool) -> bool:  # noqa: ARG001
    """Keep downloads and compilations off stderr where an option asks for nothing but the result."""
    if value:
        logging.getLogger("xpnn").setLevel(logging.WARNING)
    return value


backend_option = click.option(
    "--backend", default="auto", show_default=True, metavar="NAME", help="numpy, numba, cupy, ... or auto."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_silence_log, help="Print one JSON object and nothing else."
)
recipe_argument = click.argument("recipe_name", required=False, metavar="[RECIPE]")


def data_options(command: Command) -> Command:
    """Add the options that say where rows come from."""
    return _data_options(command, label_column="label", stratify=False, otherwise="the recipe's or 0.2")


def run_data_options(command: Command) -> Command:
    """Add the same options and --seed, each None where it is not given: the run's own setting is then taken."""
    command = click.option("--seed", type=click.IntRange(min=0), help="Of the split; the run's or 0 by default.")(
        command
    )
    return _data_options(command, label_column=None, stratify=None, otherwise="the run's or 0.2")


def _data_options(command: Command, *, label_column: str | None, stratify: bool | None, otherwise: str) -> Command:
    """Add the options with these defaults."""
    for option in (
        click.option(
            "--stratify/--no-stratify", default=stratify, help="Keep each class's share among the rows held back."
        ),
        click.option(
            "--test-fraction",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help=f"Share of rows held back, where the data have no test part; {otherwise} by default.",
        ),
        click.option("--label-column", default=label_column, show_default=True, help="The label's column in a .csv."),
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

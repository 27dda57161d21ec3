"""Options that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..runs.recipes import RECIPES
from . import candidates
from .help_page import option

Command = TypeVar("Command", bound=Callable[..., Any])


def _silence_log(ctx: click.Context, param: click.Parameter, value: bool) -> bool:  # noqa: ARG001
    """Keep downloads and compilations off stderr where an option asks for nothing but the result."""
    if value:
        logging.getLogger("xpnn").setLevel(logging.WARNING)
    return value


backend_option = option(
    "--backend", section="Speed", default="auto", metavar="NAME", shell_complete=candidates.backends,
    help="auto (the default), numba, numpy, cupy, ...",
)  # fmt: skip
json_option = option(
    "--json", "as_json", section="Output", is_flag=True, callback=_silence_log,
    help="Print one JSON object and nothing else.",
)  # fmt: skip
quiet_option = option("--quiet", section="Output", is_flag=True, help="Print nothing but errors.")
recipe_argument = click.argument("recipe_name", required=False, metavar="[RECIPE]", shell_complete=candidates.recipes)


def data_options(command: Command) -> Command:
    """Add the options that say where rows come from."""
    return _data_options(command, label_column="label", stratify=False, otherwise="the recipe's, or 0.2")


def run_data_options(command: Command) -> Command:
    """Add the same options and --seed, each None where it is not given: the run's own setting is then taken."""
    seed = option(
        "--seed", section="Data", type=click.IntRange(min=0), metavar="N", help="Of the split; by default the run's."
    )
    return _data_options(seed(command), label_column=None, stratify=None, otherwise="the run's, or 0.2")


def _data_options(command: Command, *, label_column: str | None, stratify: bool | None, otherwise: str) -> Command:
    """Add the options with these defaults."""
    column = label_column or "the run's"
    for add in (
        option(
            "--stratify/--no-stratify", section="Data", default=stratify,
            help="Keep each class's share among them.",
        ),
        option(
            "--test-fraction", section="Data", metavar="SHARE",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help=f"Rows held back for the test; by default {otherwise}.",
        ),
        option(
            "--label-column", section="Data", default=label_column, metavar="NAME",
            help=f"The label's column in a .csv; by default {column}.",
        ),
        option(
            "--data", section="Data", metavar="SOURCE", shell_complete=candidates.data,
            help="A .csv, an .npz, a folder of .npy or IDX files, or mnist, fashion-mnist, digits.",
        ),
    ):  # fmt: skip
        command = add(command)
    return command


def recipe_list() -> str:
    """Return the recipes for a help page, a line each."""
    return "\b\nRecipes:\n" + "\n".join(f"  {recipe.name:<11} {recipe.summary}" for recipe in RECIPES.values())

"""The options that change a recipe: all but two are fields of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from ..runs.recipes import Recipe
from .help_page import option

Command = TypeVar("Command", bound=Callable[..., Any])

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


def batch_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a number of rows, or `full`, for which 0 stands; None where the option is not given."""
    if value is None or value == "full":
        return None if value is None else 0
    if not (value.isdecimal() and int(value) >= 1):
        raise click.BadParameter(f"{value!r} is neither a whole number >= 1 nor 'full'", ctx, param)
    return int(value)


TRAINING = (
    option(
        "--epochs", section="Training", type=click.IntRange(min=1), metavar="N",
        help="Passes over the training rows.",
    ),
    option(
        "--batch-size", section="Training", callback=batch_size, metavar="ROWS",
        help="Rows of one step, or full for all of them.",
    ),
    option("--lr", section="Training", type=float, metavar="RATE", help="Learning rate."),
    option(
        "--accumulate", section="Training", type=click.IntRange(min=1), metavar="N",
        help="Batches whose gradients make one step.",
    ),
    option(
        "--clip-norm", section="Training", type=click.FloatRange(min=0, min_open=True), metavar="LENGTH",
        help="Make no gradient longer than this.",
    ),
    option(
        "--class-weight", section="Training", type=click.Choice(["balanced"]), metavar="balanced",
        help="Let all classes count alike.",
    ),
    option(
        "--evaluate-every", section="Training", type=click.IntRange(min=1), metavar="EPOCHS",
        help="From one evaluation to the next; 1 by default.",
    ),
    option(
        "--reproducible", section="Training", is_flag=True, default=None,
        help="Same bits on any number of processes. Slower.",
    ),
    option(
        "--dropout", section="Regularization", type=SHARE, metavar="SHARE",
        help="Hidden units that each step leaves out.",
    ),
    option(
        "--l2", section="Regularization", type=click.FloatRange(min=0), metavar="STRENGTH",
        help="Penalty on squared weights.",
    ),
    option(
        "--validation", section="Regularization", type=SHARE, metavar="SHARE",
        help="Training rows held back to check it on.",
    ),
    option(
        "--patience", section="Regularization", type=click.IntRange(min=1), metavar="EPOCHS",
        help="Stop when that gets no better; keep the best.",
    ),
)  # fmt: skip
SPEED = (
    option(
        "--dtype", section="Speed", type=click.Choice(["float32", "float64"]), metavar="DTYPE",
        help="float32 or float64.",
    ),
    option(
        "--precision", section="Speed", type=click.Choice(["full", "bfloat16"]), metavar="KIND",
        help="On a GPU: full (the default) or bfloat16.",
    ),
)  # fmt: skip


def training_options(command: Command) -> Command:
    """Add the options of the steps, each None where it is not given."""
    for add in reversed(TRAINING):
        command = add(command)
    return command


def precision_options(command: Command) -> Command:
    """Add the options of the arithmetic, likewise."""
    for add in reversed(SPEED):
        command = add(command)
    return command


def changed(recipe: Recipe, *, batch_size: int | None, lr: float | None, **others: Any) -> Recipe:
    """Work the options into the recipe; the others are fields of its own."""
    changes = {name: value for name, value in others.items() if value is not None}
    if batch_size is not None:
        changes["batch_size"] = batch_size or None
    if lr is not None:
        changes["optimizer"] = replace(recipe.optimizer, learning_rate=lr)
    return replace(recipe, **changes)

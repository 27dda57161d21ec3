"""What the shell offers to complete an argument with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ...backends import registered_backends
from ..datasets.load import NAMED
from ..files.quoting import quoted
from ..runs.recipes import RECIPES
from .recent_runs import RUNS, recent_runs

if TYPE_CHECKING:
    Items = list[CompletionItem[str]]  # click 8.2 has no [...] for it


def recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001
    """Return recipes, with what they are where the shell shows it."""
    begun = (recipe for name, recipe in RECIPES.items() if name.startswith(incomplete))
    return [CompletionItem(recipe.name, help=recipe.summary) for recipe in begun]


def backends(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001
    """Return `auto` and all backends that are known: to see which of them work would take seconds."""
    return _words(incomplete, ("auto", *registered_backends()))


def backend_list(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001
    """Return backends for the last of some names with commas between them."""
    before, comma, last = incomplete.rpartition(",")
    others = [name for name in registered_backends() if name not in before.split(",")]
    return [CompletionItem(before + comma + item.value) for item in _words(last, others)]


def data(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001
    """Return the data sets that have names, and the shell's own files."""
    return [CompletionItem(incomplete, type="file"), *_words(incomplete, NAMED)]


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001
    """Return the runs below `runs`, the newest first, where nothing or that folder is typed, else the shell's files."""
    found = recent_runs() if incomplete == "" or Path(incomplete).parent == RUNS or incomplete == f"{RUNS}/" else []
    plain = [str(path) for path in found if quoted(path) == str(path)]  # the shells' scripts quote nothing
    return _words(incomplete, plain) or [CompletionItem(incomplete, type="file")]


def recipes_and_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Return both."""
    return [*runs(ctx, param, incomplete), *recipes(ctx, param, incomplete)]


def _words(incomplete: str, names: Iterable[str]) -> Items:
    """Return those that begin so."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]

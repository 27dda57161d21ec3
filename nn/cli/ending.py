"""Exit after an error; in distributed training one rank ends all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import click

from ...backends import RunError, XpnnError
from ..distributed.world import abort
from ..files.text import sub_unquoted
from .output import say_error

PARAMETERS = "xpnn.parameters"  # of the command, among the context's meta
ARGUMENTS = {"learning_rate": "lr", "early_stopping": "patience"}  # whose options have other names
START = r"(?<![\w./\\-])"  # of a word that is no part of a path
NEVER = r"(?!)"


def end_after(ctx: click.Context, error: XpnnError) -> NoReturn:
    """Print an error and exit: code 1 if a run failed, 2 for wrong usage or bad input."""
    text = with_options(str(error), ctx.meta.get(PARAMETERS, ctx.command.params))
    end_with(ctx, 1 if isinstance(error, RunError) else 2, text)


def with_options(text: str, parameters: Sequence[click.Parameter]) -> str:
    """Replace the names of Python's arguments in a message by a command's options.

    A name that is also an English word, such as `loss`, is replaced only in `loss=...` and as the first word of a rule,
    `epochs must ...`; one with an underscore also as the subject of a clause, and after "by" or "with".
    """
    flags = {str(each.name): each.opts[0] for each in parameters if isinstance(each, click.Option)}
    flags |= {name: flags[option] for name, option in ARGUMENTS.items() if option in flags}
    loss = f"{flags.get('loss', 'xpnn train --loss')} squared_error"
    text = sub_unquoted(rf"{START}regression=True\b", lambda _: loss, text)
    name = "|".join(flags) or NEVER
    unmistakable = "|".join(name for name in flags if "_" in name) or NEVER
    forms = (
        rf"{START}({name})=True\b",
        rf"{START}({name})=(?=\S)",
        rf"^({name})(?= must )",
        rf"{START}({unmistakable})(?= (?:of \w+ )?(?:must|needs|names|computes) )",
        rf"(?<=\bby )({unmistakable})\b",
        rf"(?<=\bwith )({unmistakable})\b",
    )

    def option(found: re.Match[str]) -> str:
        return flags[next(filter(None, found.groups()))] + " " * found[0].endswith("=")

    return sub_unquoted("|".join(forms), option, text)


def end_with(ctx: click.Context, code: int, text: str) -> NoReturn:
    """Print an error and exit."""
    abort(code, lambda rank: say_error(f"{rank}: {text}"))
    say_error(text)
    ctx.exit(code)

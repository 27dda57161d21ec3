"""Exit after an error; in distributed training one rank ends all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import click

from ...backends import RunError, XpnnError
from ..distributed.world import abort
from .output import say_error

PARAMETERS = "xpnn.parameters"  # of the command, among the context's meta
ARGUMENTS = {"learning_rate": "lr", "early_stopping": "patience"}  # that options call otherwise
NOT_BEFORE = r"(?<![\w./\\'\"-])"  # within a path, or a name in quotes


def end_after(ctx: click.Context, error: XpnnError) -> NoReturn:
    """Print an error and exit: code 1 if a run failed, 2 for wrong usage or bad input."""
    text = with_options(str(error), ctx.meta.get(PARAMETERS, ctx.command.params))
    end_with(ctx, 1 if isinstance(error, RunError) else 2, text)


def with_options(text: str, parameters: Sequence[click.Parameter]) -> str:
    """Return a message with a command's options in place of the arguments that they are in Python."""
    flags = {str(each.name): each.opts[0] for each in parameters if isinstance(each, click.Option)}
    flags |= {name: flags[option] for name, option in ARGUMENTS.items() if option in flags}
    loss = f"{flags.get('loss', 'xpnn train --loss')} squared_error"
    text = re.sub(rf"{NOT_BEFORE}regression=True\b", loss, text)
    if not flags:
        return text
    names = "|".join(flags)
    identifiers = "|".join(name for name in flags if "_" in name) or "(?!)"
    text = re.sub(rf"{NOT_BEFORE}({names})=True\b", lambda found: flags[found[1]], text)
    text = re.sub(rf"{NOT_BEFORE}({names})=(?=\S)", lambda found: f"{flags[found[1]]} ", text)
    text = re.sub(rf"^({names})(?= must )", lambda found: flags[found[1]], text)
    as_subject = rf"{NOT_BEFORE}({identifiers})(?= (?:of \w+ )?(?:must|needs|names|computes) )"
    text = re.sub(as_subject, lambda found: flags[found[1]], text)
    return re.sub(rf"(?:(?<=\bby )|(?<=\bwith ))({identifiers})\b", lambda found: flags[found[1]], text)


def end_with(ctx: click.Context, code: int, text: str) -> NoReturn:
    """Print an error and exit."""
    abort(code, lambda rank: say_error(f"{rank}: {text}"))
    say_error(text)
    ctx.exit(code)

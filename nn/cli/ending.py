"""Exit after an error; in distributed training one rank ends all."""

from __future__ import annotations

from typing import NoReturn

import click

from ...backends import RunError, XpnnError
from ..distributed.world import abort
from .output import say_error


def end_after(ctx: click.Context, error: XpnnError) -> NoReturn:
    """Print an error and exit: code 1 if a run failed, 2 for wrong usage or bad input."""
    end_with(ctx, 1 if isinstance(error, RunError) else 2, str(error))


def end_with(ctx: click.Context, code: int, text: str) -> NoReturn:
    """Print an error and exit."""
    abort(code, lambda rank: say_error(f"{rank}: {text}"))
    say_error(text)
    ctx.exit(code)

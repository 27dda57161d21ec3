"""How a program ends that has failed: of processes that train together, each ends all of them."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from ...backends import RunError, XpnnError
from ..distributed.supervision import is_ending_together, launched
from ..distributed.world import end_job, is_one_of_many, of_rank


def say_error(text: str) -> None:
    """Say on one line on stderr what is wrong."""
    click.echo(f"{click.style('xpnn:', fg='red', bold=True)} {text}", err=True)


def end_after(ctx: click.Context, error: XpnnError) -> NoReturn:
    """Say what is wrong, and exit: 1 if a run failed, 2 for wrong usage or bad input."""
    end_with(ctx, 1 if isinstance(error, RunError) else 2, str(error))


def end_with(ctx: click.Context, code: int, text: str) -> NoReturn:
    """Say what is wrong, and exit."""
    if is_one_of_many():
        end_job(code, of_rank(text), say_error)
    say_error(text)
    ctx.exit(code)


def end_others_too(error: SystemExit) -> None:
    """Let no other process wait for one that exits with an error."""
    if error.code not in (None, 0) and _others_wait() and not is_ending_together():
        code = error.code if isinstance(error.code, int) else 1
        end_job(code, of_rank(f"exits with {code}" if code is error.code else str(error.code)), say_error)


def _others_wait() -> bool:
    """Return whether other processes wait for this one, or will: those whose options were read without an error."""
    place = launched()
    return is_one_of_many() or (place is not None and place.size > 1 and "--distributed" in sys.argv)

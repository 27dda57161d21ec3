"""The argument that names a trained network: a run folder or a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..files.data_file import existing_path
from ..files.quoting import quoted
from ..runs.folder import RunFolder
from . import candidates
from .recent_runs import recent_runs
from .user_path import UserPath


class ModelArgument(click.Argument):
    """Names the newest run where it is missing."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the path; see click."""
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter as error:
            raise click.MissingParameter(self._hint(ctx), ctx, self) from error

    def _hint(self, ctx: click.Context) -> str:
        """Return the command for the newest run here."""
        newest = recent_runs()[:1]
        if not newest:
            return "Train a network first: xpnn train"
        others = [p.make_metavar(ctx) for p in ctx.command.params if isinstance(p, click.Argument) and p is not self]
        return f"For the newest run here: {' '.join([ctx.command_path, quoted(*newest), *others])}"


model_argument = click.argument(
    "model", cls=ModelArgument, type=UserPath(), metavar="RUN|MODEL", shell_complete=candidates.runs
)


def model_path(path: Path) -> Path:
    """Return the model's file: the path itself, or the one in a run folder."""
    found = existing_path(path)
    if found is None or not found.is_dir():
        return path
    folder = RunFolder(path)
    folder.refuse_links()
    return folder.model

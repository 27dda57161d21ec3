"""The argument that names a trained network: a run folder or a model file."""

from __future__ import annotations

from pathlib import Path

import click

from ..data_file import existing_path
from ..run_folder import RunFolder

model_argument = click.argument("model", type=click.Path(path_type=Path), metavar="RUN|MODEL")


def model_path(path: Path) -> Path:
    """Return the model's file: the path itself, or the one in a run folder."""
    found = existing_path(path)
    if found is None or not found.is_dir():
        return path
    folder = RunFolder(path)
    folder.refuse_links()
    return folder.model

"""A path on the command line."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import click


class UserPath(click.Path):
    """A path whose `~` is the user's home: `--out=~/runs` reaches us so from POSIX shells, and all of them from cmd."""

    name = "path"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; see click."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        with suppress(RuntimeError):  # no such user: a folder may well begin with ~
            path = path.expanduser()
        return path

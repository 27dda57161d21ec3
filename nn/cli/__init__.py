"""The command line `xpnn`, with the extra `cli`."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line, or print how to install its dependencies."""
    try:
        import rich_click  # noqa: F401
    except ImportError as error:
        print(f'xpnn: the command line needs {error.name}: pip install "xpnn[cli]"', file=sys.stderr)  # noqa: T201
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that its encoding lacks is shown by its number
            stream.reconfigure(errors="backslashreplace")
    try:
        from .app import xpnn

        try:
            xpnn(prog_name="xpnn")
        except SystemExit as error:
            from ..distributed.world import abort_after_exit

            abort_after_exit(error)
            raise
    except KeyboardInterrupt:  # while it was still being imported
        print("xpnn: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)

"""The command line `xpnn`; it needs the extra `cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say how to install what it needs."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        print(f'xpnn: the command line needs {error.name}: pip install "xpnn[cli]"', file=sys.stderr)  # noqa: T201
        sys.exit(2)
    try:
        from .app import xpnn

        xpnn()
    except KeyboardInterrupt:  # while it was still being imported
        print("xpnn: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)

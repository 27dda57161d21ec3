"""The command line `xpnn`, with the extra `cli`."""

from __future__ import annotations

import faulthandler
import signal
import sys
from contextlib import suppress

from .streams import open_streams


def main() -> None:
    """Run the command line, or print how to install its dependencies."""
    open_streams()  # first: what opens a file before it may be given the descriptor of a closed stream
    with suppress(OSError):  # a caller's stderr may have no descriptor
        faulthandler.enable()  # a bus error, as of a mapped file that is cut short, is not without a word
    try:
        import rich_click  # noqa: F401
    except ImportError as error:
        print(f'xpnn: the command line needs {error.name}: pip install "xpnn[cli]"', file=sys.stderr)  # noqa: T201
        sys.exit(2)
    try:
        from .app import xpnn
        from .output import final_code
        from .signals import end_on_signals

        end_on_signals()
        try:
            xpnn(prog_name="xpnn")
        except SystemExit as error:
            from ..distributed.world import abort_after_exit

            abort_after_exit(error)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: it would replace the exit code
            sys.exit(final_code(error.code) if isinstance(error.code, int) else error.code)
    except KeyboardInterrupt:  # while it was still being imported
        print("xpnn: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)

"""`mpiexec -n 4 python -m xpnn.nn.distributed script.py` runs a script on all ranks; what ends one of them ends all.

Without it, a rank that fails leaves the others waiting: until `world()` was called, or where it exits or is killed.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from .supervision import is_ending_together, supervise
from .world import end_after_error, end_job, is_one_of_many, of_rank

USAGE = "usage: mpiexec -n 4 python -m xpnn.nn.distributed SCRIPT [ARGUMENT ...]"


def main(arguments: Sequence[str]) -> None:
    """Run a script as Python itself would, watched over by another process.

    Args:
        arguments: the script and its own.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    script = arguments[0]
    if not Path(script).exists():
        print(f"no such script: {script}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    supervise()
    sys.argv[:] = arguments
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.realpath(script))  # noqa: PTH120
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        if error.code not in (None, 0) and is_one_of_many() and not is_ending_together():
            code = error.code if isinstance(error.code, int) else 1
            end_job(code, of_rank(f"exits with {code}" if code is error.code else str(error.code)))
        raise
    except BaseException as error:
        if not is_one_of_many():
            raise
        end_after_error(error, _of_script(error.__traceback__, script))


def _of_script(trace: TracebackType | None, script: str) -> TracebackType | None:
    """Return a traceback without what led to the script; all of it where the script did not begin."""
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename != script:
        first = first.tb_next
    return first or trace


if __name__ == "__main__":
    main(sys.argv[1:])

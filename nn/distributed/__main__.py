"""`mpiexec -n 4 python -m xpnn.nn.distributed script.py` runs a script on all ranks; a failure on one ends all.

Like `python -m mpi4py.run script.py`, but MPI is initialized first, so that failures during imports end all, too.
"""

from __future__ import annotations

import sys

from .world import abort_after_exit, world

USAGE = "usage: mpiexec -n 4 python -m xpnn.nn.distributed SCRIPT [ARGUMENT ...]"


def main() -> None:
    """Run the script named on the command line."""
    if not sys.argv[1:] or sys.argv[1] in ("-h", "--help"):
        print(USAGE)  # noqa: T201
        sys.exit(0 if sys.argv[1:] else 2)
    world()
    from mpi4py.run import run_command_line

    try:
        run_command_line()
    except SystemExit as error:  # other exceptions come to the hook of `world`
        abort_after_exit(error)
        raise


if __name__ == "__main__":
    main()

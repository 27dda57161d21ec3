"""A rank of a training, as a program: `mpiexec -n N python rank_process.py ORDER`.

It is `xpnn ARGUMENTS` at another pace, and says in a file that all ranks map how far it is. ORDER is JSON:

arguments: of the command line
page: path of the file, of `PAGE` bytes
chunk_seconds, checkpoint_seconds: the product's constants, its own by default
fail: "raise", "exit" or "segfault", done by rank `rank` as soon as it has taken `step` steps
"""

import ctypes
import json
import mmap
import os
import sys
from pathlib import Path
from typing import Any

from training_process import train
from trainings import PAGE, PIDS, RANK_VARIABLE, STEPS


def fail(how: str) -> None:
    """End this rank as a program with a fault does."""
    if how == "raise":
        raise RuntimeError("this rank has had enough")
    if how == "exit":
        os._exit(0)
    ctypes.string_at(0)


def say_steps(page: Any, order: dict[str, Any]) -> None:
    """Have each rank write down the steps that it has taken after each chunk, and fail at its step if it is to."""
    from xpnn.nn.training.divergence import Watch

    own = Watch.check

    def check(watch: Watch, *sums: Any) -> None:
        own(watch, *sums)
        run = watch._run
        page[STEPS + run.communicator.rank] = run.plan.step
        if run.communicator.rank == order.get("rank") and run.plan.step >= order["step"]:
            fail(order["fail"])

    Watch.check = check  # type: ignore[method-assign]


def main(order: dict[str, Any]) -> int:
    """Do as ordered, and return the exit code."""
    rank = int(os.environ[RANK_VARIABLE])
    with Path(order["page"]).open("r+b") as file:
        shared = memoryview(mmap.mmap(file.fileno(), PAGE)).cast("q")
    shared[PIDS + rank] = os.getpid()
    say_steps(shared, order)
    # Rank 0 alone writes files, and counts the moments of its saves.
    return train(shared if rank == 0 else memoryview(bytearray(PAGE)).cast("q"), order)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))

"""Trainings that are killed, stopped and starved of room at a chosen moment, and what is left of each."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

SAVING = (
    "while writing",
    "before fsync",
    "after fsync",
    "before rename",
    "after rename",
    "before fsync of the folder",
    "after fsync of the folder",
)  # moments inside a save, in their order
MAKING = ("before mkdir", "after mkdir")
APPENDING = ("while appending",)
MOMENTS = (*SAVING, *MAKING, *APPENDING)
INSIDE = len(MOMENTS)  # where the shared page says whether the process is inside a save; before it, how often each came
STEPS = INSIDE + 1  # and from where on each rank of a training on several says how many steps it has taken
PIDS = STEPS + 64  # ... and the number of its process
PAGE = 4096
RANK_VARIABLE = "PMI_RANK"  # by which MPICH's mpiexec tells each process its rank
PROGRAM = Path(__file__).with_name("training_process.py")
CASES = {
    f"{backend}, {size}": ("--backend", backend, *options)
    for backend in ("numpy", "numba")
    for size, options in {
        "batches of 64": ("--batch-size", "64", "--epochs", "3"),
        "full batch": ("--batch-size", "full", "--epochs", "30", "--evaluate-every", "7"),
    }.items()
}  # name of a kind of training -> its options


class Ended(NamedTuple):
    """How a training ended.

    Attributes:
        code: its exit code, or minus the number of the signal that ended it.
        out: what it printed.
        errors: what it printed on stderr.
        seconds: how long it took.
        came: how often each of `MOMENTS` came.
        inside: whether it ended inside a save.
    """

    code: int
    out: str
    errors: str
    seconds: float
    came: dict[str, int]
    inside: bool


class Trainings:
    """A process that forks a training when it is asked to, with all that one imports and compiles in memory.

    Args:
        folder: where the trainings are started.
        cases: the kinds of training, of `CASES`, that are brought into memory.
        inside: the command that runs it, before `python ...`, such as one that changes what it sees of the disk.
    """

    def __init__(self, folder: Path, cases: Iterable[str], *, inside: Sequence[str] = ()) -> None:
        self.folder = folder
        command = [*inside, sys.executable, PROGRAM, "start", *cases]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        self.pid = self._process.pid

    def __enter__(self) -> "Trainings":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def run(self, *arguments: str, **order: Any) -> Ended:
        """Run `xpnn ARGUMENTS` in a process of its own.

        Args:
            arguments: of the command line.
            order: chunk_seconds, checkpoint_seconds: the product's constants, its own by default.
                after: seconds after which it is killed from outside.
                moment, number, part: the moment of `MOMENTS` at which `deed` is done, the how manieth of its name it
                is, and what part of the bytes is written before.
                deed: "kill", or "fill": a file `filler` in the folder then takes all of the room but for `room` bytes.
                limit: bytes that no file may be longer than.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # then there is no answer
            self._process.stdin.write(json.dumps({"arguments": arguments, **order}) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"no training could be started: {self._process.communicate()[1]}")
        return Ended(**json.loads(answer))


def state_of(folder: Path) -> dict[str, Any]:
    """Return all that a finished run leaves but times, by what it is; equal if and only if it is the same bit for bit.

    Loss and accuracy are of this kind: floats that are written as the shortest text that gives the same float.
    """
    from xpnn import nn

    checkpoint, net = nn.Checkpoint.load(folder / "checkpoint.safetensors"), nn.load(folder / "model.safetensors")
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {
        "files": sorted(path.name for path in folder.iterdir() if path.name != ".lock"),
        "config": json.loads((folder / "config.json").read_text(encoding="utf-8")),
        "model": _bits(net.parameters()) | {"scale": net.input_scale, "names": net.class_names},
        **_untimed(vars(checkpoint)),  # the generator's state, step, epoch, position, totals and what else there is
        "parameters": _bits(checkpoint.parameters),
        "optimizer_state": _bits(checkpoint.optimizer_state),
        "history": [_untimed(vars(result)) for result in checkpoint.history],
        "metrics": [_untimed(json.loads(line)) for line in lines],
        "summary": _untimed(summary),
    }


def differences(state: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return in what two states differ."""
    return sorted(name for name in state.keys() | other.keys() if state.get(name) != other.get(name))


def _bits(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def _untimed(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: figure for name, figure in figures.items() if not name.endswith("seconds")}

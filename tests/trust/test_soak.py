"""Trainings one after the other in one process hold no more of the system than the first ones did."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from .trainings import PROGRAM

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")

FIRST = 10  # trainings, after which everything is imported, compiled and drawn once
MIB = 2**20
MOST_GROWTH = 1 * MIB  # in all; 20 KiB up and down is what was seen


class Held(NamedTuple):
    """What the process holds after a training."""

    memory: int  # bytes
    open_files: int
    threads: int
    temporary_files: int


def growth(held):
    """Return by how many bytes the memory of the last trainings is more than that of those after the first ten."""
    after = [each.memory for each in held[FIRST:]]
    count = min(20, len(after) // 3)
    return statistics.median(after[-count:]) - statistics.median(after[:count])


@pytest.mark.thorough
def test_many_trainings_in_one_process(tmp_path, amount, show):
    times = amount(200, slice=25)
    for name in ("runs", "temporary"):
        Path(tmp_path, name).mkdir()
    program = subprocess.run(
        [sys.executable, PROGRAM, "soak", str(times)],
        cwd=tmp_path / "runs", env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert program.returncode == 0, program.stderr
    held = [Held(*json.loads(line)) for line in program.stdout.splitlines()]
    assert len(held) == times
    assert len(list(Path(tmp_path, "runs").iterdir())) == -(-times // 5)
    assert {each.open_files for each in held[FIRST:]} == {held[FIRST - 1].open_files}
    assert {each.threads for each in held[FIRST:]} == {held[FIRST - 1].threads}
    assert {each.temporary_files for each in held} == {0}
    assert growth(held) <= MOST_GROWTH, [round(each.memory / MIB, 2) for each in held]
    show(
        10,
        "trainings one after the other in one process, after the tenth",
        f"{times} trainings: memory {growth(held) / MIB:+.2f} MiB; as many open files and threads, no temporary file",
    )


@pytest.mark.parametrize(("each", "seen"), [(0, 0), (100_000, 5_000_000)])
def test_growth_is_what_the_middle_of_the_last_is_above_the_first(each, seen):
    held = [Held(number * each, 9, 3, 0) for number in range(80)]
    assert growth(held) == seen

"""A training on several ranks, one of which is killed at any moment, ends soon, and goes on on another number of them.

What it ends with is bit-identical to what one process gets that nobody disturbs.
"""

import importlib.util
import random
import re
import shutil
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.nn.cli.app import xpnn

from .rank_jobs import Job, kill
from .trainings import differences, state_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds and watches processes as Linux does"),
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed"),
    pytest.mark.skipif(shutil.which("mpiexec") is None, reason="mpiexec is not installed"),
]

EPOCHS, STEPS = 5, 115  # of 23 batches of 64 of the 1,437 digits
OPTIONS = ("--backend", "numpy", "--epochs", str(EPOCHS), "--batch-size", "64", "--reproducible")
RANKS = (1, 2, 4)
# When a rank is killed, in turn: after a step, while a checkpoint is saved, while it starts, after the last step.
MOMENTS = ("step", "save", "start", "step", "end")
# Which of a rank's processes are killed, in turn: the one that trains, the one that watches over it, or both.
VICTIMS = ("worker", "worker", "watcher", "worker", "worker", "both")
CHECKPOINT_SECONDS = (0, 0.3)  # shortest time between two checkpoints
START_SECONDS, END_SECONDS = 3.0, 0.5  # about what a job takes before its first step and after its last
MOST_KILLS = 3  # of one run


@dataclass
class Counts:
    """What was done, and what came of it.

    Attributes:
        moments: how many ranks were killed at each kind of moment, as it turned out.
        ranks: of how many ranks one was killed.
        seconds: from each kill to the end of the job's last process.
        lost: steps that the job had taken after its last checkpoint, by the shortest time between two checkpoints.
        named: how often stderr told the rank and what killed it.
        both: how often the process that watches over the rank was killed together with it.
        early: how often the rank was killed before it was watched over, or had no launcher to tell anybody.
        runs: that were brought to their end.
    """

    moments: Counter[str] = field(default_factory=Counter)
    ranks: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lost: dict[float, list[int]] = field(default_factory=dict)
    named: int = 0
    both: int = 0
    early: int = 0
    runs: int = 0


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """What the training leaves that one process does and nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    result = CliRunner().invoke(xpnn, ["train", "--quiet", "--out", str(folder), *OPTIONS])
    assert result.exit_code == 0, result.output
    assert step_of(folder) == STEPS
    return left_by(folder)


def left_by(run):
    """Return all that a finished run leaves but times and the number of ranks that finished it."""
    state = state_of(run)
    assert state["summary"].pop("ranks") in RANKS
    return state


def step_of(run):
    """Return the step of a run's checkpoint, which must be whole; 0 where there is none."""
    path = run / "checkpoint.safetensors"
    return nn.Checkpoint.load(path).step if path.exists() else 0


def start(run, ranks, *, launched=True, **order):
    """Start a run on some ranks, or go on with it, with a checkpoint after every step."""
    begin = ("--resume", run.name) if (run / "config.json").exists() else ("--out", run.name, *OPTIONS)
    distributed = ("--distributed",) if launched else ()
    pace = {"chunk_seconds": 0, "checkpoint_seconds": 0}
    return Job(run.parent, ranks, ("train", *begin, *distributed), launched=launched, **(pace | order))


def comes(job, moment, rank, step, share):
    """Wait for the moment of a kill, and return whether it came before the job's end."""
    if moment == "start":
        return not job.wait(share * START_SECONDS)
    if moment == "end":
        return job.wait_until(lambda: job.steps(rank) == STEPS) and not job.wait(share * END_SECONDS)
    has_come = job.wait_until(lambda: job.steps(rank) >= step)
    return has_come and (moment == "step" or job.wait_until(lambda: job.is_saving, look=0))


def killed(run, ranks, generator, counts):
    """Go on with a run on some ranks, and kill one of them; return whether that came before the end."""
    before, launched = step_of(run), ranks > 1 or generator.random() < 0.5
    rank, share, step = generator.randrange(ranks), generator.random(), generator.randint(min(before + 1, STEPS), STEPS)
    moment = "start" if before == STEPS else MOMENTS[len(counts.seconds) % len(MOMENTS)]
    victim = VICTIMS[(counts.named + counts.both) % len(VICTIMS)]
    every = 0 if moment == "save" else generator.choice(CHECKPOINT_SECONDS)
    with start(run, ranks, launched=launched, checkpoint_seconds=every) as job:
        if not comes(job, moment, rank, step, share):
            assert job.end().code == 0, job.errors()
            return False
        processes, steps, is_saving = job.processes_of(rank), job.steps(rank), job.is_saving
        chosen = {"worker": processes[-1:], "watcher": processes[:1], "both": processes}[victim]
        killed_at = time.monotonic()
        for pid in chosen:
            kill(pid)
        ended = job.end()
        seconds = time.monotonic() - killed_at
        if ended.code == 0:  # it came when all was done
            return False
        what = (moment, victim, ranks, rank, ended)
        assert ended.left == [], what
        saved = step_of(run)  # whole
        counts.lost.setdefault(every, []).append(max(0, max(map(job.steps, range(ranks))) - max(saved, before)))
    counts.seconds.append(seconds)
    counts.ranks[f"{ranks}" if launched else "1 without mpiexec"] += 1
    counts.moments[
        "while it started" if steps == 0 else "after the last step" if steps == STEPS
        else "while a checkpoint was saved" if is_saving else "between two checkpoints"
    ] += 1  # fmt: skip
    if len(processes) < 2:
        counts.early += 1
    elif victim == "both":
        counts.both += 1
    else:
        end = "was killed by SIGKILL" if victim == "worker" else "ends, as its parent was killed"
        assert re.search(rf"rank {rank} \(process {processes[-1]} on [^)]+\) {end}", ended.errors), what
        counts.named += 1
    return True


def test_killed_ranks_end_the_job_and_other_numbers_of_ranks_go_on(tmp_path, state, amount, show):
    kills, generator, counts, run = amount(20, slice=2), random.Random(7), Counts(), tmp_path / "run"
    numbers = RANKS[: amount(3, slice=2)]
    while len(counts.seconds) < kills:
        until = min(kills, len(counts.seconds) + generator.randint(2, MOST_KILLS))
        ranks = generator.choice(numbers[1:])
        while len(counts.seconds) < until and killed(run, ranks, generator, counts):
            ranks = generator.choice([number for number in numbers if number != ranks])
        ended = finished(run, ranks)
        assert differences(left_by(run), state) == [], ended
        shutil.rmtree(run)
        counts.runs += 1
    assert counts.named > 0
    assert counts.both > 0 or not amount(1, slice=0)
    report(show, counts)


def finished(run, ranks):
    """Let a run go on to its end on some ranks."""
    with start(run, ranks) as job:
        ended = job.end()
    assert (ended.code, ended.left) == (0, []), ended
    return ended


def report(show, counts):
    """Put the figures on the page."""
    kills, runs = len(counts.seconds), counts.runs
    lost = ", ".join(
        f"{statistics.median(steps):g} ({max(steps)}) with a checkpoint every {every} s"
        if every
        else f"{statistics.median(steps):g} ({max(steps)}) with a checkpoint after each"
        for every, steps in sorted(counts.lost.items())
    )
    rows = {
        "kill -9 of a random rank at a random moment; resumed on another number of ranks": (
            f"{kills} of {kills} jobs ended with a code other than 0, left no process and a whole checkpoint; "
            f"{runs} of {runs} runs, of which they were, ended bit-identical to one process that nobody disturbed"
        ),
        "kill -9: when, and on how many ranks": f"{told(counts.moments)}; on {told(counts.ranks)}",
        "kill -9: which rank it was": (
            f"named on stderr {counts.named} times of {counts.named}, the process that trains being killed or the one "
            f"that watches over it; not named {counts.both} times that both were killed at once, and {counts.early} "
            "times before any watched or where none does"
        ),
        "kill -9: until the last process of the job had ended": (
            f"median {statistics.median(counts.seconds):.1f} s, most {max(counts.seconds):.1f} s"
        ),
        "kill -9: steps that had to be taken again": f"of {STEPS}, median (most): {lost}",
    }
    for name, seen in rows.items():
        show(12, name, seen, section="ranks")


def told(counter):
    """Return what was counted, in words."""
    return ", ".join(f"{name}: {count}" for name, count in sorted(counter.items()))


FAULTS = {
    "raise": ("an exception on a rank", r"rank {rank}\b.*this rank has had enough"),
    "segfault": ("a rank that crashes (SIGSEGV)", r"rank {rank} \(process \d+ on [^)]+\) was killed by SIGSEGV"),
    "exit": (
        "a rank that exits with code 3, without a word",
        r"rank {rank} \(process \d+ on \S+\) exited with code 3",
    ),
}  # what `rank_process.py` does -> what that is, and what stderr says of it
FAILING = [(fault, ranks, rank) for fault in FAULTS for ranks, rank in ((2, 1), (4, 3), (4, 0))]


def test_a_rank_that_fails_ends_the_job(tmp_path, state, amount, show):
    seconds, half = dict.fromkeys(FAULTS, 0.0), STEPS // 2
    for fault, ranks, rank in FAILING[: amount(len(FAILING), slice=1)]:
        run = tmp_path / f"{fault}-{rank}-of-{ranks}"
        with start(run, ranks, fail=fault, rank=rank, step=half) as job:
            assert job.wait_until(partial(has_taken, job, rank, half)), job.errors()
            failed_at = time.monotonic()
            ended = job.end()
            seconds[fault] = max(seconds[fault], time.monotonic() - failed_at)
        assert ended.code != 0
        assert ended.left == []
        assert re.search(FAULTS[fault][1].format(rank=rank), ended.errors), ended.errors
        assert 0 < step_of(run) <= half
        finished(run, 1 if ranks == 2 else 2)
        assert differences(left_by(run), state) == []
    for fault, (name, _) in FAULTS.items():
        show(
            13,
            name,
            f"3 of 3 jobs ended with a code other than 0 and the rank on stderr, and left no process, in "
            f"{seconds[fault]:.1f} s at most; resumed, bit-identical",
            section="ranks",
        )


def has_taken(job, rank, steps):
    """Return whether a rank has said that it has taken so many steps."""
    return job.steps(rank) >= steps


def test_numbers_that_overflow_on_a_rank_end_the_job(tmp_path, amount, show):
    """One row is huge, and of the full batch, whose rows keep their order, one rank alone has it."""
    images, labels = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32), np.arange(64) % 3
    images[40], seconds = 3e38, []
    np.savez(tmp_path / "rows.npz", x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    for ranks, rank in [(2, 1), (4, 2)][: amount(2, slice=1)]:
        out = tmp_path / f"run{ranks}"
        options = (
            "--data",
            "rows.npz",
            "--backend",
            "numpy",
            "--batch-size",
            "full",
            "--reproducible",
            "--distributed",
        )
        with Job(tmp_path, ranks, ("train", "--quiet", "--out", out.name, *options)) as job:
            assert job.wait_until((out / "checkpoint.safetensors").exists)  # saved before the first step
            begun = time.monotonic()
            ended = job.end()
            seconds.append(time.monotonic() - begun)
        assert (ended.code, ended.left) == (1, []), ended.errors
        lines = [line for line in ended.errors.splitlines() if "the training diverged" in line]
        assert len(lines) == 1, ended.errors
        assert re.search(rf"diverged in epoch 1, step 1 of 1: rank {rank}: .*(inf|nan) in ", lines[0]), lines
        assert step_of(out) == 0
        assert not (out / "model.safetensors").exists()
    show(
        13,
        "finite numbers in one row that overflow on the rank that has it",
        f"{len(seconds)} of {len(seconds)} jobs ended with exit code 1 and one line that names rank, step and array, "
        f"left no process and kept the last checkpoint; most {max(seconds):.1f} s",
        section="ranks",
    )

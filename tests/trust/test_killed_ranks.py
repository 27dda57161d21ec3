"""A training on several ranks, one of which is killed at any moment: it ends soon, and any number of ranks resumes it.

What that ends with is bit-identical to what one process gets that nobody disturbs.
"""

import importlib.util
import random
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

from .rank_jobs import Job
from .trainings import differences, state_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds and watches processes as Linux does"),
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed"),
    pytest.mark.skipif(shutil.which("mpiexec") is None, reason="mpiexec is not installed"),
]

EPOCHS, STEPS = 5, 115  # of 23 batches of 64 of 1,437 rows
OPTIONS = ("--backend", "numpy", "--epochs", str(EPOCHS), "--batch-size", "64", "--reproducible")
RANKS = (1, 2, 4)
# When a rank is killed, in turn: after a step, while a checkpoint is saved, while it starts, after the last step.
MOMENTS = ("step", "save", "start", "step", "end")
CHECKPOINT_SECONDS = (0, 0.3)  # shortest time between two checkpoints
START_SECONDS, END_SECONDS = 3.0, 0.5  # about what a job takes before its first step and after its last
MOST_KILLS = 3  # of one run
PROMISED_SECONDS = 10.0  # from the end of a rank to that of the job; held where all of the experiments are done


@dataclass
class Counts:
    """What was done, and what came of it.

    Attributes:
        moments: how many ranks were killed at each kind of moment, as it turned out.
        ranks: of how many ranks one was killed.
        seconds: from each kill to the end of the job's last process.
        lost: steps that the job had taken after its last checkpoint, by the shortest time between two checkpoints.
        named: how often the launcher said that a process was killed by signal 9.
        runs: that were brought to their end.
    """

    moments: Counter[str] = field(default_factory=Counter)
    ranks: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lost: dict[float, list[int]] = field(default_factory=dict)
    named: int = 0
    runs: int = 0


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The rows as a file, by its path: no rank has to import scikit-learn for the digits."""
    images = np.random.default_rng(1).integers(0, 17, (1797, 64), dtype=np.uint8)  # (rows, features)
    labels, path = np.argmax(images[:, :10], axis=1), tmp_path_factory.mktemp("rows") / "rows.npz"
    np.savez(path, x_train=images[:1437], y_train=labels[:1437], x_test=images[1437:], y_test=labels[1437:])
    return str(path)


@pytest.fixture(scope="module")
def state(tmp_path_factory, rows):
    """What the training leaves that one process does and nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train_alone("--out", str(folder), "--data", rows, *OPTIONS)
    assert step_of(folder) == STEPS
    return left_by(folder)


def train_alone(*options):
    """Train in this process, without a picture, which takes longer than the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        result = CliRunner().invoke(xpnn, ["train", "--quiet", *options])
    assert result.exit_code == 0, result.output


def left_by(run):
    """Return all that a finished run leaves but times, pictures and the number of ranks that finished it."""
    state = state_of(run)
    state["files"] = [name for name in state["files"] if name != "curves.png"]
    assert state["summary"].pop("ranks") in RANKS
    return state


def step_of(run):
    """Return the step of a run's checkpoint, which must be whole; 0 where there is none."""
    path = run / "checkpoint.safetensors"
    return nn.Checkpoint.load(path).step if path.exists() else 0


def start(run, rows, ranks, **order):
    """Start a run on some ranks, or resume it, with a checkpoint after every step."""
    begin = ("--resume", run.name) if (run / "config.json").exists() else ("--out", run.name, *OPTIONS)
    pace = {"chunk_seconds": 0, "checkpoint_seconds": 0}
    return Job(run.parent, ranks, ("train", *begin, "--data", rows, "--distributed"), **(pace | order))


def finish(run, rows, ranks, state):
    """Resume a run on some ranks to its end, which must be that of the undisturbed one."""
    if ranks == 1:
        train_alone("--resume", str(run), "--data", rows)
    else:
        with start(run, rows, ranks) as job:
            ended = job.end()
        assert (ended.code, ended.left) == (0, []), ended
    assert differences(left_by(run), state) == []


def comes(job, moment, rank, step, share):
    """Wait for the moment of a kill, and return whether it came before the job's end."""
    if moment == "start":
        return job.wait_until(lambda: job.pid(rank) > 0) and not job.wait(share * START_SECONDS)
    if moment == "end":
        return job.wait_until(lambda: job.steps(rank) == STEPS) and not job.wait(share * END_SECONDS)
    has_come = job.wait_until(lambda: job.steps(rank) >= step)
    return has_come and (moment == "step" or job.wait_until(lambda: job.is_saving, look=0))


def killed(run, rows, ranks, generator, counts, last):
    """Resume a run on some ranks, and kill one of them, at step `last` at the latest if at a step.

    Returns whether that came before the end.
    """
    before = step_of(run)
    rank, share, step = generator.randrange(ranks), generator.random(), generator.randint(min(before + 1, last), last)
    moment = "start" if before == STEPS else MOMENTS[len(counts.seconds) % len(MOMENTS)]
    every = 0 if moment == "save" else generator.choice(CHECKPOINT_SECONDS)
    with start(run, rows, ranks, checkpoint_seconds=every) as job:
        if not comes(job, moment, rank, step, share):
            assert job.end().code == 0, job.said()
            return False
        steps, is_saving, killed_at = job.steps(rank), job.is_saving, time.monotonic()
        job.kill(rank)
        ended = job.end()
        seconds = time.monotonic() - killed_at
        if ended.code == 0:  # it came when all was done
            return False
        assert ended.left == [], (moment, ranks, rank, ended)
        counts.named += "signal 9" in ended.said  # the launcher's own words; it may have others
        saved = step_of(run)  # whole
        counts.lost.setdefault(every, []).append(max(0, max(map(job.steps, range(ranks))) - max(saved, before)))
    counts.seconds.append(seconds)
    counts.ranks[ranks] += 1
    counts.moments[
        "while it started" if steps == 0 else "after the last step" if steps == STEPS
        else "while a checkpoint was saved" if is_saving else "between two checkpoints"
    ] += 1  # fmt: skip
    return True


def test_killed_ranks_end_the_job_and_other_numbers_of_ranks_resume_it(
    tmp_path, rows, state, pytestconfig, amount, show
):
    kills, generator, counts, run = amount(20, slice=1), random.Random(7), Counts(), tmp_path / "run"
    numbers, last = RANKS[: amount(3, slice=2)], amount(STEPS, slice=12)
    while len(counts.seconds) < kills:
        until = min(kills, len(counts.seconds) + generator.randint(2, MOST_KILLS))
        ranks = generator.choice(numbers[1:])
        while len(counts.seconds) < until and killed(run, rows, ranks, generator, counts, last):
            ranks = generator.choice([number for number in numbers if number != ranks])
        finish(run, rows, ranks, state)
        shutil.rmtree(run)
        counts.runs += 1
    assert max(counts.seconds) < PROMISED_SECONDS or not pytestconfig.getoption("--trust")
    report(show, counts)


def report(show, counts):
    """Put the figures on the page."""
    kills, runs = len(counts.seconds), counts.runs
    lost = ", ".join(
        f"{statistics.median(steps):g} ({max(steps)}) with a checkpoint "
        + (f"every {every} s" if every else "after each")
        for every, steps in sorted(counts.lost.items())
    )
    rows = {
        "kill -9 of a random rank at a random moment; resumed on another number of ranks": (
            f"{kills} of {kills} jobs ended with a code other than 0, left no process and a whole checkpoint; "
            f"{runs} of {runs} runs, of which they were, ended bit-identical to one process that nobody disturbed"
        ),
        "kill -9: when, and on how many ranks": f"{told(counts.moments)}; on {told(counts.ranks)}",
        "kill -9: said by the launcher": f"{counts.named} times of {kills}",
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
    "raise": ("an exception on a rank", "xpnn: rank {rank}: unexpected RuntimeError: this rank has had enough"),
    "segfault": ("a rank that crashes (SIGSEGV)", "signal 11"),
    "exit": ("a rank that calls os._exit(0)", ""),
}  # what `rank_process.py` does -> what that is, and what is said of it
FAILING = [(fault, ranks, rank) for fault in FAULTS for ranks, rank in ((2, 1), (4, 3), (4, 0))]


def test_a_rank_that_fails_ends_the_job(tmp_path, rows, state, pytestconfig, amount, show):
    seconds, half = dict.fromkeys(FAULTS, 0.0), amount(STEPS // 2, slice=12)
    for fault, ranks, rank in FAILING[: amount(len(FAILING), slice=1)]:
        run = tmp_path / f"{fault}-{rank}-of-{ranks}"
        with start(run, rows, ranks, fail=fault, rank=rank, step=half) as job:
            taken = partial(has_taken, job, rank, half)
            assert job.wait_until(taken) or taken(), job.said()  # it may have ended between two looks
            failed_at = time.monotonic()
            ended = job.end()
            seconds[fault] = max(seconds[fault], time.monotonic() - failed_at)
        assert ended.code != 0 or fault == "exit"  # the launcher may pass on what that rank returned
        assert not (run / "summary.json").exists()
        assert ended.left == []
        assert FAULTS[fault][1].format(rank=rank) in ended.said
        assert 0 < step_of(run) <= half
        finish(run, rows, 1 if ranks == 2 else 2, state)
    assert max(seconds.values()) < PROMISED_SECONDS or not pytestconfig.getoption("--trust")
    for fault, (name, _) in FAULTS.items():
        show(
            13,
            name,
            f"3 of 3 jobs ended{' with a code other than 0' * (fault != 'exit')} and left no process, in "
            f"{seconds[fault]:.1f} s at most; resumed, bit-identical",
            section="ranks",
        )


def has_taken(job, rank, steps):
    """Return whether a rank has said that it has taken so many steps."""
    return job.steps(rank) >= steps

"""A training run that is killed at any moment, and resumed, ends bit-identical to one that nobody disturbed."""

import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .trainings import APPENDING, CASES, MAKING, SAVING, Ended, Trainings, differences, state_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watches and kills forked processes as Linux does")

KILLED = -9
# How often a run is killed from outside at any time, and how often at a moment of one of these kinds.
KINDS = {"outside": 10, "saving": 10, "appending": 3, "making": 1}
SLICE = ("saving", "appending", "making", "saving")  # at moments alone, which come whatever else the machine does
PACES = ({"chunk_seconds": 0, "checkpoint_seconds": 0}, {"chunk_seconds": 2e-3, "checkpoint_seconds": 0})
MOST_KILLS = 4  # of one run


@dataclass
class Case:
    """A kind of training that nobody disturbed."""

    options: tuple[str, ...]
    state: dict[str, Any]
    probes: list[Ended]  # for each of the paces


@dataclass
class Counts:
    """What was done to all runs."""

    inside: int = 0
    runs_inside: int = 0
    killed_again: int = 0
    before_checkpoint: int = 0


def case_of(trainings: Trainings, name: str, paces: Sequence[dict[str, float]]) -> Case:
    """Train undisturbed, at the product's own pace and at those at which it will be killed."""
    probes, states = [], []
    for number, pace in enumerate(({}, *paces)):
        folder = f"{name} {number}"
        probes.append(trainings.run("train", "--out", folder, *CASES[name], **pace))
        assert probes[-1].code == 0, probes[-1].errors
        states.append(state_of(trainings.folder / folder))
    assert [differences(states[0], state) for state in states[1:]] == [[]] * len(paces)
    assert all(probe.came["while writing"] > 10 for probe in probes[1:])
    return Case(CASES[name], states[0], probes[1:])


def drawn_kill(generator: random.Random, probe: Ended, kind: str) -> dict[str, Any]:
    """Draw a kill at any time, or at any one of the moments of a kind."""
    if kind == "outside":
        return {"after": generator.uniform(0, probe.seconds)}
    moment = generator.choice({"saving": SAVING, "appending": APPENDING, "making": MAKING}[kind])
    number = generator.randint(1, probe.came[moment])
    return {"moment": moment, "number": number, "part": generator.random(), "deed": "kill"}


def one_line(ended: Ended) -> str:
    """Return the one line that a command says when it refuses."""
    assert ended.code == 2, ended
    (line,) = ended.errors.splitlines()
    assert line.startswith("xpnn: ")
    return line


def test_killed_runs_end_as_if_nothing_had_happened(tmp_path, amount, show):
    runs, generator, counts = amount(200, slice=len(SLICE)), random.Random(9), Counts()
    names, paces = list(CASES)[: amount(4, slice=1)], PACES[: amount(2, slice=1)]
    with Trainings(tmp_path, names) as trainings:
        cases = [case_of(trainings, name, paces) for name in names]
        for number in range(runs):
            case = cases[number % len(cases)]
            (kind,) = generator.choices(list(KINDS), list(KINDS.values()))
            kind = amount(kind, slice=SLICE[number % len(SLICE)])
            folder = tmp_path / "run"
            kills: list[str] = []
            while not kills:  # a moment can come later than the run's end
                shutil.rmtree(folder, ignore_errors=True)
                kills = killed_and_resumed(trainings, folder, case, kind, generator, counts)
            assert differences(state_of(folder), case.state) == [], (number, case.options, kills)
            counts.killed_again += len(kills) > 1
    assert 4 * counts.runs_inside >= runs
    show(
        1,
        "kill -9 at random moments of a run, resumed",
        f"{runs} of {runs} ended bit-identical; {counts.inside} kills inside a save, "
        f"{counts.killed_again} runs killed more than once, {counts.before_checkpoint} before their first checkpoint",
    )


def killed_and_resumed(
    trainings: Trainings, folder: Path, case: Case, kind: str, generator: random.Random, counts: Counts
) -> list[str]:
    """Kill a run, a third of all more than once, and let it end; return at what moments it was killed."""
    arguments: tuple[str, ...] = ("train", "--out", folder.name, *case.options)
    wanted = 1 if generator.random() < 2 / 3 else generator.randint(2, MOST_KILLS)
    kills: list[str] = []
    inside = 0
    while True:
        at = generator.randrange(len(case.probes))
        kill = drawn_kill(generator, case.probes[at], kind) if len(kills) < wanted else {}
        ended = trainings.run(*arguments, **PACES[at], **kill)
        if ended.code != KILLED:
            break
        kills.append(str(kill))
        inside += ended.inside
        arguments = ("train", "--resume", folder.name)
        counts.before_checkpoint += not (folder / "checkpoint.safetensors").exists()
        if not (folder / "config.json").exists():  # there is nothing to go on with, and it says so
            assert "is no run folder" in one_line(trainings.run(*arguments))
            arguments = ("train", "--out", folder.name, *case.options)
    assert ended.code == 0, (case.options, kills, ended.errors)
    counts.inside += inside
    counts.runs_inside += inside > 0
    return kills

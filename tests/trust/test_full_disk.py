"""A disk that fills up, a file that may grow no further, a folder that may not be written: the old checkpoint stays."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from xpnn import nn

from .trainings import CASES, PROGRAM, Trainings, differences, state_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and file systems")

NAMES = ("numpy, batches of 64", "numpy, full batch")
OFTEN = {"chunk_seconds": 0, "checkpoint_seconds": 0}
SMALL_DISK = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m none "$0" && cd "$0" && exec "$@"')
AS_ANYBODY = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")  # root may then write what others may
FIRST_SAVES = 3  # configuration, metrics, the first checkpoint
LAST_SAVES = 3  # model, curves, summary
KIB = 1024
KILLED = -9


def refused_room(ended, reason):
    """Hold a run that found no room to exit code 1 and one line that names the file."""
    assert ended.code == 1, ended
    (line,) = [line for line in ended.errors.splitlines() if not line.startswith("epoch ")]
    assert line.startswith("xpnn: cannot write run/"), line
    assert reason in line


def temporaries(folder):
    return [path.name for path in folder.rglob("*.tmp")]


def runs_here(*command):
    """Whether this system permits a command."""
    return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


class Undisturbed(NamedTuple):
    """What a run leaves that has all the room it wants, and how often each moment comes in it."""

    state: dict[str, Any]
    came: dict[str, int]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """Trainings on a disk of 1 MiB and without root's right to write anywhere, as far as the system permits it."""
    folder = tmp_path_factory.mktemp("disk")
    small = (*SMALL_DISK, str(folder)) if runs_here(*SMALL_DISK, folder) else ()
    modest = AS_ANYBODY if os.geteuid() == 0 and runs_here(*AS_ANYBODY) else ()
    with Trainings(folder, NAMES, inside=(*small, *modest)) as trainings:
        if small:
            trainings.folder = Path(f"/proc/{trainings.pid}/root{folder}")  # only that process sees the disk
        yield trainings


@pytest.fixture(scope="module")
def undisturbed(trainings):
    """Name of a case -> what it is when undisturbed."""
    cases = {}
    for name in NAMES:
        ended = trainings.run("train", "--out", "run", *CASES[name], **OFTEN)
        assert ended.code == 0, ended.errors
        cases[name] = Undisturbed(state_of(trainings.folder / "run"), ended.came)
        shutil.rmtree(trainings.folder / "run")
    return cases


@pytest.fixture
def run(trainings):
    """The run folder, empty before and after."""
    yield trainings.folder / "run"
    shutil.rmtree(trainings.folder / "run", ignore_errors=True)
    (trainings.folder / "filler").unlink(missing_ok=True)


def test_a_small_disk_fills_up_while_it_trains(trainings, undisturbed, run, amount, show):
    disk, generator, runs, places = trainings.folder, random.Random(5), amount(48, slice=2), set()
    if shutil.disk_usage(disk).total != 1024 * KIB:
        pytest.skip("no file system can be mounted here")
    for number in range(runs):
        name = NAMES[number % 2]
        state, came = undisturbed[name]
        if number % 4 == 1:  # the next lines of metrics.jsonl fill up its last block
            moment, pace, room, at = "while appending", {}, 0, generator.randint(1, came["while appending"] // 2)
        elif number % 4 == 3:
            moment, pace, room, at = "while writing", OFTEN, 0, came["while writing"] - generator.randrange(LAST_SAVES)
        else:
            moment, pace, room = "while writing", OFTEN, generator.choice((0, 4 * KIB, 16 * KIB))
            at = generator.randint(FIRST_SAVES + 1, came[moment])
        deed = {"moment": moment, "number": at, "deed": "fill", "room": room}
        full = trainings.run("train", "--out", "run", *CASES[name], **pace, **deed)
        refused_room(full, "No space left on device")
        places.add(full.errors.splitlines()[-1].split()[3])
        assert temporaries(disk) == []
        assert nn.Checkpoint.load(run / "checkpoint.safetensors").epoch >= 1
        assert all(json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
        refused_room(trainings.run("train", "--resume", "run", **pace), "No space left on device")
        assert temporaries(disk) == []
        (disk / "filler").unlink()
        resumed = trainings.run("train", "--resume", "run")
        assert resumed.code == 0, resumed.errors
        assert differences(state_of(run), state) == [], (name, deed)
        shutil.rmtree(run)
    assert len(places) == amount(5, slice=2), places  # different files had no room
    show(
        3,
        "a disk of 1 MiB that fills up while a run trains",
        f"{runs} of {runs} ended with exit code 1 and one line, kept the last checkpoint and no other trace, "
        "and went on bit-identical with room",
    )


def test_a_checkpoint_is_saved_whole_or_not_at_all(tmp_path, show):
    step = 4 * KIB
    program = subprocess.run(
        [sys.executable, PROGRAM, "save", str(step)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    saves = json.loads(program.stdout)
    size, seen = saves["size"], saves["seen"]
    assert [limit for limit, *_ in seen] == list(range(0, size + 2 * step, step))
    for limit, outcome, is_old, steps, files in seen:
        assert files == ["checkpoint.safetensors"]
        if limit < size:
            assert outcome == "StorageError: cannot write checkpoint.safetensors: File too large"
            assert (is_old, steps) == (True, 0), limit
        else:
            assert (outcome, is_old, steps) == ("saved", False, 1), limit
    refused = sum(limit < size for limit, *_ in seen)
    show(
        3,
        "RLIMIT_FSIZE at every 4 KiB of a checkpoint that is saved over another",
        f"{refused} of {refused} left the old one byte for byte; past its size, saved",
    )


def test_a_run_whose_files_may_grow_no_further(trainings, undisturbed, run, amount, show):
    state, came = undisturbed[NAMES[0]]
    half = trainings.folder / "half"
    middle = {"moment": "before rename", "number": came["before rename"] // 2, "deed": "kill"}
    assert trainings.run("train", "--out", "half", *CASES[NAMES[0]], **OFTEN, **middle).code == KILLED
    checkpoint = (half / "checkpoint.safetensors").read_bytes()
    codes = []
    for limit in [*amount(range(0, 80 * KIB, 4 * KIB), slice=(0, 20 * KIB)), 128 * KIB]:
        for begin in (("--resume", "run"), ("--out", "run", *CASES[NAMES[0]])):
            if begin[0] == "--resume":
                shutil.copytree(half, run)
            ended = trainings.run("train", *begin, **OFTEN, limit=limit)
            codes.append(ended.code)
            if begin[0] == "--resume" and limit < len(checkpoint):
                assert ended.code == 1
                assert (run / "checkpoint.safetensors").read_bytes() == checkpoint
                assert nn.Checkpoint.load(run / "checkpoint.safetensors").epoch == 2
            if ended.code != 0:
                refused_room(ended, "File too large")
                assert temporaries(run) == []
                ended = trainings.run("train", *(("--resume", "run") if (run / "config.json").exists() else begin))
            assert ended.code == 0, ended.errors
            assert differences(state_of(run), state) == [], (limit, begin)
            shutil.rmtree(run)
    assert codes[:2] == [1, 1]
    assert codes[-2:] == [0, 0]
    show(
        3,
        "RLIMIT_FSIZE at steps of 4 KiB under a whole run, new and resumed",
        f"{codes.count(1)} runs ended with exit code 1, the old checkpoint and no other trace; "
        "without the limit, all went on bit-identical",
    )


def test_a_folder_that_becomes_read_only(trainings, undisturbed, run):
    kill = {"moment": "after fsync of the folder", "number": 20, "deed": "kill"}
    assert trainings.run("train", "--out", "run", *CASES[NAMES[0]], **OFTEN, **kill).code == KILLED
    if os.geteuid() == 0 and not runs_here(*AS_ANYBODY):
        pytest.skip("root may write into any folder, and setpriv cannot take that from it")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    run.chmod(0o500)
    try:
        ended = trainings.run("train", "--resume", "run", **OFTEN)
        assert ended.code == 1
        (line,) = ended.errors.splitlines()
        assert line.startswith("xpnn: cannot write ")
        assert "run" in line
        assert "Permission denied" in line
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    finally:
        run.chmod(0o700)
    assert trainings.run("train", "--resume", "run").code == 0
    assert differences(state_of(run), undisturbed[NAMES[0]].state) == []

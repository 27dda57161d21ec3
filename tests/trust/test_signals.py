"""SIGINT and SIGTERM at any moment of a real process: it ends soon, with the exit code for it, and loses nothing."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import cache

import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.nn.cli.app import xpnn

from .trainings import differences, state_of

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SIZE = ("--epochs", "120", "--batch-size", "64")
KINDS = {
    "numpy": ("--backend", "numpy", *SIZE),
    "numba": ("--backend", "numba", *SIZE, "--dtype", "float64"),
    "numba, compiling": ("--backend", "numba", *SIZE, "--dtype", "float64"),
}  # what is trained -> its options
COLD_TURN = 5  # one in so many runs compiles all of its kernels, and is stopped while it does
PROGRAM = """
import io, sys
from xpnn.nn.cli import main

class Stderr(io.TextIOWrapper):
    def write(self, text):
        if text.startswith("epoch 24/"):
            sys.stdin.read()
        return super().write(text)

sys.stderr = Stderr(sys.stderr.buffer, line_buffering=True)
main()
"""  # `xpnn`, which does not come past epoch 24 before its stdin is closed


def start(folder, *arguments, kernels=None, stdin=subprocess.DEVNULL):
    """Start a training, its kernels kept in the folder `kernels` if there is one."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", *arguments],
        cwd=folder, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | ({} if kernels is None else {"NUMBA_CACHE_DIR": str(kernels)}),
    )  # fmt: skip


def finished(folder, options):
    """Let a run go on to its end, from the beginning if it never came to its folder; return what it left."""
    begin = ("--resume", str(folder)) if (folder / "config.json").exists() else ("--out", str(folder), *options)
    result = CliRunner().invoke(xpnn, ["train", *begin])
    assert result.exit_code == 0, result.output
    return state_of(folder)


def ended_by(process, number):
    """Whether the process ended as one does that this signal ends, or was ended by it before it could say so."""
    return process.returncode in (128 + number, -number)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return what a kind of training leaves that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return cache(lambda *options: finished(folder / "-".join(options), options))


def stopped_in_training(process, *signals):
    """Send signals to a process that trains, each after a delay; let it go on, and return the lines that it prints."""
    while "epoch 12/" not in (line := process.stderr.readline()):
        assert line, process.wait()
    for number, delay in signals:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=delay)
        process.send_signal(number)
    return process.communicate()[1].splitlines()


def is_quiet(lines):
    """Whether nothing but the process's own words is in the lines."""
    return not any("Traceback" in line or "ignored" in line for line in lines)


def test_a_signal_while_it_trains_stops_and_saves(tmp_path, undisturbed, amount):
    run, options = tmp_path / "run", KINDS["numpy"]
    for number in SIGNALS[: amount(2, slice=1)]:
        with start(tmp_path, "--out", "run", *options, stdin=subprocess.PIPE) as process:
            lines = stopped_in_training(process, (number, 0))
        assert process.returncode == 128 + number
        assert lines[-1] == "stopped and saved; resume with: xpnn train --resume run"
        assert is_quiet(lines), lines
        assert 12 < nn.Checkpoint.load(run / "checkpoint.safetensors").epoch < 36
        assert differences(finished(run, options), undisturbed(*options)) == []
        shutil.rmtree(run)


def test_a_second_signal_ends_it_at_once(tmp_path, undisturbed, amount):
    run, options, generator = tmp_path / "run", KINDS["numpy"], random.Random(4)
    for turn in range(amount(16, slice=1)):
        first, second = SIGNALS[turn % 2], SIGNALS[(turn + 1 + turn // 2) % 2]
        delay = 0 if turn < 4 else generator.uniform(0, 0.1)
        with start(tmp_path, "--out", "run", *options, stdin=subprocess.PIPE) as process:
            lines = stopped_in_training(process, (first, 0), (second, delay))
        assert any(ended_by(process, number) for number in (first, second)), (process.returncode, lines)
        assert is_quiet(lines), lines
        assert nn.Checkpoint.load(run / "checkpoint.safetensors").epoch >= 1
        assert differences(finished(run, options), undisturbed(*options)) == []
        shutil.rmtree(run)


def durations_of(folder, kernels, undisturbed):
    """Return how long each kind of training takes as a process, from its start to its end."""
    durations = {}
    for kind, options in KINDS.items():
        begun = time.monotonic()
        with start(folder, "--out", kind, *options, kernels=kernels[kind]) as process:
            process.communicate()
        durations[kind] = time.monotonic() - begun
        assert differences(state_of(folder / kind), undisturbed(*options)) == []
    return durations


@pytest.mark.thorough
def test_signals_at_random_moments(tmp_path, undisturbed, amount, show):
    times, generator = amount(40, slice=COLD_TURN), random.Random(6)
    ends, slowest = Counter(), dict.fromkeys(KINDS, 0.0)
    run, kernels = tmp_path / "run", dict.fromkeys(KINDS) | {"numba, compiling": tmp_path / "kernels"}
    durations = durations_of(tmp_path, kernels, undisturbed)
    for turn in range(times):
        kind, number = list(KINDS)[turn % 2], SIGNALS[turn // 2 % 2]
        if turn % COLD_TURN == COLD_TURN - 1:
            kind, number = "numba, compiling", SIGNALS[turn // COLD_TURN % 2]
            shutil.rmtree(tmp_path / "kernels", ignore_errors=True)
        with start(tmp_path, "--out", "run", *KINDS[kind], kernels=kernels[kind]) as process:
            until = durations[kind]
            if kernels[kind]:
                assert process.stderr.readline().startswith("compiling the numba plan")
                until -= durations["numba"]
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=generator.uniform(0, until))
            sent = time.monotonic()
            process.send_signal(number)
            errors = process.communicate()[1]
            slowest[kind] = max(slowest[kind], time.monotonic() - sent)
        has_begun = (run / "checkpoint.safetensors").exists()
        if process.returncode == 0:  # it came when all was done but the last words
            assert (run / "summary.json").exists()
            ends["after its end"] += 1
        else:
            assert ended_by(process, number), (kind, number, process.returncode, errors)
            assert is_quiet(errors.splitlines()) or not has_begun, errors
            ends["while it trained" if has_begun else "before its first step"] += 1
        assert differences(finished(run, KINDS[kind]), undisturbed(*KINDS[kind])) == [], (kind, number, errors)
        shutil.rmtree(run)
    seen = ", ".join(f"{count} {when}" for when, count in sorted(ends.items()))
    waits = ", ".join(f"{seconds:.1f} s on {kind}" for kind, seconds in slowest.items())
    show(
        1,
        "SIGINT and SIGTERM at random moments of a process",
        f"{times} of {times} ended as asked ({seen}), with exit code 130 or 143 but for those after the end; resumed, "
        f"bit-identical; slowest to end: {waits}",
    )

"""The session on a machine with a GPU, with other parameters here; its parts, and the modules that they run."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from xpnn.backends import ConfigError, DataError, RunError, why_unavailable
from xpnn.bench.compare import results_file
from xpnn.bench.gpu import one_training, time_to_accuracy
from xpnn.nn import EpochResult, History
from xpnn.nn.cli.app import xpnn

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "bench" / "gpu" / "session.sh"
STEPS = ("tests", "bench", "profile")

needs_bash = pytest.mark.skipif(
    None in map(shutil.which, ("bash", "realpath", "timeout")) or not SCRIPT.exists(),
    reason="bash, realpath, timeout or the clone is not there",
)


def session(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script on this Python, for as long as it takes."""
    patience = {"PATIENCE": "1000", "STEP_SECONDS": "100000"}
    environment = {**os.environ, "PYTHON": sys.executable, **patience, **variables}
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@cache
def parts(step: str, **variables: str) -> dict[str, list[str]]:
    """The commands of a step, by the parts' names."""
    result = session("--dry-run", step, "results", **variables)
    assert result.returncode == 0, result.stderr
    return {name: shlex.split(command) for name, command in (line.split(":", 1) for line in result.stdout.splitlines())}


@needs_bash
def test_the_steps_have_their_parts() -> None:
    names = {step: list(parts(step)) for step in STEPS}
    assert names["tests"][:4] == ["backends", "pytest", "parity-gd-10", "parity-mnist-98"]
    assert {f"{tool}-{workload}" for tool in ("memcheck", "racecheck") for workload in ("W1", "W2", "W3", "W4")} <= set(
        names["tests"]
    )
    assert names["bench"] == ["time-to-accuracy", "bench"]
    assert {"steps-W3", "ncu-W3", "nsys-W3"} <= set(names["profile"])
    assert parts("tests")["parity-gd-10"][-6:] == ["--backends", "numpy,cupy", "--steps", "100", "--seeds", "1"]
    ncu = parts("profile")["ncu-W1"]
    assert ncu[ncu.index("--clock-control") + 1] == "none"
    memcheck = parts("tests")["memcheck-W1"]
    assert int(memcheck[memcheck.index("--rows") + 1]) >= 2 * 32 * 132  # the persistent plan's on an H100 or H200
    assert "--contestants" not in parts("bench")["bench"]
    chosen = parts("bench", CONTESTANTS="jax-gpu cupy")["bench"]
    assert chosen[chosen.index("--contestants") + 1] == "jax-gpu,cupy"


@needs_bash
def test_the_tests_on_a_device_are_the_plans_first_each_file_once() -> None:
    files = [each for each in parts("tests")["pytest"] if each.startswith("tests/")]
    assert files[0] == "tests/backends/cupy/test_plans.py"
    assert len(files) == len(set(files))
    assert {f"tests/backends/cupy/test_{name}.py" for name in ("backend", "failures", "losses")} < set(files)
    assert "tests/backends/cupy/test_races.py" not in files


@needs_bash
def test_an_empty_list_means_none() -> None:
    names = list(parts("tests", TESTS="", RECIPES="gd-10", SANITIZERS=""))
    assert names == ["backends", "parity-gd-10"]
    assert list(parts("tests", TESTS="tests/backends/test_losses.py", RECIPES="", WORKLOADS="")) == [
        "backends",
        "pytest",
    ]
    for empty in ("WORKLOADS", "CONTESTANTS"):
        assert list(parts("bench", **{empty: ""})) == ["time-to-accuracy"]
    assert list(parts("profile", WORKLOADS="")) == []


@needs_bash
@pytest.mark.parametrize("step", STEPS)
def test_every_command_has_options_that_are_there(step: str) -> None:
    for name, command in parts(step).items():
        python = command.index(sys.executable)
        if command[python + 1] == "-c":
            program, arguments = "xpnn", command[python + 3 :]
            group = click.Context(xpnn)
            parser = xpnn.get_command(group, arguments.pop(0))
        elif command[python + 2] == "pytest":
            files = [each for each in command if each.startswith("tests/")]
            assert all((ROOT / each).exists() for each in files), name
            continue
        else:
            program, arguments = command[python + 2], command[python + 3 :]
            parser = import_module(program).main
        assert isinstance(parser, click.Command), program
        parser.make_context(program, arguments)  # refuses options and arguments that it does not have


@needs_bash
def test_a_step_runs_on_a_clone_that_is_not_installed_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    result = session(
        "bench", tmp_path, BACKEND="numpy", ACCURACY_RECIPE="quickstart", ACCURACY_SEEDS="3", WORKLOADS="W9"
    )
    assert result.returncode == 1, result.stderr
    passed, told = result.stdout.splitlines()
    assert re.fullmatch(r"time-to-accuracy: passed \(\d+ s\)", passed)
    assert re.match(r"bench: failed: exit code 2 \(\d+ s\): xpnn: unknown workload 'W9'", told)
    assert (tmp_path / "bench.txt").read_text(encoding="utf-8") == result.stdout
    log = (tmp_path / "bench.log").read_text(encoding="utf-8")
    assert re.search(r"===== bench: .* bench --gpu --workloads W9 .*\n.*unknown workload 'W9'", log)
    content = json.loads((tmp_path / "time-to-accuracy.json").read_text(encoding="utf-8"))
    assert content["versions"]["xpnn"] == re.search('version = "(.+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert content["results"][0]["seed"] == 3


@needs_bash
def test_a_failure_does_not_stop_the_parts_after_it_and_is_not_forgotten(tmp_path: Path) -> None:
    test = tmp_path / "test_sum.py"
    test.write_text("def test_sum(): assert 1 + 1 == 3\n", encoding="utf-8")
    result = session("tests", tmp_path / "out", BACKEND="nump", TESTS=str(test), RECIPES="quickstart", WORKLOADS="")
    assert result.returncode == 1, result.stderr
    backends, tested, compared = result.stdout.splitlines()
    assert backends.startswith("backends: passed")
    assert tested.startswith("pytest: failed: exit code 1")
    assert re.match(r"parity-quickstart: failed: exit code 2 \([\d.]+ s\): .*unknown backend 'nump'", compared)


@needs_bash
def test_a_step_whose_time_is_over_says_what_it_left_out(tmp_path: Path) -> None:
    result = session("tests", tmp_path, STEP_SECONDS="0", WORKLOADS="W1", SANITIZERS="memcheck", RECIPES="quickstart")
    assert result.returncode == 0, result.stderr
    parts_and_outcomes = [line.split(": ", 1) for line in result.stdout.splitlines()]
    assert [name for name, _ in parts_and_outcomes] == ["backends", "pytest", "parity-quickstart", "memcheck-W1"]
    assert {outcome for _, outcome in parts_and_outcomes[:3]} == {"skipped: no time is left"}


@needs_bash
def test_a_part_whose_program_is_missing_is_skipped_and_one_that_breaks_is_not(tmp_path: Path) -> None:
    if shutil.which("ncu") or shutil.which("nsys"):
        pytest.skip("the profilers are there")
    result = session("profile", tmp_path, WORKLOADS="W9")
    steps, *profilers = result.stdout.splitlines()
    assert steps.startswith("steps-W9: failed: exit code 2")
    assert profilers == ["ncu-W9: skipped: ncu is not there", "nsys-W9: skipped: nsys is not there"]


@needs_bash
def test_a_package_that_is_missing_is_skipped(tmp_path: Path) -> None:
    python = tmp_path / "python"  # without pytest
    python.write_text(f'#!/bin/sh\ncase $* in *find_spec*pytest*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    result = session("tests", tmp_path / "out", PYTHON=str(python), RECIPES="", WORKLOADS="")
    assert result.stdout.splitlines()[1] == "pytest: skipped: pytest is not there"
    assert result.returncode == 0


@needs_bash
@pytest.mark.parametrize("arguments", [[], ["tests"], ["all", "out"], ["tests", "a", "b", "c"]])
def test_wrong_usage_of_the_script_exits_2(arguments: list[str]) -> None:
    result = session("--dry-run", *arguments)
    assert [result.returncode, "usage:" in result.stderr] == [2, True]


@needs_bash
def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    held, test = tmp_path / "held", tmp_path / "test_wait.py"
    test.write_text(
        f"import os, subprocess\nos.mkfifo({str(held)!r})\n"
        f"subprocess.run(['sleep', '1000'], stdin=os.open({str(held)!r}, os.O_RDWR))\n",
        encoding="utf-8",
    )
    result = session(
        "tests", tmp_path / "out", TESTS=str(test), RECIPES="", WORKLOADS="", PATIENCE="1", PYTEST_SECONDS="5"
    )
    assert result.returncode == 1, result.stderr
    assert result.stdout.splitlines()[1] == "pytest: stopped after 5 s"
    with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):  # nobody has the pipe open to read it
        os.open(held, os.O_WRONLY | os.O_NONBLOCK)


@pytest.mark.parametrize("program", [time_to_accuracy, one_training])
@pytest.mark.parametrize(("error", "exit_code"), [(RunError, 1), (ConfigError, 2), (DataError, 2)])
def test_an_error_is_one_line_and_an_exit_code(monkeypatch: pytest.MonkeyPatch, program, error, exit_code) -> None:
    def look_up(*_: object) -> None:
        raise error("what is wrong")

    monkeypatch.setattr(program, "look_up", look_up)
    result = CliRunner().invoke(program.main, ["W1"] if program is one_training else [])
    assert [result.exit_code, result.stdout, result.stderr] == [exit_code, "", "xpnn: what is wrong\n"]


def test_a_backend_that_cannot_be_had_is_one_line_and_exit_code_2() -> None:
    if not (reason := why_unavailable("cupy")):
        pytest.skip("CuPy works here")
    pytest.importorskip("sklearn")
    result = CliRunner().invoke(time_to_accuracy.main, ["--recipe", "quickstart", "--backend", "cupy"])
    assert [result.exit_code, result.stderr] == [2, f"xpnn: {reason}\n"]
    result = CliRunner().invoke(one_training.main, ["W3", "--drawn", "--rows", "300"])
    assert [result.exit_code, result.stderr.splitlines()[-1]] == [2, f"xpnn: {reason}"]


def test_the_target_is_reached_in_the_first_epoch_at_or_above_it() -> None:
    accuracies = (0.5, None, 0.98, 0.97, 0.99)
    history = History(EpochResult(k, 0.1, 0.9, 0.1, each, 2.0) for k, each in enumerate(accuracies, start=1))
    assert [time_to_accuracy.first_epoch(history, target) for target in (0.5, 0.98, 0.985, 0.995)] == [1, 3, 5, None]


def test_the_time_to_an_accuracy_is_that_of_the_second_training(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "time.json"
    options = ["--recipe", "quickstart", "--backend", "numpy", "--seeds", "0,1", "--out", str(out)]
    result = CliRunner().invoke(time_to_accuracy.main, [*options, "--target", "0.9"])
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text(encoding="utf-8"))
    assert [each["seed"] for each in content["results"]] == [0, 1]
    assert content["cold"] == content["results"][0]["first"]
    for each in content["results"]:
        first, second = each["first"], each["second"]
        assert first["test_accuracy"] == second["test_accuracy"] > 0.95
        assert first["epochs"] == second["epochs"] == 30
        assert 0 < second["target_seconds"] < second["training_seconds"] < second["seconds"]
        assert 1 <= first["target_epoch"] == second["target_epoch"] < 30
    assert content["target"] == 0.9
    second = content["results"][1]["second"]
    reached = f"reached in epoch {second['target_epoch']} after {second['target_seconds']:.3f} s of training"
    assert f"seed 1: test 90.00% {reached}; " in result.output
    assert f" after all 30 epochs, {second['training_seconds']:.3f} s of training" in result.output
    options[options.index("0,1")] = "1"
    result = CliRunner().invoke(time_to_accuracy.main, [*options, "--target", "1"])
    content = json.loads(out.read_text(encoding="utf-8"))
    second = content["results"][0]["second"]
    assert [second["target_epoch"], second["target_seconds"], second["epochs"]] == [None, None, 30]
    assert "seed 1: test 100.00% not reached; " in result.output


def test_one_training_gives_the_seconds_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []

    def run_epochs(stage: one_training.Stage, orders: list[object]) -> dict[str, float]:  # noqa: ARG001
        turns.append(len(orders))
        return {"seconds": 0.5 + 2.0 * len(orders), "loss": 0.25}

    monkeypatch.setattr(one_training.Stage, "run_epochs", run_epochs)
    options = ["W3", "--contestant", "numpy", "--drawn", "--rows", "300", "--epochs", "3", "--turns", "2"]
    result = CliRunner().invoke(one_training.main, options)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    told = result.stderr.splitlines()
    assert told[:2] == [
        "loading the data: 784-256-10, batch 128, SGD 0.1, pixels of density 0.19, 300 rows, 3 epochs",
        "starting numpy and compiling, for turns of 3 epochs",
    ]
    assert re.fullmatch(rf"compiled in [\d.]+ s: {re.escape(figures['plan'])}", told[2])
    assert told[3:5] == [
        "a turn to warm up, and 2 that are timed",
        "starting numpy and compiling, for turns of 6 epochs",
    ]
    assert turns == [3, 3, 3, 6, 6, 6]
    assert figures["seconds_of_3_epochs"] == [6.5] * 3
    assert figures["seconds_of_6_epochs"] == [12.5] * 3
    assert figures["seconds_per_epoch"] == pytest.approx(2.0)
    assert figures["seconds_per_step"] == pytest.approx(2.0 / 3)  # 300 rows in batches of 128
    assert figures["seconds_of_ends"] == pytest.approx(0.5)
    assert figures["plan"].startswith("generic")


def test_one_training_trains() -> None:
    options = ["W3", "--contestant", "script", "--drawn", "--rows", "300", "--epochs", "1", "--turns", "1"]
    figures = json.loads(CliRunner().invoke(one_training.main, options).stdout)
    assert figures["workload"] == "784-256-10, batch 128, SGD 0.1, pixels of density 0.19, 300 rows"
    assert figures["loss"] > 0.1
    refused = CliRunner().invoke(one_training.main, ["W9"])
    assert [refused.exit_code, refused.stderr.startswith("xpnn: unknown workload 'W9'")] == [2, True]


def test_a_profiler_sees_the_timed_turns_and_a_sanitizer_each_array(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    start, stop = (lambda: calls.append("start")), (lambda: calls.append("stop"))
    runtime = SimpleNamespace(profilerStart=start, profilerStop=stop)
    cuda = SimpleNamespace(runtime=runtime, set_allocator=lambda function: calls.append(f"allocator {function}"))
    monkeypatch.setattr(one_training, "start_cupy", lambda: SimpleNamespace(cuda=cuda))
    train = one_training.Stage.run_epochs

    def run_epochs(stage: one_training.Stage, orders: list[None]) -> dict[str, float]:
        calls.append(f"turn of {len(orders)}")
        return train(stage, orders)

    monkeypatch.setattr(one_training.Stage, "run_epochs", run_epochs)
    options = ["W3", "--contestant", "script", "--drawn", "--rows", "130", "--epochs", "1", "--turns", "1"]
    result = CliRunner().invoke(one_training.main, [*options, "--profile", "--no-pool"])
    assert result.exit_code == 0, result.output
    turns = [["turn of 1"] * 2, ["turn of 2"] * 2]
    assert calls == ["allocator None", *(call for warm, timed in turns for call in (warm, "start", timed, "stop"))]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "NVIDIA H200, 143771 MiB, 9.0, 580.1, 1980 MHz, 700.00 W\n",
            [
                {
                    "name": "NVIDIA H200", "memory.total": "143771 MiB", "compute_cap": "9.0",
                    "driver_version": "580.1", "clocks.max.sm": "1980 MHz", "power.limit": "700.00 W",
                }
            ],
        ),
        ("", []),
    ],
)  # fmt: skip
def test_the_gpus_are_those_that_the_driver_tells_of(monkeypatch: pytest.MonkeyPatch, answer, expected) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1] == "--query-gpu=name,memory.total,compute_cap,driver_version,clocks.max.sm,power.limit"
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    monkeypatch.setattr(results_file.subprocess, "run", run)
    assert results_file.gpus() == expected


def test_without_the_drivers_tool_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(results_file.subprocess, "run", run)
    assert results_file.gpus() == []

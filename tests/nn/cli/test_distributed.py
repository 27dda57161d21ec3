"""Training on many processes from the command line: one run as of one process, and an end that all of them share."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file
from xpnn.backends.communicator import Communicator
from xpnn.nn.cli import signals
from xpnn.nn.cli import together as together_module
from xpnn.nn.cli.app import xpnn
from xpnn.nn.cli.together import in_turn, processes_of

MPIEXEC = shutil.which("mpiexec") or shutil.which("mpiexec", path=str(Path(sys.executable).parent))
needs_mpi = [
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed"),
    pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is not installed"),
]
SECONDS = 120  # a safety net
# Few steps: on fewer cores than ranks each of them takes a while.
TRAIN = ["train", "--backend", "numpy", "--epochs", "3", "--batch-size", "128", "--out", "run"]
LONG = ["train", "--backend", "numpy", "--epochs", "6", "--batch-size", "256", "--reproducible", "--out", "run"]
XPNN = ["-m", "xpnn.nn.cli"]

# `python -m xpnn.nn.distributed faulty.py FAULT RANK ARGUMENTS...` is `xpnn ARGUMENTS...` with a fault on one rank.
FAULTY = """
import os, sys
from xpnn.backends import StorageError
from xpnn.backends.machine import versions
from xpnn.nn import data_choice, run_folder, training_loop
from xpnn.nn.cli import main, together
from xpnn.nn.distributed.supervision import launched

fault, rank, sys.argv[1:] = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
training_loop.CHUNK_SECONDS = run_folder.CHECKPOINT_SECONDS = 0.0  # a chunk is a step, and each is saved

def at_step_20(do):
    check = training_loop.Watch.check
    def check_and_fail(watch, *sums):
        check(watch, *sums)
        if watch._run.plan.step == 20:
            do()
    training_loop.Watch.check = check_and_fail

def other_rows(choice, recipe, *, seed, load=data_choice.DataChoice.load):
    data = load(choice, recipe, seed=seed)
    data.train.images[7, 20] += 1
    return data

def raise_it(error):
    raise error

if launched().rank == rank:
    if fault == "kill":
        at_step_20(lambda: os.kill(os.getpid(), 9))
    elif fault == "raise":
        at_step_20(lambda: raise_it(RuntimeError("it is broken")))
    elif fault == "exit":
        at_step_20(lambda: sys.exit(3))
    elif fault == "signal":
        at_step_20(lambda: os.kill(os.getpid(), 15))
    elif fault == "disk":
        run_folder.append_line = lambda *_: raise_it(StorageError("no space left"))
    elif fault == "rows":
        data_choice.DataChoice.load = other_rows
    elif fault == "version":
        together.versions = lambda: versions() | {"numpy": "1.0"}
    elif fault == "mpi":
        sys.modules["mpi4py"] = None
main()
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faulty.py").write_text(FAULTY, encoding="utf-8")


def alone(*arguments: str) -> Result:
    """`xpnn ARGUMENTS...` in this process."""
    result = CliRunner().invoke(xpnn, arguments)
    assert result.exit_code == 0, result.output
    return result


def start(size: int, *arguments: str) -> "subprocess.Popen[str]":
    """`mpiexec -n SIZE python ARGUMENTS...`; warnings are errors there, too."""
    return subprocess.Popen(
        [str(MPIEXEC), "-n", str(size), sys.executable, "-W", "error", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    try:
        stdout, stderr = process.communicate(timeout=SECONDS)
    finally:
        process.kill()  # if it still runs: its proxy sees that, and ends the ranks
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def together(size: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return ended(start(size, *XPNN, *arguments, "--distributed"))


def faulty(fault: str, rank: int, *arguments: str, size: int = 2) -> "subprocess.CompletedProcess[str]":
    script = ["-m", "xpnn.nn.distributed", "faulty.py", fault, str(rank)]
    return ended(start(size, *script, *arguments, "--distributed"))


def metrics(folder: str) -> list[dict[str, float]]:
    lines = Path(folder, "metrics.jsonl").read_text().splitlines()
    results = [json.loads(line) for line in lines]
    return [
        {key: value for key, value in result.items() if key != "seconds" and value is not None} for result in results
    ]


def parameters(folder: str) -> dict[str, np.ndarray]:
    return load_file(Path(folder, "model.safetensors"))


def same_bits(one: str, other: str) -> bool:
    """Whether two runs have the same weights and figures."""
    ours, theirs = parameters(one), parameters(other)
    return metrics(one) == metrics(other) and all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


class TestTogether:
    pytestmark = needs_mpi

    def test_two_processes_leave_what_one_leaves(self):
        alone(*TRAIN[:-1], "alone", "--dtype", "float64")
        result = together(2, *TRAIN, "--dtype", "float64")
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("2 processes on 1 machine, each with ") == 1
        assert result.stdout.count("saved in run\n") == result.stderr.count("epoch 1/3") == 1
        assert {path.name for path in Path().iterdir()} == {"alone", "run", "faulty.py"}
        assert {path.name for path in Path("run").iterdir()} == {path.name for path in Path("alone").iterdir()}
        for ours, theirs in zip(metrics("run"), metrics("alone"), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-11)
        for name, array in parameters("alone").items():
            np.testing.assert_allclose(parameters("run")[name], array, rtol=1e-9, atol=1e-12)
        summaries = [json.loads(Path(run, "summary.json").read_text()) for run in ("run", "alone")]
        assert [summary["ranks"] for summary in summaries] == [2, 1]
        assert Path("run/config.json").read_text() == Path("alone/config.json").read_text()

    def test_a_rank_that_is_killed_is_named_and_the_run_goes_on_with_any_number_to_the_same_bits(self):
        alone(*LONG[:-1], "alone")
        result = faulty("kill", 1, *LONG)
        assert result.returncode == 128 + signal.SIGKILL, result.stderr
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("xpnn: ")]
        assert line.startswith("xpnn: rank 1 (process ")
        assert "was killed by SIGKILL" in line
        assert line.endswith("go on with the last checkpoint: mpiexec -n 2 xpnn train --resume run --distributed")
        assert 0 < len(metrics("run")) < 6
        result = together(4, "train", "--resume", "run", "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["ranks"] == 4
        assert same_bits("run", "alone")
        assert Path("run/config.json").read_text() == Path("alone/config.json").read_text()

    def test_sigterm_to_the_launcher_saves_and_one_process_goes_on(self):
        alone(*LONG[:-1], "alone")
        process = start(2, *XPNN, *LONG, "--distributed", "--epochs", "100000", "--batch-size", "32")
        lines = []
        while "epoch 1/" not in (line := process.stderr.readline()):
            assert line, lines
            lines.append(line)
        process.send_signal(signal.SIGTERM)
        result = ended(process)
        assert result.returncode == 128 + signal.SIGTERM, result.stderr
        assert result.stderr.count("stopped and saved") == 1
        assert "go on with: mpiexec -n 2 xpnn train --resume run --distributed\n" in result.stderr
        assert 1 <= len(metrics("run")) < 100000

    def test_a_signal_to_one_rank_stops_all_and_one_process_goes_on_to_the_same_bits(self):
        alone(*LONG[:-1], "alone")
        result = faulty("signal", 1, *LONG)
        assert result.returncode == 128 + signal.SIGTERM, result.stderr
        assert (
            result.stderr.count("xpnn") == result.stderr.count("stopped and saved; go on with: mpiexec -n 2 xpnn") == 1
        )
        assert 0 < len(metrics("run")) < 6
        alone("train", "--resume", "run")
        assert same_bits("run", "alone")

    @pytest.mark.parametrize(
        ("fault", "rank", "code", "words"),
        [
            ("raise", 1, 1, "xpnn: rank 1: unexpected RuntimeError: it is broken;"),
            ("exit", 1, 3, "xpnn: rank 1: exits with 3"),
            ("disk", 0, 1, "xpnn: rank 0: no space left; the last checkpoint is whole: make room, then mpiexec -n 2 "),
            ("rows", 1, 2, "xpnn: rank 0: rank 1 has check sum of the rows "),
            ("version", 1, 2, "xpnn: rank 0: rank 1 has version of numpy '1.0', rank 0 has "),
            ("mpi", 1, 2, "xpnn: rank 1: many processes need MPI "),
        ],
    )
    def test_what_goes_wrong_on_one_rank_ends_all(self, fault, rank, code, words):
        result = faulty(fault, rank, *TRAIN)
        assert result.returncode == code, result.stderr
        said = [line for line in result.stderr.splitlines() if line.startswith("xpnn:")]
        assert [line[: len(words)] for line in said] == [words], result.stderr

    def test_a_loss_that_is_no_number_is_told_once(self):
        result = together(2, *TRAIN, "--lr", "1e30")
        assert result.returncode == 1, result.stderr
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("xpnn: ")]
        assert line.startswith("xpnn: rank 0: ")
        assert "not finite" in line or "nan" in line or "inf" in line

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--seed", "3"], "xpnn: rank 0: rank 1 has --seed 3, rank 0 has 0: all ranks must have the same"),
            (["--epochs", "0"], "xpnn: rank 1: exits with 2"),  # after click has said why
        ],
    )
    def test_ranks_with_other_options_are_refused(self, options, words):
        one = [*XPNN, *TRAIN, "--distributed"]
        result = ended(start(1, *one, ":", "-n", "1", sys.executable, *one, *options))
        assert result.returncode == 2, result.stderr
        assert words in result.stderr
        assert not Path("run").exists()

    def test_one_process_trains_as_without(self):
        alone(*TRAIN[:-1], "alone")
        result = subprocess.run(
            [sys.executable, *XPNN, *TRAIN, "--distributed"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        assert "1 process: mpiexec -n N starts more" in result.stdout
        assert same_bits("run", "alone")
        assert Path("run/config.json").read_text() == Path("alone/config.json").read_text()


class TestScripts:
    pytestmark = needs_mpi

    def run(self, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        Path("scripts").mkdir()
        Path("scripts/script.py").write_text(script, encoding="utf-8")
        return ended(start(2, "-m", "xpnn.nn.distributed", "scripts/script.py", *arguments))

    def test_a_script_runs_as_python_runs_it(self):
        result = self.run(
            "import sys\nfrom xpnn import nn\nranks = nn.distributed.world()\n"
            "lines = [ranks.broadcast([__name__, sys.argv, sys.path[0], ranks.size], root=each) for each in (0, 1)]\n"
            "if ranks.rank == 0: print(lines)\n",
            "--one", "two",
        )  # fmt: skip
        line = ["__main__", ["scripts/script.py", "--one", "two"], str(Path("scripts").resolve()), 2]
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{[line, line]}\n", "")

    @pytest.mark.parametrize(
        ("when", "what", "code", "words"),
        [
            ("before MPI", "raise ValueError('it is broken')", 1, "rank 1: ValueError: it is broken"),
            ("after", "sys.exit(3)", 3, "rank 1: exits with 3"),
            ("after", "sys.exit('no more')", 1, "rank 1: no more"),
        ],
    )
    def test_a_rank_that_fails_ends_all(self, when, what, code, words):
        fail = f"if os.environ['PMI_RANK'] == '1': {what}\n"
        meet = "nn.distributed.world().barrier()\n"
        head = "import os, sys\nfrom xpnn import nn\n"
        result = self.run(head + (fail + meet if when == "before MPI" else meet + fail + meet))
        assert result.returncode == code, result.stderr
        said = [line for line in result.stderr.splitlines() if line.startswith("rank ")]
        assert said[-1] == words
        assert all(line.startswith("rank 1: ") for line in said)


def test_without_the_option_several_processes_are_told_that_each_trains_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PMI_SIZE", "4")

    def told() -> bool:
        words = "4 processes were started, and each trains a network of its own"
        return words in alone(*TRAIN[:-2], "--epochs", "1").stderr

    monkeypatch.setenv("PMI_RANK", "0")
    assert told()
    monkeypatch.setenv("PMI_RANK", "1")
    assert not told()


def test_without_mpi_the_option_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr(importlib.import_module("xpnn.nn.distributed.world"), "_world", None)
    result = CliRunner().invoke(xpnn, [*TRAIN, "--distributed"])
    assert result.exit_code == 2
    assert 'pip install "xpnn[mpi]"' in result.stderr
    assert not os.path.lexists("run")


def test_a_reproducible_run_says_so_in_its_configuration():
    alone(*TRAIN, "--reproducible")
    alone(*TRAIN[:-1], "plain")
    recipes = [json.loads(Path(run, "config.json").read_text())["recipe"] for run in ("run", "plain")]
    assert [recipe["reproducible"] for recipe in recipes] == [True, False]
    assert not same_bits("run", "plain")  # other sums, so that the test above could fail


def of_two_machines(communicator: Communicator) -> Communicator:
    """The same, each machine having two ranks."""
    communicator.local_rank = communicator.rank % 2
    return communicator


def test_the_first_rank_of_each_machine_loads_before_the_others(ranks):
    loaded = []

    def work(communicator: Communicator) -> None:
        of_two_machines(communicator)
        if communicator.rank == 0:  # it has loaded before it told the others what
            loaded.append(0)
            communicator.barrier()
        else:
            assert in_turn(communicator, lambda: loaded.append(communicator.rank) or "rows") == "rows"

    ranks(4, work)
    assert sorted(loaded[:2]) == [0, 2]
    assert sorted(loaded[2:]) == [1, 3]


@pytest.mark.parametrize(
    ("threads", "words"), [([2, 2, 2, 2], "2 threads"), ([1, 1, 1, 1], "1 thread"), ([1, 2, 4, 1], "1 to 4 threads")]
)
def test_processes_machines_and_threads_are_counted(ranks, monkeypatch, threads, words):
    monkeypatch.setattr(together_module, "threads_of_process", lambda: threads[ranks.current()])
    said = ranks(4, lambda communicator: processes_of(of_two_machines(communicator)))
    assert said == [f"4 processes on 2 machines, each with {words}"] * 4


def test_a_signal_that_comes_twice_at_once_is_one(monkeypatch: pytest.MonkeyPatch):
    """From the launcher, and by way of the supervisor."""
    stops, ends = [], []
    monkeypatch.setattr(signals, "is_supervised", lambda: True)
    monkeypatch.setattr(signals, "end_at_once", lambda number, words: ends.append((number, words)))
    listener = signals.StopOnSignal()
    listener.on_train_begin(SimpleNamespace(stop=lambda: stops.append(True)))
    listener._on_signal(15, None)
    listener._on_signal(15, None)
    assert (listener.received, stops, ends) == (15, [True], [])
    monkeypatch.setattr(signals, "ONE_SIGNAL_SECONDS", 0.0)
    listener._on_signal(15, None)
    assert ends == [(15, "ended at once; the last checkpoint is whole")]

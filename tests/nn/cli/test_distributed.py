"""Training on many processes from the command line: one run as of one process, and an end that all of them share.

Almost all of it is seen in this process, whose threads are the ranks; `mpiexec` is started once.
"""

import json
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file
from xpnn.backends import ConfigError, StorageError
from xpnn.nn.cli import app, distributed, signals
from xpnn.nn.cli.app import xpnn
from xpnn.nn.cli.distributed import agreed_signal, in_turn, join, processes_of, say_if_several
from xpnn.nn.cli.train import train

TRAIN = ["train", "--backend", "numpy", "--epochs", "3", "--batch-size", "128", "--dtype", "float64"]
# Only sums in a fixed order have the same bits on other numbers of processes, and of BLAS's threads.
LONG = ["train", "--backend", "numpy", "--epochs", "6", "--batch-size", "256", "--reproducible"]
TABLE = [
    "train", "--backend", "numpy", "--epochs", "2", "--dtype", "float64", "--class-weight", "b=2", "--drop", "size",
    "--delimiter", "tab",
]  # fmt: skip

# On two ranks: a run, one on a table, then one that waits for a signal after step 8. Rank 1 is in a folder of its own.
SCRIPT = f"""
import os, sys, time
sys.modules["matplotlib"] = None  # no picture, for which rank 1 would wait
from xpnn.nn.cli.app import xpnn
from xpnn.nn.distributed.world import launched
from xpnn.nn.training import loop

if launched()[0] == 1:
    os.mkdir("of rank 1")
    os.chdir("of rank 1")
xpnn({TRAIN} + ["--data", sys.argv[1], "--out", "run", "--distributed"], standalone_mode=False)
xpnn({TABLE} + ["--data", sys.argv[2], "--out", "table", "--distributed"], standalone_mode=False)

def check_and_wait(watch, *sums, check=loop.Watch.check):
    check(watch, *sums)
    run = watch._run
    if run.plan.step == 8:
        if run.communicator.rank == 0:
            print("at step 8", flush=True)
        while not run.stopped:
            time.sleep(0.01)

loop.Watch.check = check_and_wait
loop.CHUNK_SECONDS = 0.0  # a chunk is a step
xpnn({LONG} + ["--data", sys.argv[1], "--out", "long", "--distributed"])
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rows(make_problem, tmp_path):
    """A file of rows, by its path."""
    images, labels = make_problem(800)
    path = str(tmp_path / "rows.npz")
    np.savez(path, x_train=images[:700], y_train=labels[:700], x_test=images[700:], y_test=labels[700:])
    return path


@pytest.fixture
def table(tmp_path):
    """A table of numbers, categories and cells that are missing, by its path."""
    rows = (f"{7 * row}\t{row % 9}\t{'' if row % 5 == 0 else 'uvw'[row % 3]}\t{'ab'[row % 2]}\n" for row in range(100))
    path = tmp_path / "table.txt"
    path.write_text("Id\tsize\tword\tlabel\n" + "".join(rows))
    return str(path)


def alone(*arguments):
    """`xpnn ARGUMENTS...` in this process."""
    result = CliRunner().invoke(xpnn, arguments)
    assert result.exit_code == 0, result.output
    return result


def metrics(folder):
    lines = Path(folder, "metrics.jsonl").read_text().splitlines()
    results = [json.loads(line) for line in lines]
    return [
        {key: value for key, value in result.items() if key != "seconds" and value is not None} for result in results
    ]


def parameters(folder):
    return load_file(Path(folder, "model.safetensors"))


def assert_same_bits(one, other):
    """Two runs have the same settings, weights and figures."""
    assert metrics(one) == metrics(other)
    assert Path(one, "config.json").read_text() == Path(other, "config.json").read_text()
    assert Path(one, "model.safetensors").read_bytes() == Path(other, "model.safetensors").read_bytes()


def files_of(folder):
    return {path.name for path in Path(folder).iterdir()}


def test_two_ranks_leave_what_one_leaves_and_a_signal_to_the_launcher_stops_and_saves(mpiexec, rows, table):
    Path("script.py").write_text(SCRIPT, encoding="utf-8")
    process = mpiexec.start(2, "-m", "xpnn.nn.distributed", "script.py", rows, table)
    lines = []
    while "at step 8\n" not in lines:
        lines.append(process.stdout.readline())
        assert lines[-1], process.communicate()[1]
    process.send_signal(signal.SIGTERM)
    result = mpiexec.ended(process)
    assert result.returncode == 128 + signal.SIGTERM, result.stderr
    assert result.stderr.count(f"resume with: mpiexec -n 2 xpnn train --resume long --data {rows} --distributed\n") == 1
    assert len([line for line in lines if line.startswith("2 processes on 1 machine, each with ")]) == 3
    assert lines.count("saved in run\n") == 1
    assert files_of("of rank 1") == set()

    alone(*TABLE, "--data", table, "--out", "table alone")
    assert Path("table/config.json").read_text() == Path("table alone/config.json").read_text()
    for name, array in parameters("table alone").items():
        np.testing.assert_allclose(parameters("table")[name], array, rtol=1e-9, atol=1e-12)
    alone(*TRAIN, "--data", rows, "--out", "alone")
    assert files_of("run") == files_of("alone") - {"curves.png"}
    for ours, theirs in zip(metrics("run"), metrics("alone"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-11)
    for name, array in parameters("alone").items():
        np.testing.assert_allclose(parameters("run")[name], array, rtol=1e-9, atol=1e-12)
    assert [json.loads(Path(run, "summary.json").read_text())["ranks"] for run in ("run", "alone")] == [2, 1]
    assert Path("run/config.json").read_text() == Path("alone/config.json").read_text()

    assert 0 < len(metrics("long")) < 6
    alone("train", "--resume", "long", "--data", rows)
    alone(*LONG, "--data", rows, "--out", "long alone")
    assert_same_bits("long", "long alone")


# An error on one rank


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("no such thing"), 2, "xpnn: rank 1: no such thing\n"),
        (StorageError("no space left"), 1, "xpnn: rank 1: no space left\n"),
        (RuntimeError("it is broken"), 1, "xpnn: rank 1: unexpected RuntimeError: it is broken; `xpnn --debug ...`"),
        (KeyboardInterrupt(), 130, "xpnn: rank 1: interrupted\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_told_with_the_rank_and_ends_all(as_rank, monkeypatch, error, code, words):
    def fail(*_, **__):
        raise error

    as_rank(1)
    monkeypatch.setattr(train, "callback", fail)
    result = CliRunner().invoke(app.xpnn, ["train"])
    assert (type(result.exception).__name__, result.exit_code) == ("Aborted", code)
    assert result.stderr.startswith(words)


def test_what_click_refuses_ends_all(as_rank, monkeypatch, capsys):
    as_rank(1)
    monkeypatch.setattr(sys, "argv", ["xpnn", "train", "--epochs", "0"])
    with pytest.raises(SystemExit) as caught:
        import_module("xpnn.nn.cli").main()
    assert (type(caught.value).__name__, caught.value.code) == ("Aborted", 2)
    assert capsys.readouterr().err.endswith("rank 1: exits with 2\n")


def test_a_second_signal_ends_all_at_once(as_rank):
    as_rank(1)
    stops, listener = [], signals.StopOnSignal()
    listener.on_train_begin(SimpleNamespace(stop=lambda: stops.append(True)))
    listener._on_signal(15, None)
    assert (listener.received, stops) == (15, [True])
    with pytest.raises(SystemExit) as caught:
        listener._on_signal(15, None)
    assert (type(caught.value).__name__, caught.value.code) == ("Aborted", 143)


# How many processes there are


def test_without_the_option_several_processes_are_told_that_each_trains_by_itself(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "4")

    words = "xpnn: 4 processes were started, and each trains its own network; with --distributed they train one"
    for rank, options, told in (("0", [], words), ("0", ["--quiet"], ""), ("1", [], "")):
        monkeypatch.setenv("PMI_RANK", rank)
        say_if_several(train.make_context("train", options))
        assert capsys.readouterr().err[: len(words)] == told


def test_without_mpi_the_option_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr(import_module("xpnn.nn.distributed.world"), "_world", None)
    result = CliRunner().invoke(xpnn, [*TRAIN, "--out", "run", "--distributed"])
    assert result.exit_code == 2
    assert 'pip install "xpnn[mpi]"' in result.stderr
    assert not Path("run").exists()


def test_one_process_trains_as_without_the_option(monkeypatch, rows):
    monkeypatch.setattr(distributed, "world", lambda: SimpleNamespace(rank=0, size=1))
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # a picture takes long
    result = alone(*LONG, "--data", rows, "--out", "run", "--distributed")
    assert "1 process: mpiexec -n N starts more" in result.stdout
    alone(*LONG, "--data", rows, "--out", "alone")
    assert_same_bits("run", "alone")
    assert json.loads(Path("run/config.json").read_text())["recipe"]["training"]["reproducible"]


# What the ranks do together


@pytest.fixture
def joined(ranks, monkeypatch):
    """`joined([options of rank 0, ...])`: what each rank's `join` raises."""

    def errors(of_ranks):
        here = threading.local()
        monkeypatch.setattr(distributed, "world", lambda: here.communicator)

        def work(communicator):
            here.communicator = communicator
            return join(train.make_context("train", [*of_ranks[communicator.rank]]))

        return ranks.errors(len(of_ranks), work)

    return errors


def test_ranks_may_have_other_data_and_threads(joined):
    assert joined([["--data", "here"], ["--data", "there", "--threads", "1"]]) == [None, None]


def test_ranks_with_other_options_are_refused(joined):
    errors = joined([["--seed", "2"], ["--seed", "2"], ["--seed", "3"]])
    assert [type(error) for error in errors] == [ConfigError] * 3
    assert {str(error) for error in errors} == {
        "rank 2 has --seed 3, rank 0 has 2: all ranks must have the same; start all ranks with the same arguments"
    }
    errors = joined([["--class-weight", "a=2"], ["--class-weight", "a=3"]])
    assert str(errors[0]).startswith("rank 1 has --class-weight {'a': 3.0}, rank 0 has {'a': 2.0}: all ranks must have")


def test_ranks_with_other_versions_are_refused(joined, ranks, monkeypatch):
    monkeypatch.setattr(distributed, "versions", lambda: {"numpy": f"2.{ranks.current()}"})
    errors = joined([[], []])
    assert str(errors[0]) == str(errors[1])
    assert str(errors[0]).startswith("rank 1 has version of numpy '2.1', rank 0 has '2.0': ")


def of_two_machines(communicator):
    """The same, each machine having two ranks."""
    communicator.local_rank = communicator.rank % 2
    return communicator


def test_the_first_rank_of_each_machine_loads_before_the_others(ranks):
    loaded = []

    def work(communicator):
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
    monkeypatch.setattr(distributed, "threads_of_process", lambda: threads[ranks.current()])
    said = ranks(4, lambda communicator: processes_of(of_two_machines(communicator)))
    assert said == [f"4 processes on 2 machines, each with {words}"] * 4


def test_a_signal_on_one_rank_is_that_of_all(ranks):
    received = [0, 15, 0]
    assert ranks(3, lambda each: agreed_signal(each, SimpleNamespace(received=received[each.rank]))) == [15] * 3
    assert agreed_signal(None, SimpleNamespace(received=2)) == 2

"""The rule of `auto`: a job's multiply-adds and what runs here decide, and nothing else."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from xpnn.backends import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    SGD,
    Adam,
    BackendUnavailable,
    JobOutline,
    get_backend,
    registry,
    why_unavailable,
)
from xpnn.backends.choice import LEAST_MULTIPLY_ADDS
from xpnn.backends.numpy.backend import NumPyBackend
from xpnn.backends.testing.problem import training_job
from xpnn.nn.cli.app import xpnn
from xpnn.nn.cli.progress import Progress

JOB = JobOutline(sizes=(784, 10, 10), rows=60_000, epochs=500, optimizer=SGD(0.1))


def job_of(multiply_adds, **others):
    """A job of so many multiply-adds, a multiple of 3."""
    return JobOutline(sizes=(1, 1), rows=multiply_adds // 3, epochs=1, optimizer=SGD(0.1), **others)


@pytest.fixture
def machine(monkeypatch):
    """`machine(*names)`: as if it had these backends besides NumPy; Numba's knows every job without a generic plan."""

    def have(*names):
        def load(module, kind):
            name = {place: name for name, place in registry.BUILTIN.items()}[module, kind]
            if name not in (*names, "numpy"):
                raise BackendUnavailable(f"{name} is not here")
            suits = (lambda self, job: not job.uses_lbfgs) if name == "numba" else NumPyBackend.suits  # noqa: ARG005
            return type("Named", (NumPyBackend,), {"name": name, "suits": suits})()

        monkeypatch.setattr(registry, "_load_builtin", load)

    return have


def chosen(job):
    return get_backend("auto", job=job).name


def test_multiply_adds_are_three_products_of_each_weight_and_row():
    assert JOB.multiply_adds == 3 * 60_000 * 500 * (784 * 10 + 10 * 10)


@pytest.mark.parametrize(("name", "below"), [("numba", "numpy"), ("cupy", "numba")])
def test_a_backend_is_taken_from_its_threshold_on(machine, name, below):
    machine("numba", "cupy")
    least = -(-LEAST_MULTIPLY_ADDS[name] // 3) * 3  # as a multiple of 3
    assert chosen(job_of(least)) == name
    assert chosen(job_of(least - 3)) == below


def test_what_is_not_here_is_passed_over(machine):
    huge = dataclasses.replace(JOB, epochs=10**6)
    machine("numba")
    assert chosen(huge) == "numba"
    machine("cupy")
    assert (chosen(huge), chosen(JOB)) == ("cupy", "numpy")
    machine()
    assert chosen(huge) == "numpy"


def test_a_job_without_a_compiled_plan_stays_on_numpy(machine):
    machine("numba")
    assert chosen(JOB) == "numba"
    assert chosen(dataclasses.replace(JOB, uses_lbfgs=True)) == "numpy"


def test_the_reason_has_the_figures(machine):
    machine("numba")
    assert get_backend("auto", job=JOB).reason == "auto chose numba: 7.15e11 multiply-adds, numba takes 5e11 or more"
    small = get_backend("auto", job=dataclasses.replace(JOB, rows=100, epochs=1))
    assert small.reason == "auto chose numpy: 2.38e6 multiply-adds, numba takes 5e11 or more"
    generic = get_backend("auto", job=dataclasses.replace(JOB, uses_lbfgs=True))
    assert generic.reason.endswith("numba takes 5e11 or more; numba has no compiled plan for it")
    huge = get_backend("auto", job=dataclasses.replace(JOB, epochs=10**6))
    assert huge.reason == "auto chose numba: 1.43e15 multiply-adds, numba takes 5e11 or more; cupy is not here"


def test_neither_clocks_nor_caches_nor_load_decide(machine, monkeypatch, tmp_path):
    """The kernels' cache folder empty and filled, every clock refused: the same choice."""
    machine("numba", "cupy")
    jobs = [dataclasses.replace(JOB, epochs=epochs) for epochs in (1, 500, 10**6)]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    empty = [chosen(job) for job in jobs]
    (tmp_path / "xpnn").mkdir()
    (tmp_path / "xpnn" / "forward_tiles-0.kernel").touch()
    for name in ("time", "perf_counter", "monotonic", "process_time", "thread_time", "time_ns", "perf_counter_ns"):
        monkeypatch.setattr(time, name, lambda: pytest.fail("a clock was read"))
    monkeypatch.setattr("os.getloadavg", lambda: pytest.fail("the load was read"), raising=False)
    assert [chosen(job) for job in jobs] == empty == ["numpy", "numba", "cupy"]


def test_a_small_job_imports_neither_numba_nor_cupy():
    code = (
        "import sys; from xpnn.backends import JobOutline, SGD, get_backend\n"
        "job = JobOutline(sizes=(4, 3), rows=10, epochs=1, optimizer=SGD(0.1))\n"
        "print(get_backend('auto', job=job).name, 'numba' in sys.modules, 'cupy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["numpy", "False", "False"]


def test_a_backend_of_another_package_is_never_chosen(machine, monkeypatch):
    machine()
    monkeypatch.setattr(registry, "entry_points", lambda *, group: pytest.fail(f"looked for {group}"))
    assert chosen(dataclasses.replace(JOB, epochs=10**6)) == get_backend("auto").name == "numpy"


def test_numba_suits_what_its_kernels_know(monkeypatch):
    if reason := why_unavailable("numba"):
        pytest.skip(reason)
    numba = get_backend("numba")
    for kind in OPTIMIZERS.values():
        assert numba.suits(dataclasses.replace(JOB, optimizer=kind()))
    for activation in ACTIVATIONS:
        assert numba.suits(dataclasses.replace(JOB, activation=activation))
    for loss in LOSSES:
        assert numba.suits(dataclasses.replace(JOB, loss=loss))
    assert not numba.suits(dataclasses.replace(JOB, uses_lbfgs=True))
    assert not numba.suits(dataclasses.replace(JOB, optimizer=type("Mine", (SGD,), {})(0.1)))
    relu, softmax = ACTIVATIONS["relu"], LOSSES["softmax_cross_entropy"]
    monkeypatch.setitem(ACTIVATIONS, "mine", relu._replace(forward=lambda xp, z: relu.forward(xp, z)))
    monkeypatch.setitem(LOSSES, "mine", lambda *args: softmax(*args))
    assert not numba.suits(dataclasses.replace(JOB, activation="mine"))
    assert not numba.suits(dataclasses.replace(JOB, loss="mine"))


# What the plan says of itself


def plan_of(backend, make_layers, problem, *, activation="relu", optimizer=None):
    rows = backend.place(*problem, 1 / 255)
    layers = make_layers(backend, activation=activation)
    return backend.compile(training_job(layers, rows, optimizer=optimizer or Adam(), batch_size=8))


def test_the_generic_plan_says_what_it_is(make_layers, small_problem):
    plan = plan_of(get_backend("numpy"), make_layers, small_problem)
    assert plan.description == "generic: a loop over the operations of numpy, one update for all parameters"


def test_numba_says_what_its_plan_could_not_take(make_layers, small_problem, monkeypatch):
    if reason := why_unavailable("numba"):
        pytest.skip(reason)

    class Mine(SGD):
        name = "mine"

    relu = ACTIVATIONS["relu"]
    monkeypatch.setitem(ACTIVATIONS, "mine", relu._replace(forward=lambda xp, z: relu.forward(xp, z)))
    backend = get_backend("numba")
    generic = "generic: a loop over the operations of numba, since the kernels do not "
    plan = plan_of(backend, make_layers, small_problem, activation="mine")
    assert plan.description == f"{generic}know the activation 'mine'"
    plan = plan_of(backend, make_layers, small_problem, optimizer=Mine(0.1))
    assert plan.description == f"{generic}know the optimizer 'mine'"


# A training


def train(*options):
    result = CliRunner().invoke(xpnn, ["train", *options])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_train_says_why_it_chose_and_what_plan_it_made(tmp_path):
    pytest.importorskip("sklearn.datasets")
    said = {
        name: train("--epochs", "1", "--out", str(tmp_path / name), *options)
        for name, options in {"plain": [], "verbose": ["-v"], "quiet": ["-v", "--quiet"]}.items()
    }
    assert "backend numpy" in said["plain"]
    assert not [line for line in said["plain"] if line.startswith(("plan ", "auto "))]
    assert "auto chose numpy: 1.02e7 multiply-adds, numba takes 5e11 or more" in said["verbose"]
    assert "plan generic: a loop over the operations of numpy, one update for all parameters" in said["verbose"]
    assert said["quiet"] == []


def test_a_resumed_run_keeps_its_backend(tmp_path, machine, monkeypatch):
    pytest.importorskip("sklearn.datasets")
    machine("numba")

    class StopInTheSecondEpoch(Progress):
        def on_chunk_end(self, run):
            if run.epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.nn.cli.train.progress_callback", lambda quiet: StopInTheSecondEpoch())  # noqa: ARG005
        stopped = CliRunner().invoke(xpnn, ["train", "--epochs", "3", "--out", str(tmp_path)])
    assert stopped.exit_code == 143
    assert json.loads((tmp_path / "config.json").read_text())["backend"] == "numpy"
    monkeypatch.setitem(LEAST_MULTIPLY_ADDS, "numba", 0)  # as in a later version, or after an installation
    assert "backend numba" in train("--epochs", "1", "--out", str(tmp_path / "new"))
    assert "backend numpy" in train("--resume", str(tmp_path))
    for name in ("config.json", "summary.json"):
        assert json.loads((tmp_path / name).read_text())["backend"] == "numpy"

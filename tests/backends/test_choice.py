"""What `auto` chooses for a job: the backend that is expected to be done first, its compilation counted, and why."""

import dataclasses
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner
from xpnn.backends import (
    ACTIVATIONS,
    OPTIMIZERS,
    SGD,
    Adam,
    BackendUnavailable,
    JobOutline,
    TrainingJob,
    choice,
    density_of,
    get_backend,
    registry,
    why_unavailable,
)
from xpnn.backends.activations import Activation
from xpnn.backends.cupy import backend as cupy_backend
from xpnn.backends.cupy.backend import CuPyBackend
from xpnn.backends.job_outline import Estimate, Probe
from xpnn.backends.numba import backend as numba_backend
from xpnn.backends.numba import kernel_cache
from xpnn.backends.numba.backend import COMPILE_SECONDS, IMPORT_SECONDS, LOAD_SECONDS, NumbaBackend
from xpnn.backends.numpy.backend import NumPyBackend
from xpnn.nn.cli.app import xpnn

JOB = JobOutline(sizes=(784, 10, 10), rows=600, epochs=5, batch_size=100, optimizer=SGD(0.1), density=0.2)

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")


@pytest.fixture
def numpy_takes(monkeypatch):
    """`numpy_takes(seconds, slowness=1)`: as if that had been measured."""

    def take(seconds, slowness=1.0):
        monkeypatch.setattr(choice, "measure", lambda job: Probe(seconds, slowness))  # noqa: ARG005

    return take


@pytest.fixture
def machine(monkeypatch):
    """`machine(*names, cached)`: as if it had these backends besides NumPy, Numba's kernels on disk or not."""

    def have(*names, cached=False):
        class Named(NumPyBackend):
            pass

        def load(module, kind):
            name = {place: name for name, place in registry.BUILTIN.items()}[module, kind]
            if name not in (*names, "numpy"):
                raise BackendUnavailable(f"{name} is not here")
            backend = Named()
            backend.__class__.name = name
            return backend

        monkeypatch.setattr(registry, "_load_builtin", load)
        monkeypatch.setattr(numba_backend, "find_spec", lambda name: object() if "numba" in names else None)  # noqa: ARG005
        monkeypatch.setattr(cupy_backend, "find_spec", lambda name: object() if "cupy" in names else None)  # noqa: ARG005
        monkeypatch.setattr(numba_backend, "are_cached", lambda kernels: cached)  # noqa: ARG005
        for name in ("numba", "cupy"):
            monkeypatch.setitem(sys.modules, name, None)  # not imported yet

    return have


# The choice


@pytest.mark.parametrize("seconds", [0.01, 1, COMPILE_SECONDS - 0.01, COMPILE_SECONDS + 0.5])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_numba_never_compiles_for_longer_than_numpy_takes(machine, numpy_takes, seconds, density):
    machine("numba", cached=False)
    numpy_takes(seconds)
    chosen = get_backend("auto", job=dataclasses.replace(JOB, density=density))
    assert chosen.name == "numpy"


def test_on_a_machine_four_times_slower_the_compilation_takes_four_times_as_long(machine, numpy_takes):
    machine("numba", cached=False)
    numpy_takes(4 * COMPILE_SECONDS, slowness=4)
    assert get_backend("auto", job=JOB).name == "numpy"
    numpy_takes(4 * COMPILE_SECONDS)
    assert get_backend("auto", job=JOB).name == "numba"


def test_numba_compiles_for_a_job_that_is_long_enough(machine, numpy_takes):
    machine("numba", cached=False)
    numpy_takes(100)
    chosen = get_backend("auto", job=JOB)
    assert chosen.name == "numba"
    assert chosen.reason == "about 40 s (8.8 s to start, kernels to compile), numpy about 100 s"


def test_with_its_kernels_on_disk_numba_takes_what_it_does_sooner(machine, numpy_takes):
    machine("numba", cached=True)
    numpy_takes(3)
    chosen = get_backend("auto", job=JOB)
    assert chosen.name == "numba"
    assert chosen.reason == "about 1.5 s (0.55 s to start, kernels cached), numpy about 3.0 s"
    numpy_takes(0.3)
    chosen = get_backend("auto", job=JOB)
    assert chosen.name == "numpy"
    assert chosen.reason == "about 0.30 s, numba about 0.64 s (0.55 s to start, kernels cached)"


def test_a_backend_that_does_not_start_is_passed_over(machine, numpy_takes, monkeypatch):
    machine("numba", cached=True)
    monkeypatch.setattr(cupy_backend, "find_spec", lambda name: object())  # noqa: ARG005 - installed, without a device
    numpy_takes(10_000)
    chosen = get_backend("auto", job=JOB)
    assert chosen.name == "numba"
    assert chosen.reason.endswith(", numpy about 10,000 s; cupy is not here")


def test_a_device_is_used_for_what_it_does_sooner(machine, numpy_takes):
    machine("numba", "cupy", cached=True)
    numpy_takes(10_000)
    assert get_backend("auto", job=JOB).name == "cupy"
    numpy_takes(2)
    assert get_backend("auto", job=JOB).name == "numba"


def test_what_is_not_installed_is_no_candidate(machine, numpy_takes):
    machine()
    numpy_takes(10_000)
    chosen = get_backend("auto", job=JOB)
    assert (chosen.name, chosen.reason) == ("numpy", "about 10,000 s")


def test_the_choice_imports_no_numba():
    code = (
        "import sys; from xpnn.backends import JobOutline, SGD, get_backend\n"
        "job = JobOutline(sizes=(4, 3), rows=10, epochs=1, batch_size=10, optimizer=SGD(0.1))\n"
        "print(get_backend('auto', job=job).name, 'numba' in sys.modules, 'cupy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["numpy", "False", "False"]


# The estimates


@pytest.mark.parametrize(
    ("density", "gain"), [(0.0, 8.0), (0.02, 8.0), (0.2, 3.25), (0.5, 1.3), (0.9, 1.2), (1.0, 1.2)]
)
def test_numba_gains_by_the_zeros_that_it_skips(machine, density, gain):
    machine("numba")
    estimate = NumbaBackend.estimate(dataclasses.replace(JOB, density=density), Probe(60.0))
    assert estimate.training == pytest.approx(60 / gain)


@pytest.mark.parametrize(("cached", "seconds"), [(True, LOAD_SECONDS), (False, COMPILE_SECONDS)])
def test_numba_starts_sooner_once_it_is_imported(machine, monkeypatch, cached, seconds):
    machine("numba", cached=cached)
    assert NumbaBackend.estimate(JOB, Probe(1.0)).start == pytest.approx(IMPORT_SECONDS + seconds)
    monkeypatch.setitem(sys.modules, "numba", np)
    assert NumbaBackend.estimate(JOB, Probe(1.0)).start == pytest.approx(seconds)
    assert NumbaBackend.estimate(JOB, Probe(1.0, slowness=3.0)).start == pytest.approx(3 * seconds)


def test_numba_asks_for_the_kernels_of_the_job(machine, monkeypatch):
    machine("numba")
    monkeypatch.setattr(numba_backend, "are_cached", lambda kernels: kernels == kernel_cache.kernels_of(JOB))
    assert NumbaBackend.estimate(JOB, Probe(1.0)).note == "kernels cached"
    deeper, wider = {"sizes": (784, 10, 10, 10)}, {"sizes": (784, 10, 256)}
    fewer, larger, full = {"batch_size": 99}, {"batch_size": 2000, "rows": 60_000}, {"batch_size": 600}
    others = [{"sizes": (784, 256, 10)}, {"dtype": "float64"}, {"images_dtype": "float32"}, {"density": 0.9}]
    for other in (*others, deeper, wider, fewer, larger, full):
        assert NumbaBackend.estimate(dataclasses.replace(JOB, **other), Probe(1.0)).note == "kernels to compile"


@pytest.mark.parametrize(("name", "kind"), sorted(OPTIMIZERS.items()))
def test_numba_promises_nothing_for_what_its_kernels_do_not_know(machine, monkeypatch, name, kind):
    optimizers = pytest.importorskip("xpnn.backends.numba.network.optimizers")
    functions = pytest.importorskip("xpnn.backends.numba.network.functions")
    machine("numba")
    job = dataclasses.replace(JOB, optimizer=kind())
    known = optimizers.rule_of(kind()) is not None
    assert (NumbaBackend.estimate(job, Probe(1.0)).note != "no compiled plan") == known, name
    for activation in ACTIVATIONS:
        estimate = NumbaBackend.estimate(dataclasses.replace(JOB, activation=activation), Probe(1.0))
        assert (estimate.note != "no compiled plan") == (functions.activation_code(activation) is not None)
    monkeypatch.setitem(ACTIVATIONS, "mine", Activation(abs, max))
    estimate = NumbaBackend.estimate(dataclasses.replace(JOB, activation="mine"), Probe(1.0))
    assert (estimate.training, estimate.note) == (1.0, "no compiled plan")


def test_numba_does_not_suffer_from_threads_of_blas(machine):
    machine("numba")
    busy = NumbaBackend.estimate(JOB, Probe(10.0, one_thread_seconds=2.0))
    assert busy.training == NumbaBackend.estimate(JOB, Probe(2.0)).training
    assert NumbaBackend.estimate(JOB, Probe(1.0, one_thread_seconds=2.0)).training == pytest.approx(busy.training / 2)


def test_cupy_goes_by_steps_and_products(machine):
    machine("cupy")
    one = CuPyBackend.estimate(JOB, Probe(1.0))
    more = CuPyBackend.estimate(dataclasses.replace(JOB, epochs=10), Probe(1.0))
    assert more.training == pytest.approx(2 * one.training)
    assert more.start == one.start > 0


def test_a_backend_that_says_nothing_is_left_out(numpy_takes):
    numpy_takes(1.0)
    kinds = {"strict": registry._class_of(*registry.BUILTIN["array-api-strict"]), "numpy": NumPyBackend}
    assert choice.expected(JOB, kinds) == {"numpy": Estimate(0.0, 1.0)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values())
@pytest.mark.parametrize("batch_size", [7, 600])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_probe_counts_the_rows_of_all_epochs(monkeypatch, optimizer, batch_size, dtype):
    monkeypatch.setattr(choice, "_shortest", lambda action: action() and 0.25)  # it is run, and takes so long
    job = dataclasses.replace(JOB, optimizer=optimizer(), batch_size=batch_size, dtype=dtype)
    taken = 511 if batch_size == 7 else 600  # whole batches, of about PROBE_ROWS rows
    assert choice.measure(job).numpy_seconds == pytest.approx(0.25 / taken * 5 * 600)


def test_the_probe_of_a_large_network_is_small(monkeypatch):
    seen = []
    monkeypatch.setattr(choice, "TrainingJob", lambda *args: seen.append(args[2].images.shape) or TrainingJob(*args))
    monkeypatch.setattr(choice, "PROBE_MULTIPLY_ADDS", 1e5)
    choice.measure(JOB)
    assert seen == [(6, 784)]  # a row is 2 * 7840 + 3 * 100 multiply-adds


def test_the_density_is_that_of_a_sample_from_all_parts():
    images = np.zeros((5000, 3), np.uint8)
    assert density_of(images) == 0
    images[2500:] = 7
    assert density_of(images) == pytest.approx(0.5, abs=0.01)
    assert density_of(images[:0]) == 0


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.0, 0.001), "about 0.01 s"),
        (Estimate(0.0, 0.5), "about 0.50 s"),
        (Estimate(0.25, 9.0, "kernels cached"), "about 9.2 s (0.25 s to start, kernels cached)"),
        (Estimate(8.75, 4000.0, "kernels to compile"), "about 4,009 s (8.8 s to start, kernels to compile)"),
    ],
)
def test_an_estimate_reads_well(estimate, text):
    assert str(estimate) == text


# What the plan says of itself


def plan_of(backend, make_layers, problem, *, activation="relu", optimizer=None):
    rows = backend.place(*problem, 1 / 255)
    layers = make_layers(backend, activation=activation)
    return backend.compile(TrainingJob(layers, optimizer or Adam(), rows, 8))


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


def test_train_says_why_it_chose_and_what_plan_it_made(machine, numpy_takes, tmp_path):
    pytest.importorskip("sklearn.datasets")
    machine("numba", cached=False)
    numpy_takes(2.0)
    said = {}
    for name, options in {"plain": [], "verbose": ["-v"], "quiet": ["-v", "--quiet"]}.items():
        result = CliRunner().invoke(xpnn, ["train", "--epochs", "1", "--out", str(tmp_path / name), *options])
        assert result.exit_code == 0, result.output
        said[name] = result.output.splitlines()
    assert "backend numpy" in said["plain"]
    assert not [line for line in said["plain"] if line.startswith("plan ")]
    assert "backend numpy: about 2.0 s, numba about 10 s (8.8 s to start, kernels to compile)" in said["verbose"]
    assert "plan generic: a loop over the operations of numpy, one update for all parameters" in said["verbose"]
    assert said["quiet"] == []

"""The compiled plan's results depend neither on the number of threads nor on how a run is divided."""

import numpy as np
import pytest
from xpnn.backends import Adam, Totals, TrainingJob, get_backend, why_unavailable

if reason := why_unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

from numba.core import config
from xpnn.backends.numba import plan as numba_plan
from xpnn.backends.numba.plan import NumbaPlan
from xpnn.backends.numba.steps import schedules as numba_schedules

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has one thread")

# Hidden units that lead to each schedule; as in backends/numba/test_plan.py, so that the kernels are the same.
HIDDEN = {"units": (37, 9), "two layers": (37,), "rows": (5, 9), "features": (5, 9)}
FEATURES, CLASSES, COUNT = 19, 3, 150

every_way = pytest.mark.parametrize("way", list(HIDDEN))
sparse_or_dense = pytest.mark.parametrize("density", [0.3, 1.0], ids=["sparse", "dense"])


@pytest.fixture
def make_plan(make_layers, monkeypatch):
    """`make_plan(way, density, threads=1)`: a compiled plan that goes that way, with so many threads."""
    backend = get_backend("numba")
    monkeypatch.setattr(numba_plan, "SMALL_STEP", 0)
    monkeypatch.setattr(numba_schedules, "WIDE_TILE", 32)

    def make(way, density, threads=1, *, batch_size=64):
        monkeypatch.setattr(numba_schedules, "LARGE_BATCH", 1 if way == "rows" else 10**9)
        monkeypatch.setattr(numba_plan, "usable_threads", lambda: threads)
        generator = np.random.default_rng(1)
        images = generator.integers(1, 256, (COUNT, FEATURES)) * (generator.random((COUNT, FEATURES)) < density)
        rows = backend.place(images.astype(np.uint8), generator.integers(0, CLASSES, COUNT), 1 / 255)
        layers = make_layers(backend, (FEATURES, *HIDDEN[way], CLASSES), activation="tanh")
        plan = backend.compile(TrainingJob(layers, Adam(3e-3), rows, batch_size, l2=0.01))
        assert type(plan) is NumbaPlan
        assert plan._team.threads == min(threads, plan._schedule.parts)
        return plan

    return make


def result_of(plan, epochs=4):
    """All numbers that some epochs end with: totals, step, parameters, state."""
    generator = np.random.default_rng(3)
    totals = [plan.run(generator.permutation(COUNT)) for _ in range(epochs)]
    parameters = [array.tobytes() for layer in plan.job.layers for array in (layer.weight, layer.bias)]
    return totals, plan.step, parameters, {name: array.tobytes() for name, array in plan.state().items()}


@every_way
@sparse_or_dense
@pytest.mark.parametrize("batch_size", [1, 64, 150])
def test_any_number_of_threads_gives_the_same_bits(make_plan, way, density, batch_size):
    """64 does not divide 150; a row alone leaves most threads nothing to do."""
    epochs = 1 if batch_size == 1 else 4
    alone = result_of(make_plan(way, density, batch_size=batch_size), epochs)
    assert alone[1] == epochs * {1: 150, 64: 3, 150: 1}[batch_size]
    for threads in (2, 3, 5):
        assert result_of(make_plan(way, density, threads, batch_size=batch_size), epochs) == alone


@every_way
@sparse_or_dense
def test_two_runs_give_the_same_bits(make_plan, way, density):
    assert result_of(make_plan(way, density, 2)) == result_of(make_plan(way, density, 2))


@every_way
@sparse_or_dense
@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_in_parts_gives_the_bits_of_a_whole_one(make_plan, way, density, threads):
    whole, divided = (make_plan(way, density, threads, batch_size=16) for _ in range(2))
    order = np.random.default_rng(4).permutation(COUNT)
    total, parts = whole.run(order), Totals()
    for start in range(0, COUNT, 48):  # three batches
        parts = divided.run(order[start : start + 48], parts)
    assert parts == total
    assert divided.step == whole.step == 10
    assert result_of(divided) == result_of(whole)


@every_way
def test_a_state_loaded_into_another_number_of_threads_goes_on_alike(make_plan, way):
    plan, resumed = make_plan(way, 0.3, 1), make_plan(way, 0.3, 3)
    result_of(plan)
    for layer, source in zip(resumed.job.layers, plan.job.layers, strict=True):
        layer.weight, layer.bias = source.weight.copy(), source.bias.copy()
    resumed.load_state(plan.state(), plan.step)
    assert result_of(resumed) == result_of(plan)


@pytest.mark.parametrize(("small", "threads"), [(FEATURES * 37 * 64 + 37 * 9 * 64 + 9 * 3 * 64, 4), (1e9, 1)])
def test_a_small_step_is_one_threads(make_plan, monkeypatch, small, threads):
    plan = make_plan("units", 0.3, 4)
    monkeypatch.setattr(numba_plan, "SMALL_STEP", small)
    assert NumbaPlan(plan.job)._team.threads == threads

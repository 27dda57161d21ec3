"""The compiled plan's results depend neither on the number of threads nor on how a run is divided."""

import itertools

import numpy as np
import pytest
from numba.core import config
from xpnn.backends import Adam, Totals
from xpnn.backends.numba import engine as numba_engine
from xpnn.backends.numba.plan import NumbaPlan
from xpnn.backends.numba.steps import schedules as numba_schedules

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has one thread")

COUNT = 150


@pytest.fixture
def make_threads(make_plan, monkeypatch):
    """`make_threads(kind, threads=1)`: a compiled plan of that kind, with so many threads."""
    monkeypatch.setattr(numba_engine, "SMALL_STEP", 0)
    monkeypatch.setattr(numba_schedules, "WIDE_TILE", 32)

    def make(kind, threads=1, *, batch_size=64, **extra):
        monkeypatch.setattr(numba_engine, "usable_threads", lambda: threads)
        plan = make_plan(kind, Adam(3e-3), count=COUNT, batch_size=batch_size, l2=0.01, **extra)
        assert type(plan) is NumbaPlan
        assert plan._engine.team.threads == min(threads, plan._engine.schedule.parts)
        return plan

    return make


def result_of(plan, epochs=4):
    """All numbers that some epochs end with: totals, step, parameters, state."""
    generator = np.random.default_rng(3)
    totals = [plan.run(generator.permutation(COUNT)) for _ in range(epochs)]
    parameters = [array.tobytes() for layer in plan.job.layers for array in (layer.weight, layer.bias)]
    return totals, plan.step, parameters, {name: array.tobytes() for name, array in plan.state().items()}


@pytest.mark.parametrize("batch_size", [1, 64, 150])
def test_any_number_of_threads_gives_the_same_bits(make_threads, kind, batch_size):
    """64 does not divide 150; a row alone leaves most threads nothing to do."""
    epochs = 1 if batch_size == 1 else 4
    alone = result_of(make_threads(kind, batch_size=batch_size), epochs)
    assert alone[1] == epochs * {1: 150, 64: 3, 150: 1}[batch_size]
    assert result_of(make_threads(kind, batch_size=batch_size), epochs) == alone
    for threads in (2, 3, 5):
        assert result_of(make_threads(kind, threads, batch_size=batch_size), epochs) == alone


@pytest.mark.parametrize("kind", ["units-sparse", "two layers-dense", "rows-dense", "features-sparse"], indirect=True)
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"dropout": 0.3}, marks=pytest.mark.thorough),
        pytest.param({"clip_norm": 0.2}, marks=pytest.mark.thorough),
        {"dropout": 0.3, "clip_norm": 0.2},
    ],
    ids=["dropout", "clipping", "both"],
)
def test_dropout_and_clipping_give_the_same_bits_on_any_number_of_threads(make_threads, kind, extra):
    extra |= {"dropout_seed": 5}
    alone = result_of(make_threads(kind, **extra))
    assert alone != result_of(make_threads(kind))
    for threads in (2, 3, 5):
        assert result_of(make_threads(kind, threads, **extra)) == alone


@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_in_parts_gives_the_bits_of_a_whole_one(make_threads, kind, threads):
    whole, divided = (make_threads(kind, threads, batch_size=16) for _ in range(2))
    order = np.random.default_rng(4).permutation(COUNT)
    total, parts = whole.run(order), Totals()
    for start in range(0, COUNT, 48):  # three batches
        parts = divided.run(order[start : start + 48], parts)
    assert parts == total
    assert divided.step == whole.step == 10
    assert result_of(divided) == result_of(whole)


def test_a_team_that_shrinks_and_grows_in_a_run_gives_the_same_bits(make_threads, kind, monkeypatch):
    alone, adapting = make_threads(kind, 1, batch_size=16), make_threads(kind, 5, batch_size=16)
    sizes, run, seen = itertools.cycle([5, 1, 3, 2]), adapting._engine.team.run, []
    monkeypatch.setattr(adapting._pace, "batches", lambda: 2)
    monkeypatch.setattr(adapting._pace, "note", lambda *_: setattr(adapting._pace, "threads", next(sizes)))
    monkeypatch.setattr(
        adapting._engine.team, "run", lambda *args, threads: seen.append(threads) or run(*args, threads=threads)
    )
    assert result_of(adapting) == result_of(alone)
    assert {1, 2, 3, 5} <= set(seen)


def test_a_state_loaded_into_another_number_of_threads_gives_the_same_bits(make_threads, kind):
    plan, resumed = make_threads(kind, 1), make_threads(kind, 3)
    result_of(plan)
    for layer, source in zip(resumed.job.layers, plan.job.layers, strict=True):
        layer.weight, layer.bias = source.weight.copy(), source.bias.copy()
    resumed.load_state(plan.state(), plan.step)
    assert result_of(resumed) == result_of(plan)


@pytest.mark.parametrize("kind", ["units-sparse"], indirect=True)
@pytest.mark.parametrize(("small", "threads"), [(19 * 37 * 64 + 37 * 9 * 64 + 9 * 3 * 64, 4), (1e9, 1)])
def test_a_small_step_begins_with_one_thread(make_threads, kind, monkeypatch, small, threads):
    plan = make_threads(kind, 4)
    monkeypatch.setattr(numba_engine, "SMALL_STEP", small)
    assert NumbaPlan(plan.job)._pace.threads == threads

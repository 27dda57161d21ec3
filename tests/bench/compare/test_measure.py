"""Turns, what is made of them, and contestants that fail."""

import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import SGD, ConfigError
from xpnn.bench.compare.measure import Measurements, mark, measure
from xpnn.bench.compare.workers import Worker, limited_to, started, usable_cores
from xpnn.bench.compare.workloads import Workload

SMALL = Workload("small", (6, 4, 3), 8, SGD(0.1))


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    """The processes of the script and of the NumPy backend."""
    with started(("script", "numpy"), threads=1) as (found, missing):
        assert missing == {}
        yield found


def test_an_epoch_is_timed_after_one_that_warms_up(make_data, workers) -> None:
    seen = []
    figures = measure(SMALL, make_data(), workers, turns=4, progress=lambda what, share: seen.append((what, share)))
    assert list(figures) == ["script", "numpy"]
    for each in figures.values():
        assert [len(each["seconds"]), len(each["losses"])] == [4, 5]
        assert each["median_seconds"] == pytest.approx(float(np.median(each["seconds"])))
        assert each["quartile_seconds"] == pytest.approx(np.quantile(each["seconds"], (0.25, 0.75)).tolist())
        assert each["mark"] == ""
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    turns = [what for what, _ in seen]
    assert turns[:6] == ["script", "numpy", "numpy", "script", "script", "numpy"]  # each round begins with another


def test_the_losses_are_those_of_a_training(make_data, workers) -> None:
    data = make_data()
    figures = measure(SMALL, data, workers, turns=2)
    net = nn.MLP(SMALL.sizes, backend="numpy", seed=0)
    losses = []
    generator = np.random.default_rng(0)
    for _ in range(3):
        order = generator.permutation(len(data.train))
        shuffled = nn.Dataset("s", nn.Split(data.train.images[order], data.train.labels[order]), data.test, data.inputs)
        history = nn.train(net, shuffled, optimizer=SGD(0.1), epochs=1, batch_size=8, shuffle=False)
        losses.append(history[-1].train_loss)
    assert figures["numpy"]["losses"] == pytest.approx(losses, rel=1e-5)
    assert figures["numpy"]["test_accuracy"] == nn.evaluate(net, data.test).accuracy


def test_a_turn_may_be_several_epochs(make_data, workers) -> None:
    data = make_data()
    for batch_size in (8, None):
        workload = Workload("turns", SMALL.sizes, batch_size, SGD(0.1), epochs=3)
        figures = measure(workload, data, workers, turns=2)
        single = measure(replace(workload, epochs=1), data, workers, turns=8)
        for name in ("script", "numpy"):
            several, one = figures[name], single[name]
            assert len(several["seconds"]) == 2
            assert several["losses"] == pytest.approx(one["losses"][::3], rel=1e-6)  # of each turn's first epoch
            assert several["test_accuracy"] == one["test_accuracy"]  # after nine epochs
            assert "turn_accuracy" not in one
        net = nn.MLP(SMALL.sizes, backend="numpy", seed=0)
        generator = np.random.default_rng(0)
        for _ in range(3):
            order = np.arange(len(data.train)) if batch_size is None else generator.permutation(len(data.train))
            split = nn.Split(data.train.images[order], data.train.labels[order])
            shuffled = nn.Dataset("s", split, data.test, data.inputs)
            nn.train(net, shuffled, optimizer=SGD(0.1), epochs=1, batch_size=batch_size, shuffle=False)
        assert figures["numpy"]["turn_accuracy"] == nn.evaluate(net, data.test).accuracy


def test_a_backend_says_how_it_goes_about_the_work(make_data, workers) -> None:
    figures = measure(SMALL, make_data(), workers, turns=1)
    assert figures["numpy"]["plan"].startswith("generic")
    assert "plan" not in figures["script"]


def test_loading_is_timed_apart(workers) -> None:
    assert all(worker.load_seconds > 0 for worker in workers)


def test_predictions_are_timed_after_an_epoch_of_training(make_data, workers) -> None:
    workload = Workload("classes", (6, 4, 3), 8, SGD(0.1), measure="predict")
    figures = measure(workload, make_data(), workers, turns=3)
    assert all([len(each["seconds"]), len(each["losses"])] == [3, 1] for each in figures.values())
    assert figures["script"]["test_accuracy"] == figures["numpy"]["test_accuracy"]


def test_a_limited_time_still_gives_three_turns(make_data, workers) -> None:
    figures = measure(SMALL, make_data(), workers, turns=9, limit_seconds=0.0)
    assert len(figures["script"]["seconds"]) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes are not ended by signals here")
def test_a_worker_that_dies_is_told_apart_and_the_others_go_on(make_data) -> None:
    with started(("script", "numpy"), threads=1) as (workers, _):
        turns = []

        def kill_in_its_second_epoch(what: str, share: float) -> None:
            turns.append(what)
            if what == "numpy" and share > 0.3:
                os.kill(workers[1]._process.pid, signal.SIGKILL)

        figures = measure(SMALL, make_data(), workers, turns=3, progress=kill_in_its_second_epoch)
        assert figures["numpy"] == {"failed": "its process ended with exit code -9, out of memory?"}
        assert len(figures["script"]["seconds"]) == 3
        again = measure(SMALL, make_data(), workers, turns=2)  # it is started anew for the next workload
        assert len(again["numpy"]["seconds"]) == 2


def test_a_contestant_that_raises_is_told_apart_and_lives_on(make_data) -> None:
    pytest.importorskip("sklearn")
    impossible = Workload("impossible", (6, 4, 3), 8, SGD(0.1), activation="leaky_relu")  # no activation of sklearn's
    with started(("numpy", "sklearn"), threads=1) as (workers, _):
        figures = measure(impossible, make_data(), workers, turns=2)
        assert "'activation' parameter" in figures["sklearn"]["failed"]
        assert len(figures["numpy"]["seconds"]) == 2
        process = workers[1]._process
        assert len(measure(SMALL, make_data(), workers, turns=1)["sklearn"]["seconds"]) == 1
        assert workers[1]._process is process


def test_one_that_cannot_be_had_is_missing_with_its_reason() -> None:
    with started(("script", "array-api"), threads=1) as (workers, missing):
        assert [worker.name for worker in workers] == ["script"]
    assert list(missing) == ["array-api"]
    assert missing["array-api"].startswith("unknown contestant 'array-api'")


def test_every_process_has_the_same_threads(workers) -> None:
    for worker in workers:
        blas = [pool for pool in worker.pools if pool["user_api"] == "blas"]
        assert [pool["num_threads"] for pool in blas] == [1] * len(blas)


def test_the_environment_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    cores = usable_cores()
    with limited_to(1):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["NUMBA_NUM_THREADS"] == "1"
        assert not hasattr(os, "sched_getaffinity") or usable_cores() == 1
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "NUMBA_NUM_THREADS" not in os.environ
    assert usable_cores() == cores


def test_more_threads_than_processors_are_refused() -> None:
    with (
        pytest.raises(ConfigError, match=r"threads must be in \[1, \d+\], the processors that there are, got 99999"),
        limited_to(99_999),
    ):
        pass


def test_who_is_off_is_marked() -> None:
    reference = Measurements(losses=[0.5, 0.4], test_accuracy=0.9)
    assert mark(Measurements(losses=[0.50004, 0.3], test_accuracy=0.9049), reference, "script") == ""
    assert mark(Measurements(losses=[0.5], test_accuracy=0.8949), reference, "script") == (
        "its test accuracy is 0.51 points off that of script"
    )
    assert mark(Measurements(losses=[0.501], test_accuracy=0.9), reference, "script") == (
        "its first epoch's loss is 0.501, that of script is 0.5"
    )
    diverged = Measurements(losses=[math.nan], test_accuracy=0.9)
    assert "loss is nan" in mark(diverged, reference, "script")
    assert mark(diverged, diverged, "script") == ""


def test_what_the_first_turn_took_beyond_the_median_was_compiling() -> None:
    record = Measurements(compile_seconds=0.5, first_seconds=3.0, seconds=[1.0, 1.2, 0.9], losses=[1.0], compiles=True)
    assert record.to_json()["compile_seconds"] == pytest.approx(2.5)
    record.compiles = False
    assert record.to_json()["compile_seconds"] == pytest.approx(0.5)

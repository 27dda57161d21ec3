"""Every contestant does the same work: from the same start, on the same rows in the same order, to the same losses."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import SGD, Adam, ConfigError, MissingDependency
from xpnn.bench.compare.contestant import as_float32, task_of
from xpnn.bench.compare.contestants import contestant_names, load_contestant, title_of
from xpnn.bench.compare.measure import measure
from xpnn.bench.compare.plain_numpy import PlainNumPy
from xpnn.bench.compare.workers import started
from xpnn.bench.compare.workloads import Workload

TASKS = {  # activation, optimizer, batch size out of 23 rows
    "sgd-relu-remainder": ("relu", SGD(0.1), 8),
    "adam-tanh-remainder": ("tanh", Adam(1e-2), 8),
    "sgd-tanh-full": ("tanh", SGD(0.1), None),
    "adam-relu-full": ("relu", Adam(1e-2), None),
}
COMPILED = {  # of those that take seconds to compile, a few are enough
    "torch-compile": ("adam-tanh-remainder", "sgd-tanh-full"),
    "numba": ("adam-tanh-remainder",),
}


def test_the_peers_are_named_before_the_backends() -> None:
    names = contestant_names()
    assert names[:5] == ("script", "sklearn", "torch", "torch-compile", "jax")
    assert {"numpy", "numba", "cupy"} <= set(names[5:])
    assert "array-api-strict" not in names
    assert [title_of("jax"), title_of("numpy")] == ["JAX", "xpnn numpy"]


def test_an_unknown_contestant_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown contestant 'pytorch' \(did you mean 'torch'"):
        load_contestant("pytorch")


def test_a_peer_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, package: str) -> None:  # noqa: ARG001
        raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.setattr("xpnn.bench.compare.contestants.import_module", missing)
    with pytest.raises(MissingDependency, match=r'it needs jax: pip install "xpnn\[cli,bench\]"'):
        load_contestant("jax")


def test_integers_are_scaled_and_floats_are_taken_as_they_are() -> None:
    scaled = as_float32(np.array([[0, 51, 255]], dtype=np.uint8), 1 / 255)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0, 0.2, 1]], rtol=1e-6)
    np.testing.assert_array_equal(as_float32(np.array([[0.5, -2.0]]), 1 / 255), [[0.5, -2.0]])


@pytest.fixture(scope="module")
def results() -> Iterator[Callable[[str], dict[str, dict[str, Any]]]]:
    """`results(task)`: what all contestants give for a task, or why one cannot be had; each measured once."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (32, 6), dtype=np.uint8)  # (samples, features)
    labels = np.argmax(images[:, :3], axis=1).astype(np.int64)  # (samples,)
    train, test = nn.Split(images[:23], labels[:23]), nn.Split(images[23:], labels[23:])
    data = nn.Dataset("small", train, test, nn.Pixels(class_names=("a", "b", "c")))
    with started(contestant_names(), threads=1) as (workers, missing):

        @cache
        def results_of(task: str) -> dict[str, dict[str, Any]]:
            activation, optimizer, batch_size = TASKS[task]
            workload = Workload(task, (6, 5, 4, 3), batch_size, optimizer, activation=activation)
            present = [worker for worker in workers if task in COMPILED.get(worker.name, TASKS)]
            figures = measure(workload, data, present, turns=2)
            return {**{name: {"missing": reason} for name, reason in missing.items()}, **figures}

        yield results_of


@pytest.mark.parametrize("name", contestant_names())
def test_every_contestant_has_the_losses_of_the_script(results, name: str) -> None:
    for task in COMPILED.get(name, TASKS):
        figures, expected = results(task)[name], results(task)["script"]
        if "missing" in figures:
            pytest.skip(figures["missing"])
        assert figures.get("failed") is None
        assert len(figures["losses"]) == 3  # one epoch warms up
        assert figures["losses"] == pytest.approx(expected["losses"], rel=1e-4)
        assert figures["test_accuracy"] == expected["test_accuracy"]
        assert figures["mark"] == ""


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(1e-3)], ids=lambda optimizer: optimizer.name)
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_plain_script_trains_as_the_network_does(make_data, optimizer, batch_size, activation) -> None:
    data = make_data(dtype="float64")
    net = nn.MLP([6, 5, 4, 3], backend="numpy", dtype="float64", activation=activation)
    task = task_of(Workload("", (6, 5, 4, 3), batch_size, optimizer, activation=activation), data, threads=1)
    script = PlainNumPy(replace(task, start=tuple(net.parameters().values())), data.train.images, data.train.labels)
    history = nn.train(net, data, optimizer=optimizer, epochs=3, batch_size=batch_size, shuffle=False)
    losses = [script.run_epoch(None) for _ in range(3)]
    assert losses == pytest.approx([result.train_loss for result in history], rel=1e-12)
    for parameter, expected in zip(script.parameters, net.parameters().values(), strict=True):
        np.testing.assert_allclose(parameter, expected, rtol=1e-10, atol=1e-14)

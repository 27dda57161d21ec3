"""The times of steps that ranks share."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.backends.communicator import ALONE
from xpnn.bench import distributed


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """One process without MPI."""
    monkeypatch.setattr(nn.distributed, "world", lambda: ALONE)


def test_a_line_of_json_says_what_steps_and_exchanges_take():
    options = ["--sizes", "12-8-3", "--batch-size", "16", "--steps", "2", "--turns", "3", "--reproducible"]
    result = CliRunner().invoke(distributed.main, options)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [found[name] for name in ("sizes", "backend", "batch_size", "ranks")] == ["12-8-3", "numpy", 16, 1]
    assert found["step_ms"] > 0
    assert found["exchange_ms"] >= 0
    assert found["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize("sizes", ["784", "784-0-10", "784-x-10", ""])
def test_other_words_are_no_sizes(sizes):
    result = CliRunner().invoke(distributed.main, ["--sizes", sizes])
    assert result.exit_code == 2
    assert "like 784-256-10, got" in result.stderr


def test_training_is_timed_without_its_first_epoch(monkeypatch):
    def train(_net, rows, *, epochs, batch_size, communicator, reproducible):
        assert (len(rows), epochs, batch_size, communicator, reproducible) == (80, 4, 8, ALONE, True)
        return [SimpleNamespace(seconds=seconds) for seconds in (100.0, 10.0, 30.0, 20.0)]

    monkeypatch.setattr(nn, "train", train)
    net = nn.MLP([6, 3], backend="numpy")
    found = distributed.step_seconds(net, ALONE, batch_size=8, reproducible=True, steps=10, turns=3)
    assert found == [1.0, 3.0, 2.0]


@pytest.mark.parametrize(("reproducible", "call"), [(False, "sum"), (True, "gather")])
def test_what_a_step_exchanges_are_the_gradients_of_all_parameters(ranks, reproducible, call):
    net = nn.MLP([6, 4, 3], backend="numpy")

    def work(communicator):
        found = distributed.exchange_seconds(net, communicator, reproducible=reproducible, turns=2)
        return len(found), communicator.calls

    calls = (["barrier"] + [call] * distributed.EXCHANGES) * 3
    assert ranks(2, work) == [(2, calls)] * 2

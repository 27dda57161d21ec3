"""The order of the rows, and the chunks in which a plan gets them."""

from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import Recorder, network, same_parameters
from xpnn import nn
from xpnn.backends import (
    NO_ROWS,
)
from xpnn.nn.training import loop as training_loop
from xpnn.nn.training.run import Callback


@pytest.fixture
def orders_of(make_data, monkeypatch):
    """`orders_of(**options)`: what a training hands to its plan, one entry a chunk."""

    def run(*, epochs=2, chunk_seconds=0.0, **options):
        monkeypatch.setattr(training_loop, "CHUNK_SECONDS", chunk_seconds)
        net, seen = network(), []
        compiled = net.backend.compile

        def compile_and_watch(job):
            plan = compiled(job)
            run_plan = plan.run
            plan.run = lambda order=None, totals=NO_ROWS: seen.append(order) or run_plan(order, totals)
            return plan

        net.backend.compile = compile_and_watch
        nn.train(net, make_data(), epochs=epochs, **options)
        return seen

    return run


def test_every_epoch_has_every_row_once_in_a_new_order(orders_of):
    seen = orders_of(batch_size=8)
    assert [len(order) for order in seen] == [8, 8, 7] * 2
    first, second = np.concatenate(seen[:3]).tolist(), np.concatenate(seen[3:]).tolist()
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second != list(range(23))


def test_without_shuffling_rows_come_as_they_stand(orders_of):
    seen = orders_of(batch_size=8, shuffle=False)
    assert np.concatenate(seen[:3]).tolist() == np.concatenate(seen[3:]).tolist() == list(range(23))


@pytest.mark.parametrize("batch_size", [None, 23])
def test_a_full_batch_draws_no_order(orders_of, batch_size):
    generator = np.random.default_rng(0)
    assert orders_of(batch_size=batch_size, seed=generator) == [None, None]
    assert generator.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_an_epoch_that_is_quick_becomes_one_chunk(orders_of, monkeypatch):
    monkeypatch.setattr(training_loop, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    seen = orders_of(batch_size=2, epochs=3, chunk_seconds=0.5)
    assert [len(order) for order in seen] == [2, 8, 13, 23, 23]


@pytest.fixture
def quick(monkeypatch):
    """A clock that stands still: chunks grow as fast as they may."""
    monkeypatch.setattr(training_loop, "time", SimpleNamespace(perf_counter=lambda: 0.0))


@pytest.fixture
def watched(monkeypatch):
    """`watched(net)`: the numbers of full-batch epochs that its plan is asked for, as they come."""

    def watch(net):
        seen, compiled = [], net.backend.compile

        def compile_and_watch(job):
            plan = compiled(job)
            run_epochs = plan.run_epochs
            plan.run_epochs = lambda epochs: seen.append(epochs) or run_epochs(epochs)
            return plan

        monkeypatch.setattr(net.backend, "compile", compile_and_watch)
        return seen

    return watch


@pytest.mark.usefixtures("quick")
def test_full_batches_without_a_test_set_are_taken_in_growing_numbers(make_data, watched):
    net, other = network(), network()
    seen = watched(net)
    history = nn.train(net, make_data().train, epochs=30, batch_size=None)
    assert seen == [1, 4, 16, 9]
    assert [result.epoch for result in history] == list(range(1, 31))
    expected = nn.train(other, make_data(), epochs=30, batch_size=None)
    assert [result.train_loss for result in history] == [result.train_loss for result in expected]
    same_parameters(net, other)


@pytest.mark.usefixtures("quick")
def test_full_batches_stop_for_an_evaluation(make_data, watched):
    net, other = network(), network()
    seen = watched(net)
    history = nn.train(net, make_data(), epochs=11, batch_size=None, evaluate_every=4)
    assert seen == [1, 3, 4, 3]
    assert [result.epoch for result in history if result.test_loss is not None] == [4, 8, 11]
    expected = nn.train(other, make_data(), epochs=11, batch_size=None)
    assert [history[k].test_accuracy for k in (3, 7, 10)] == [expected[k].test_accuracy for k in (3, 7, 10)]
    assert [result.train_loss for result in history] == [result.train_loss for result in expected]


def test_small_batches_are_evaluated_as_seldom(make_data):
    history = nn.train(network(), make_data(), epochs=5, batch_size=8, evaluate_every=2)
    assert [result.epoch for result in history if result.test_loss is not None] == [2, 4, 5]


@pytest.mark.usefixtures("quick")
def test_epochs_that_were_taken_together_are_told_when_the_last_is_done(make_data):
    recorder = Recorder()
    nn.train(network(), make_data().train, epochs=6, batch_size=None, callbacks=[recorder])
    assert recorder.calls == [
        ("begin", 1, 0, 0),
        ("chunk", 1, 23, 0),
        ("epoch", 1, 0, 1),
        ("chunk", 5, 23, 4),
        *[("epoch", epoch, 0, 5) for epoch in (2, 3, 4, 5)],
        ("chunk", 6, 23, 5),
        ("epoch", 6, 0, 6),
        ("end", 7, 0, 6),
    ]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("where", ["on_chunk_end", "on_epoch_end"])
def test_a_run_goes_on_from_between_epochs_that_were_taken_together(make_data, where):
    """Every checkpoint that a listener can take, resumed, ends in the same bits and the same history."""
    checkpoints = []

    class Keep(Callback):
        pass

    setattr(Keep, where, lambda self, run, *_: checkpoints.append(run.checkpoint()))  # noqa: ARG005
    whole = network()
    history = nn.train(whole, make_data().train, epochs=12, batch_size=None, callbacks=[Keep()])
    assert len(checkpoints) == (3 if where == "on_chunk_end" else 12)
    for checkpoint in checkpoints:
        recorder, net = Recorder(), network()
        resumed = nn.train(net, make_data().train, epochs=12, batch_size=None, resume=checkpoint, callbacks=[recorder])
        assert [(r.epoch, r.train_loss) for r in resumed] == [(r.epoch, r.train_loss) for r in history]
        told = [call[1] for call in recorder.calls if call[0] == "epoch"]
        assert told == list(range(len(checkpoint.history) + 1, 13))
        same_parameters(net, whole)


@pytest.mark.parametrize(
    ("chunk", "elapsed", "expected"),
    [
        (100, 0.5, 100),  # as it should be
        (100, 0.25, 200),
        (100, 1.0, 50),
        (100, 0.1, 400),  # at most four times as many
        (100, 0.0, 400),
        (100, 0.4, 120),  # 125 rows are 12 batches and a half
        (100, 99.0, 10),  # never less than a batch
    ],
)
def test_the_next_chunk_aims_at_half_a_second_in_whole_batches(chunk, elapsed, expected):
    assert training_loop._next_chunk(chunk, elapsed, batch_size=10) == expected


def test_chunks_stay_bounded_however_many_epochs_there_are(make_data, monkeypatch):
    chunks = []
    grow = training_loop._next_chunk

    def watched(taken, elapsed, batch_size):
        chunks.append(grow(taken, elapsed, batch_size))
        return chunks[-1]

    monkeypatch.setattr(training_loop, "_next_chunk", watched)
    data = make_data()
    nn.train(nn.MLP([6, 3], backend="numpy"), data, epochs=600, batch_size=None)
    assert len(chunks) == 600
    assert max(chunks) <= 4 * len(data.train)

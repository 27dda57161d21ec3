"""The training loop: the same run for the same seed, and the meaning of its figures."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import STEPPERS, Recorder, figures, network, same_parameters
from xpnn import nn
from xpnn.backends import (
    SGD,
)
from xpnn.nn.training import loop as training_loop
from xpnn.nn.training.history import EpochResult, History
from xpnn.nn.training.run import Callback


@pytest.mark.parametrize("optimizer", STEPPERS)
def test_a_seed_means_the_same_run_on_every_backend(every_backend, make_data, optimizer):
    runs = []
    for each in ("numpy", every_backend):
        net = network(each)
        history = nn.train(net, make_data(), optimizer=optimizer, epochs=3, batch_size=8, seed=5, l2=0.01)
        runs.append((net, history))
    (net, history), (other, other_history) = runs
    same_parameters(net, other, rtol=0, atol=1e-10)
    for one, two in zip(figures(history), figures(other_history), strict=True):
        assert one == pytest.approx(two, abs=1e-10)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(backend, make_data):
    nets, histories = [], []
    for seed in (5, 5, 6):
        nets.append(network(backend))
        histories.append(nn.train(nets[-1], make_data(), epochs=2, batch_size=8, seed=seed))
    same_parameters(nets[0], nets[1])
    assert figures(histories[0]) == figures(histories[1])
    assert not np.array_equal(nets[0].parameters()["layers.0.weight"], nets[2].parameters()["layers.0.weight"])


def test_float32_trains_in_float32(backend, make_data):
    net = network(backend, dtype="float32")
    wide = network(backend)
    history = nn.train(net, make_data(), optimizer=SGD(0.5), epochs=5, batch_size=8)
    wide_history = nn.train(wide, make_data(), optimizer=SGD(0.5), epochs=5, batch_size=8)
    assert {array.dtype for array in net.parameters().values()} == {np.dtype("float32")}
    same_parameters(net, wide, rtol=0, atol=1e-4)
    assert history[-1].train_loss == pytest.approx(wide_history[-1].train_loss, rel=1e-4)


def test_training_learns(backend, make_data):
    net = network(backend, dtype="float32")
    history = nn.train(net, make_data(200, 100), optimizer=nn.Adam(0.02), epochs=20, batch_size=20)
    assert history[0].test_accuracy < 0.8
    assert history[-1].test_accuracy > 0.85
    assert nn.evaluate(net, make_data(200, 100).test).accuracy == pytest.approx(history[-1].test_accuracy)


def test_the_default_optimizer_is_adam(make_data):
    net, other = network(), network()
    nn.train(net, make_data(), epochs=1, batch_size=8)
    nn.train(other, make_data(), optimizer=nn.Adam(1e-3), epochs=1, batch_size=8)
    same_parameters(net, other)


def test_the_seed_may_be_a_generator(make_data):
    """Its permutations are the orders of the epochs, drawn one after the other."""
    data, net, by_hand = make_data(), network(), network()
    nn.train(net, data, optimizer=SGD(0.5), epochs=2, batch_size=8, seed=np.random.default_rng(9))
    by_hand.adopt(data)
    generator = np.random.default_rng(9)
    for _ in range(2):
        order = generator.permutation(23)
        rows = nn.Split(data.train.images[order], data.train.labels[order])
        nn.train(by_hand, rows, optimizer=SGD(0.5), epochs=1, batch_size=8, shuffle=False)
    same_parameters(net, by_hand, rtol=0, atol=1e-14)


def test_the_order_does_not_repeat_the_draws_of_the_weights(make_data):
    """The same seed for network and training must not give orders that depend on the weights' numbers."""
    orders = []
    plan = SimpleNamespace(
        run=lambda rows, totals: orders.append(rows) or totals._replace(rows=23, loss_sum=1.0),
        state=dict,
        final_state=dict,
        step=0,
    )
    net = network()
    net.backend.compile = lambda job: plan  # noqa: ARG005
    nn.train(net, make_data().train, epochs=1, batch_size=8, seed=3)
    nn.train(net, make_data().train, epochs=1, batch_size=8, seed=3)
    assert orders[0].tolist() == orders[1].tolist()
    assert sorted(orders[0]) != orders[0].tolist()
    assert orders[0].tolist() != np.random.default_rng(3).permutation(23)[:8].tolist()


def test_the_last_batch_takes_the_mean_over_its_own_rows(every_backend, make_problem):
    """Two rows in batches of 1 are two steps; one row alone after a batch of 22 has its full weight."""
    images, labels = make_problem(3)
    net, by_hand = network(every_backend), network(every_backend)
    nn.train(net, nn.Split(images, labels), optimizer=SGD(0.5), epochs=1, batch_size=2, shuffle=False)
    for rows in (slice(0, 2), slice(2, 3)):
        nn.train(by_hand, nn.Split(images[rows], labels[rows]), optimizer=SGD(0.5), epochs=1, batch_size=None)
    same_parameters(net, by_hand, rtol=0, atol=1e-14)


def test_train_figures_are_of_the_pass_that_trained_and_test_figures_of_the_end(backend, make_data):
    data, net = make_data(), network(backend)
    net.adopt(data)
    before = nn.evaluate(net, data.train)
    history = nn.train(net, data, optimizer=SGD(0.5), epochs=1, batch_size=None)
    after = nn.evaluate(net, data.test)
    assert history[0].train_loss == pytest.approx(before.loss, rel=1e-12)
    assert history[0].train_accuracy == before.accuracy
    assert history[0].test_loss == pytest.approx(after.loss, rel=1e-12)
    assert history[0].test_accuracy == after.accuracy
    assert nn.evaluate(net, data.train).loss < before.loss


def test_train_loss_has_no_penalty_in_it(backend, make_data):
    one, other = (
        nn.train(network(backend), make_data(), optimizer=SGD(0.5), epochs=1, batch_size=None, l2=l2)[0]
        for l2 in (0.0, 5.0)
    )
    assert one.train_loss == pytest.approx(other.train_loss, rel=1e-14)
    assert one.test_loss != pytest.approx(other.test_loss, rel=1e-3)


def test_train_accuracy_is_the_share_of_all_batches(make_data):
    """With a learning rate of next to nothing, every batch sees the same network."""
    data, net = make_data(), network()
    net.adopt(data)
    before = nn.evaluate(net, data.train)
    result = nn.train(net, data, optimizer=SGD(1e-15), epochs=1, batch_size=7)[0]
    assert result.train_accuracy == before.accuracy
    assert result.train_loss == pytest.approx(before.loss, rel=1e-12)


def test_without_test_rows_there_are_no_test_figures(backend, make_data):
    data, net = make_data(), network(backend)
    history = nn.train(net, data.train, epochs=2, batch_size=8)
    assert [(r.test_loss, r.test_accuracy) for r in history] == [(None, None)] * 2
    assert net.inputs == data.inputs
    assert all(math.isfinite(r.train_loss) for r in history)


def test_the_network_keeps_the_inputs_of_the_first_data_that_it_is_trained_on(make_data):
    data, net = make_data(), network()
    nn.train(net, data, epochs=1, batch_size=8)
    assert (net.input_scale, net.class_names, net.image_shape) == (1 / 255, ("a", "b", "c"), (2, 3))
    other = nn.Dataset("other", data.train, data.test, dataclasses.replace(data.inputs, largest=100))
    nn.train(net, other, epochs=1, batch_size=8)
    assert net.inputs == data.inputs


@pytest.mark.usefixtures("one_batch_chunks")
def test_seconds_are_those_of_the_steps_alone(make_data, monkeypatch):
    """A clock that moves only when told: 2 for each run of the plan, 100 for each evaluation and callback."""
    now = [0.0]
    monkeypatch.setattr(training_loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    net = network()
    compiled, evaluate = net.backend.compile, net.backend.evaluate

    def wait(seconds, result):
        now[0] += seconds
        return result

    def compile_slowly(job):
        plan = compiled(job)
        run = plan.run
        plan.run = lambda order, totals: wait(2.0, run(order, totals))
        return wait(100.0, plan)

    class Slow(Callback):
        def on_chunk_end(self, _run):
            wait(100.0, None)

        def on_epoch_end(self, _run, _result):
            wait(100.0, None)

    net.backend.compile = compile_slowly
    net.backend.evaluate = lambda *arguments, **options: wait(100.0, evaluate(*arguments, **options))
    history = nn.train(net, make_data(), epochs=2, batch_size=8, callbacks=[Slow()])
    assert [result.seconds for result in history] == [6.0, 6.0]  # 3 chunks of a batch each


def test_history_is_a_sequence():
    results = [EpochResult(k, 0.5 / k, 0.5, None, None, 1.0) for k in (1, 2, 3)]
    history = History(results[:2])
    assert (len(history), history[0], history[-1], list(history)) == (2, results[0], results[1], results[:2])
    history.append(results[2])
    assert history[2] is results[2]
    tail = history[1:]
    assert isinstance(tail, History)
    assert list(tail) == results[1:]
    tail.append(results[0])
    assert len(history) == 3
    assert results[1] in history
    assert repr(history) == f"History(3 epochs, last {results[2]!r})"
    assert repr(History()) == "History(0 epochs)"
    with pytest.raises(IndexError):
        history[3]


def test_a_history_does_not_share_the_list_it_was_made_of():
    results = []
    history = History(results)
    history.append(EpochResult(1, 0.5, 0.5, None, None, 1.0))
    assert results == []


def test_the_penalty_shrinks_weights_and_leaves_biases(backend, make_data):
    """One step: with the penalty the weights end `learning_rate * l2 * weight` lower, the biases where they were."""
    net, plain, untrained = (network(backend, initializer="uniform") for _ in range(3))
    start = untrained.parameters()
    assert start["layers.0.bias"].any()
    for each, l2 in ((net, 0.3), (plain, 0.0)):
        nn.train(each, make_data(), optimizer=SGD(0.5), epochs=1, batch_size=None, l2=l2)
    for name, array in net.parameters().items():
        shrunk = 0.5 * 0.3 * start[name] if name.endswith("weight") else 0.0
        np.testing.assert_allclose(plain.parameters()[name] - array, shrunk, rtol=0, atol=1e-14)


@pytest.mark.parametrize("schedule", ["step", lambda progress: 1 - progress])
def test_schedule_and_warm_up_set_the_rate_of_each_step(backend, make_data, schedule):
    """Six steps (two epochs of three batches) with two of warm-up, against six trainings of one step each."""
    data, net, by_hand = make_data(), network(backend), network(backend)
    nn.train(net, data, optimizer=SGD(0.8), epochs=2, batch_size=8, shuffle=False, schedule=schedule, warmup_steps=2)
    factors = [0.5, 1.0, *([1, 1, 0.1, 0.01] if schedule == "step" else [1, 0.75, 0.5, 0.25])]
    by_hand.adopt(data)
    for step, factor in enumerate(factors):
        rows = slice(step % 3 * 8, step % 3 * 8 + 8)
        batch = nn.Split(data.train.images[rows], data.train.labels[rows])
        nn.train(by_hand, batch, optimizer=SGD(0.8 * factor), epochs=1, batch_size=None)
    same_parameters(net, by_hand, rtol=0, atol=1e-13)


@pytest.mark.usefixtures("one_batch_chunks")
def test_callbacks_are_called_in_order(make_data):
    recorder = Recorder()
    nn.train(network(), make_data(), epochs=2, batch_size=8, callbacks=[recorder])
    assert recorder.calls == [
        ("begin", 1, 0, 0),
        ("chunk", 1, 8, 0),
        ("chunk", 1, 16, 0),
        ("chunk", 1, 23, 0),
        ("epoch", 1, 0, 1),
        ("chunk", 2, 8, 1),
        ("chunk", 2, 16, 1),
        ("chunk", 2, 23, 1),
        ("epoch", 2, 0, 2),
        ("end", 3, 0, 2),
    ]

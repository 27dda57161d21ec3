"""The training loop: its results, their meaning, the calls, stopping and going on, and what is refused."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import (
    NO_ROWS,
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    ConfigError,
    DataError,
    DivergenceError,
    ModelFileError,
    RMSprop,
    RunError,
)
from xpnn.nn.training import loop as training_loop
from xpnn.nn.training.history import EpochResult, History
from xpnn.nn.training.run import Callback

STEPPERS = [
    *(pytest.param(kind(0.05), id=name) for name, kind in OPTIMIZERS.items()),
    pytest.param(SGD(0.05, momentum=0.9, nesterov=True), id="nesterov"),
]


@pytest.fixture
def one_batch_chunks(monkeypatch):
    """Chunks of a single batch, so that a run can stop after every step."""
    monkeypatch.setattr(training_loop, "CHUNK_SECONDS", 0.0)


def network(backend="numpy", **options):
    return nn.MLP([6, 4, 3], backend=backend, **({"dtype": "float64", "seed": 3} | options))


def same_parameters(net, other, **tolerance):
    for name, array in net.parameters().items():
        if tolerance:
            np.testing.assert_allclose(array, other.parameters()[name], **tolerance)
        else:
            np.testing.assert_array_equal(array, other.parameters()[name])


def figures(history):
    """Every field of the results but the seconds."""
    return [(r.epoch, r.train_loss, r.train_accuracy, r.test_loss, r.test_accuracy) for r in history]


class Recorder(Callback):
    """Notes each call with where the run is."""

    def __init__(self):
        self.calls = []

    def on_train_begin(self, run):
        self.calls.append(("begin", run.epoch, run.position, len(run.history)))

    def on_chunk_end(self, run):
        self.calls.append(("chunk", run.epoch, run.position, len(run.history)))

    def on_epoch_end(self, run, result):
        assert run.history[result.epoch - 1] is result
        self.calls.append(("epoch", result.epoch, run.position, len(run.history)))

    def on_train_end(self, run):
        self.calls.append(("end", run.epoch, run.position, len(run.history)))


class StopAfter(Callback):
    """Stops after a number of chunks and keeps the checkpoint of that moment."""

    def __init__(self, chunks):
        self.chunks, self.checkpoint = chunks, None

    def on_chunk_end(self, run):
        self.chunks -= 1
        if self.chunks == 0:
            self.checkpoint = run.checkpoint()
            run.stop()


# One seed, one run


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
        run=lambda rows, totals: orders.append(rows) or totals._replace(rows=23, loss_sum=1.0), state=dict, step=0
    )
    net = network()
    net.backend.compile = lambda job: plan  # noqa: ARG005
    nn.train(net, make_data().train, epochs=1, batch_size=8, seed=3)
    nn.train(net, make_data().train, epochs=1, batch_size=8, seed=3)
    assert orders[0].tolist() == orders[1].tolist()
    assert sorted(orders[0]) != orders[0].tolist()
    assert orders[0].tolist() != np.random.default_rng(3).permutation(23)[:8].tolist()


# Batches and orders


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


# Several epochs at once


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


def test_the_last_batch_takes_the_mean_over_its_own_rows(every_backend, make_problem):
    """Two rows in batches of 1 are two steps; one row alone after a batch of 22 has its full weight."""
    images, labels = make_problem(3)
    net, by_hand = network(every_backend), network(every_backend)
    nn.train(net, nn.Split(images, labels), optimizer=SGD(0.5), epochs=1, batch_size=2, shuffle=False)
    for rows in (slice(0, 2), slice(2, 3)):
        nn.train(by_hand, nn.Split(images[rows], labels[rows]), optimizer=SGD(0.5), epochs=1, batch_size=None)
    same_parameters(net, by_hand, rtol=0, atol=1e-14)


# What a result says


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
    net.input_scale = 0.01
    history = nn.train(net, data.train, epochs=2, batch_size=8)
    assert [(r.test_loss, r.test_accuracy) for r in history] == [(None, None)] * 2
    assert (net.input_scale, net.class_names) == (0.01, None)
    assert all(math.isfinite(r.train_loss) for r in history)


def test_the_network_takes_over_the_scale_and_names_of_the_data(make_data):
    net = network()
    net.input_scale = 7.0
    nn.train(net, make_data(), epochs=1, batch_size=8)
    assert (net.input_scale, net.class_names, net.image_shape) == (1 / 255, ("a", "b", "c"), (2, 3))


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


# Penalty, schedule, warm-up


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


# Callbacks


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


def test_several_callbacks_are_called_one_after_the_other(make_data):
    heard = []

    class Named(Callback):
        def __init__(self, name):
            self.name = name

        def on_epoch_end(self, _run, _result):
            heard.append(self.name)

    nn.train(network(), make_data(), epochs=2, batch_size=8, callbacks=[Named("a"), Callback(), Named("b")])
    assert heard == ["a", "b", "a", "b"]


@pytest.mark.usefixtures("one_batch_chunks")
def test_a_callback_sees_the_weights_of_the_last_step(every_backend, make_data):
    seen = []

    class Look(Callback):
        def on_chunk_end(self, run):
            seen.append(run.net.parameters()["layers.0.weight"])
            assert run.plan.step == len(seen)
            assert (run.epochs, run.rows_per_epoch) == (1, 23)

    net = network(every_backend)
    nn.train(net, make_data(), optimizer=SGD(0.5), epochs=1, batch_size=8, callbacks=[Look()])
    assert len(seen) == 3
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[2], net.parameters()["layers.0.weight"])


@pytest.mark.usefixtures("one_batch_chunks")
def test_stopping_at_an_epochs_end_finishes_the_epoch(make_data):
    recorder, stop = Recorder(), StopAfter(3)
    history = nn.train(network(), make_data(), epochs=2, batch_size=8, callbacks=[stop, recorder])
    assert len(history) == 1
    assert recorder.calls[-2:] == [("epoch", 1, 0, 1), ("end", 2, 0, 1)]


@pytest.mark.usefixtures("one_batch_chunks")
def test_stopping_in_an_epoch_leaves_it_without_a_result(make_data):
    recorder, stop = Recorder(), StopAfter(4)
    history = nn.train(network(), make_data(), epochs=2, batch_size=8, callbacks=[stop, recorder])
    assert len(history) == 1
    assert recorder.calls[-2:] == [("chunk", 2, 8, 1), ("end", 2, 8, 1)]


def test_stopping_before_the_first_step_trains_nothing(make_data):
    class Never(Callback):
        def on_train_begin(self, run):
            run.stop()

    net = network()
    assert len(nn.train(net, make_data(), epochs=2, batch_size=8, callbacks=[Never()])) == 0
    same_parameters(net, network())


# Going on


@pytest.mark.usefixtures("one_batch_chunks")
@pytest.mark.parametrize("chunks", range(1, 7))
def test_a_stopped_run_goes_on_bit_for_bit(every_backend, make_data, tmp_path, chunks):
    """Two epochs of three batches, stopped after each of them; everything goes through a file."""
    options = {
        "optimizer": Adam(0.05), "epochs": 2, "batch_size": 8, "seed": 5, "l2": 0.01,
        "schedule": "cosine", "warmup_steps": 2,
    }  # fmt: skip
    whole = network(every_backend)
    expected = nn.train(whole, make_data(), **options)

    stop = StopAfter(chunks)
    nn.train(network(every_backend), make_data(), callbacks=[stop], **options)
    stop.checkpoint.save(tmp_path / "here.safetensors")
    resume = nn.Checkpoint.load(tmp_path / "here.safetensors")
    assert (resume.step, resume.position) == (chunks, [8, 16, 23][(chunks - 1) % 3])

    net = network(every_backend, seed=99)  # its weights are replaced
    history = nn.train(net, make_data(), resume=resume, **options)
    same_parameters(net, whole)
    assert figures(history) == figures(expected)


def test_a_run_goes_on_from_a_checkpoint_of_an_epochs_end(make_data):
    taken = []

    class Keep(Callback):
        def on_epoch_end(self, run, _result):
            taken.append(run.checkpoint())

    whole = network()
    expected = nn.train(whole, make_data(), epochs=3, batch_size=8, callbacks=[Keep()])
    assert [(each.epoch, each.position, len(each.history)) for each in taken] == [(2, 0, 1), (3, 0, 2), (4, 0, 3)]
    for resume in taken:
        net = network(seed=99)
        assert figures(nn.train(net, make_data(), epochs=3, batch_size=8, resume=resume)) == figures(expected)
        same_parameters(net, whole)


def test_more_epochs_may_be_added_on_resuming(make_data):
    stop = StopAfter(1)
    nn.train(network(), make_data(), epochs=1, batch_size=None, callbacks=[stop])
    net, whole = network(), network()
    history = nn.train(net, make_data(), epochs=3, batch_size=None, resume=stop.checkpoint)
    assert figures(history) == figures(nn.train(whole, make_data(), epochs=3, batch_size=None))
    same_parameters(net, whole)


@pytest.mark.usefixtures("one_batch_chunks")
def test_the_seconds_of_a_stopped_epoch_are_counted(make_data, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(training_loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    stop = StopAfter(2)
    nn.train(network(), make_data(), epochs=1, batch_size=8, callbacks=[stop])
    assert stop.checkpoint.seconds == 2.0
    history = nn.train(network(), make_data(), epochs=1, batch_size=8, resume=stop.checkpoint)
    assert history[0].seconds == 3.0


@pytest.mark.usefixtures("one_batch_chunks")
def test_a_generator_that_keeps_arrays_goes_on_from_a_file(make_data, tmp_path):
    def generator():
        return np.random.Generator(np.random.MT19937(4))

    whole, net, stop = network(), network(), StopAfter(2)
    nn.train(whole, make_data(), epochs=2, batch_size=8, seed=generator())
    nn.train(network(), make_data(), epochs=2, batch_size=8, seed=generator(), callbacks=[stop])
    stop.checkpoint.save(tmp_path / "c")
    resume = nn.Checkpoint.load(tmp_path / "c")
    nn.train(net, make_data(), epochs=2, batch_size=8, seed=np.random.Generator(np.random.MT19937(1)), resume=resume)
    same_parameters(net, whole)


@pytest.fixture
def checkpoint(make_data, monkeypatch):
    """After 16 of 23 rows of epoch 2, in batches of 8."""
    monkeypatch.setattr(training_loop, "CHUNK_SECONDS", 0.0)
    stop = StopAfter(5)
    nn.train(network(), make_data(), optimizer=Adam(), epochs=3, batch_size=8, callbacks=[stop])
    return stop.checkpoint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": None}, "batch_size 8, this one has 23"),
        ({"batch_size": 5}, "batch_size 8, this one has 5"),
        ({"optimizer": SGD()}, "optimizer 'Adam.*', this one has 'SGD.*'"),
        (
            {"optimizer": Adam(1e-4)},
            r"optimizer 'Adam.learning_rate=0.001,.*', this one has 'Adam.learning_rate=0.0001",
        ),
        ({"schedule": "cosine"}, "schedule 'constant', this one has 'cosine'"),
        ({"schedule": float}, "schedule 'constant', this one has .0.0, 0.2, 0.4,"),
        ({"warmup_steps": 2}, "warmup_steps 0, this one has 2"),
        ({"l2": 0.1}, "l2 0.0, this one has 0.1"),
        ({"shuffle": False}, "shuffle True, this one has False"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(make_data, checkpoint, options, message):
    net = network()
    with pytest.raises(ConfigError, match=f"the checkpoint is of a training with {message}.*: resume it with its own"):
        nn.train(net, make_data(), **{"epochs": 3, "batch_size": 8, "resume": checkpoint} | options)
    same_parameters(net, network())


def changed_pixel(data):
    images = data.train.images.copy()
    images[-1, -1] ^= 1
    return replace(data, train=nn.Split(images, data.train.labels))


def changed_label(data):
    return replace(data, train=nn.Split(data.train.images, np.roll(data.train.labels, 1)))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (changed_pixel, "check sum of the rows"),
        (changed_label, "check sum of the rows"),
        (lambda data: replace(data, train=nn.Split(data.train.images[:20], data.train.labels[:20])), "check sum"),
        (lambda data: replace(data, scale=0.5), "input_scale"),
    ],
)
def test_a_checkpoint_is_not_resumed_with_other_rows(make_data, checkpoint, change, name):
    with pytest.raises(ConfigError, match=f"the checkpoint is of a training with {name}"):
        nn.train(network(), change(make_data()), epochs=3, batch_size=8, resume=checkpoint)


def test_a_checkpoint_may_be_named_by_its_file(make_data, checkpoint, tmp_path):
    checkpoint.save(tmp_path / "c.safetensors")
    net, whole = network(seed=9), network()
    nn.train(whole, make_data(), optimizer=Adam(), epochs=3, batch_size=8)
    nn.train(net, make_data(), optimizer=Adam(), epochs=3, batch_size=8, resume=tmp_path / "c.safetensors")
    same_parameters(net, whole)


@pytest.mark.parametrize(
    "change",
    [
        {"step": 4},
        {"step": 6},
        {"history": nn.History()},
        {"history": nn.History([EpochResult(1, 0.5, 0.5, None, None, 1.0), EpochResult(2, 0.5, 0.5, None, None, 1.0)])},
    ],
)
def test_a_checkpoint_whose_numbers_contradict_each_other_is_refused(make_data, checkpoint, change):
    with pytest.raises(DataError, match=r"has taken \d steps and finished \d epochs, .* it must be 5 and 1: take"):
        nn.train(network(), make_data(), epochs=3, batch_size=8, resume=replace(checkpoint, **change))


@pytest.mark.parametrize(
    ("key", "value"),
    [("has_uint32", 10**30), ("uinteger", -1), ("uinteger", 2**40), ("state", {"state": -1, "inc": 1}),
     ("state", {"state": 1.5, "inc": 1}), ("state", 5), ("bit_generator", "MT19937")],
)  # fmt: skip
def test_a_generator_state_that_cannot_be_is_refused(make_data, checkpoint, key, value):
    state, seed, net = checkpoint.generator_state | {key: value}, np.random.default_rng(4), network()
    before = seed.bit_generator.state
    with pytest.raises(DataError, match="generator"):
        nn.train(net, make_data(), epochs=3, batch_size=8, seed=seed, resume=replace(checkpoint, generator_state=state))
    assert seed.bit_generator.state == before
    same_parameters(net, network())


@pytest.mark.parametrize("part", ["parameters", "optimizer_state"])
def test_a_refused_checkpoint_changes_nothing(make_data, checkpoint, part):
    arrays = getattr(checkpoint, part)
    seed, net = np.random.default_rng(4), network()
    before = seed.bit_generator.state
    for wrong in ({}, {name: array.astype("float32") for name, array in arrays.items()},
                  {name: array[..., :1] for name, array in arrays.items()}):  # fmt: skip
        with pytest.raises(ModelFileError, match="the arrays of the checkpoint are of another network or optimizer"):
            nn.train(net, make_data(), epochs=3, batch_size=8, seed=seed, resume=replace(checkpoint, **{part: wrong}))
    assert (net.class_names, seed.bit_generator.state) == (None, before)
    same_parameters(net, network())


def test_a_checkpoint_may_be_named_by_its_run_folder(make_data, checkpoint, tmp_path):
    checkpoint.save(tmp_path / "checkpoint.safetensors")
    assert len(nn.train(network(), make_data(), epochs=3, batch_size=8, resume=tmp_path)) == 3
    with pytest.raises(ConfigError, match=r"a checkpoint must be an nn.Checkpoint or a path, got 5"):
        nn.train(network(), make_data(), epochs=3, batch_size=8, resume=5)


def test_another_function_is_another_schedule(make_data, monkeypatch):
    monkeypatch.setattr(training_loop, "CHUNK_SECONDS", 0.0)
    stop, options = StopAfter(2), {"epochs": 3, "batch_size": 8}
    nn.train(network(), make_data(), schedule=lambda progress: 1 - progress, callbacks=[stop], **options)
    nn.train(network(), make_data(), schedule=lambda progress: 1 - progress, resume=stop.checkpoint, **options)
    with pytest.raises(ConfigError, match="schedule"):
        nn.train(network(), make_data(), schedule=lambda progress: 1.0, resume=stop.checkpoint, **options)  # noqa: ARG005


@pytest.mark.parametrize("change", [{"position": -8}, {"position": 8}, {"epoch": 0}, {"epoch": 5}])
def test_a_checkpoint_that_contradicts_itself_is_refused(make_data, checkpoint, change):
    with pytest.raises(DataError, match="resume it with no fewer epochs"):
        nn.train(network(), make_data(), epochs=3, batch_size=8, resume=replace(checkpoint, **change))


def test_a_checkpoint_of_another_network_is_refused(make_data, checkpoint):
    wider = nn.MLP([6, 5, 3], backend="numpy", dtype="float64")
    with pytest.raises(ConfigError, match=r"sizes \[6, 4, 3\], this one has \[6, 5, 3\]"):
        nn.train(wider, make_data(), epochs=3, batch_size=8, resume=checkpoint)
    with pytest.raises(ConfigError, match="dtype 'float64', this one has 'float32'"):
        nn.train(network(dtype="float32"), make_data(), epochs=3, batch_size=8, resume=checkpoint)
    with pytest.raises(ModelFileError, match="the arrays of the checkpoint are of another network or optimizer"):
        nn.train(network(), make_data(), epochs=3, batch_size=8, resume=replace(checkpoint, optimizer_state={}))


def test_a_checkpoint_of_another_kind_of_generator_is_refused(make_data, checkpoint):
    seed = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(DataError, match="the checkpoint's orders came from another kind of generator"):
        nn.train(network(), make_data(), epochs=3, batch_size=8, seed=seed, resume=checkpoint)


# What cannot be


def test_a_loss_that_is_no_number_ends_the_run(backend, make_data):
    recorder, net = Recorder(), network(backend)
    with pytest.raises(DivergenceError, match=r"diverged in epoch 1, step 2 of 3: .*; lower the learning rate, which"):
        nn.train(net, make_data(), optimizer=SGD(1e300), epochs=2, batch_size=8, callbacks=[recorder])
    assert [call[0] for call in recorder.calls] == ["begin", "chunk"]


def test_a_network_that_is_no_longer_a_number_is_not_trained(backend, make_data):
    net = network(backend)
    net.load_parameters({name: array * np.nan for name, array in net.parameters().items()})
    with pytest.raises(ConfigError, match="the network's weights must be finite numbers"):
        nn.train(net, make_data(), epochs=2, batch_size=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number >= 1, got 1.5"),
        ({"evaluate_every": 0}, "evaluate_every must be a whole number >= 1, got 0"),
        ({"precision": "half"}, "precision of the backend numpy must be full, got 'half'"),
        ({"epochs": math.nan}, "epochs must be a whole number >= 1, got nan"),
        (
            {"batch_size": 0},
            r"batch_size must be a whole number in \[1, 23\], .* got 0; None .on the command line: full. takes all",
        ),
        ({"batch_size": True}, r"batch_size must be a whole number in \[1, 23\], .* got True"),
        ({"epochs": "5"}, "epochs must be a whole number >= 1, got '5'"),
        ({"optimizer": "adam"}, r"optimizer must be one such as nn.Adam\(1e-3\), got 'adam'"),
        ({"optimizer": Adam}, r"optimizer must be one such as nn.Adam\(1e-3\), got <class"),
        ({"schedule": 0.1}, "schedule must be a name or a function of the progress, got 0.1"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number >= 0, got -1"),
        ({"l2": "0.1"}, "l2 must be a finite number >= 0, got '0.1'"),
        ({"callbacks": iter([])}, "callbacks must be a list of nn.Callback, got <list_iter"),
        ({"callbacks": Callback()}, "callbacks must be a list of nn.Callback, got <xpnn.*: put it in a list"),
        ({"l2": True}, "l2 must be a finite number >= 0, got True"),
        ({"l2": 10**400}, "l2 must be a finite number >= 0, got 10000"),
        ({"callbacks": [print]}, "callbacks must be a list of nn.Callback, got .<built-in"),
        ({"batch_size": 24}, r"batch_size must be a whole number in \[1, 23\], .* got 24"),
        ({"batch_size": 2.5}, r"batch_size must be a whole number in \[1, 23\], .* got 2.5"),
        ({"l2": -0.1}, "l2 must be a finite number >= 0, got -0.1"),
        ({"l2": math.inf}, "l2 must be a finite number >= 0, got inf"),
        ({"l2": math.nan}, "l2 must be a finite number >= 0, got nan"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"warmup_steps": 6}, r"warmup_steps must be in \[0, 6\), the steps of this training, got 6"),
    ],
)
def test_impossible_arguments_are_refused_before_a_step_is_taken(make_data, options, message):
    net = network()
    with pytest.raises(ConfigError, match=message):
        nn.train(net, make_data(), **({"epochs": 2, "batch_size": 8} | options))
    same_parameters(net, network())


def test_what_is_no_network_and_no_data_set_is_refused(make_data):
    with pytest.raises(ConfigError, match=r"the network must be an nn.MLP, got list: make one"):
        nn.train([6, 4, 3], make_data())
    images, labels = make_data().train.images, make_data().train.labels
    with pytest.raises(DataError, match=r"got tuple: make one of arrays with nn.from_arrays\(images, labels\)"):
        nn.train(network(), (images, labels))


def test_a_data_set_of_one_class_is_refused(make_data):
    data = make_data()
    one = replace(data, train=nn.Split(data.train.images, np.ones_like(data.train.labels)))
    with pytest.raises(DataError, match="must have two classes or more, got only 1"):
        nn.train(network(), one, batch_size=8)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(make_data, number):
    data = make_data(dtype="float64")
    data.test.images[4, 2] = number
    with pytest.raises(DataError, match=rf"must be finite in float64, got {number} at row 4, column 2: fill"):
        nn.train(network(), data, batch_size=8)


def test_data_that_do_not_fit_are_refused(make_data):
    data = make_data()
    with pytest.raises(DataError, match="the network takes 5 features"):
        nn.train(nn.MLP([5, 3], backend="numpy"), data)
    with pytest.raises(DataError, match=r"images must have shape \(samples, 5\), got \(23, 6\)"):
        nn.train(nn.MLP([5, 3], backend="numpy"), data.train)
    with pytest.raises(DataError, match=r"labels must be in \[0, 2\), got 2 at row"):
        nn.train(nn.MLP([6, 2], backend="numpy"), data.train)
    for batch_size in (None, 8):
        with pytest.raises(DataError, match="there are no rows to work on"):
            nn.train(network(), nn.Split(data.train.images[:0], data.train.labels[:0]), batch_size=batch_size)
    labels = data.test.labels.copy()
    labels[4] = 3
    bad_test = nn.Dataset("small", data.train, nn.Split(data.test.images, labels), ("a", "b", "c"))
    with pytest.raises(DataError, match=r"labels must be in \[0, 3\), got 3 at row 4"):
        nn.train(network(), bad_test, batch_size=8)


# The optimizers' settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.0), "learning_rate of sgd must be a finite number > 0, got 0.0"),
        (lambda: Adam(-1.0), "learning_rate of adam must be a finite number > 0, got -1.0"),
        (lambda: RMSprop(math.inf), "learning_rate of rmsprop must be a finite number > 0, got inf"),
        (lambda: SGD(0.1, momentum=1.0), r"momentum of sgd must be in \[0, 1\), got 1.0"),
        (lambda: SGD(0.1, momentum=-0.1), r"momentum of sgd must be in \[0, 1\), got -0.1"),
        (lambda: SGD(0.1, nesterov=True), "nesterov needs momentum > 0"),
        (lambda: RMSprop(decay=1.5), r"decay of rmsprop must be in \[0, 1\), got 1.5"),
        (lambda: RMSprop(epsilon=0.0), "epsilon of rmsprop must be a finite number > 0, got 0.0"),
        (lambda: Adam(beta_1=1.0), r"beta_1 of adam must be in \[0, 1\), got 1.0"),
        (lambda: Adam(beta_2=math.nan), r"beta_2 of adam must be in \[0, 1\), got nan"),
        (lambda: Adam(epsilon=math.nan), "epsilon of adam must be a finite number > 0, got nan"),
        (lambda: AdamW(beta_1=-0.5), r"beta_1 of adamw must be in \[0, 1\), got -0.5"),
        (lambda: AdamW(weight_decay=-0.1), "weight_decay of adamw must be a finite number >= 0, got -0.1"),
        (lambda: AdamW(weight_decay=math.inf), "weight_decay of adamw must be a finite number >= 0, got inf"),
    ],
)
def test_impossible_settings_of_an_optimizer_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("number", ["0.1", None, True, [0.1], 1j])
def test_settings_of_an_optimizer_are_numbers(number):
    with pytest.raises(ConfigError, match="learning_rate of adam must be a number, got"):
        Adam(number)


def test_the_settings_of_an_optimizer_are_plain_python_values():
    assert SGD(np.float32(0.5), momentum=np.float64(0.25), nesterov=True).settings() == {
        "learning_rate": 0.5,
        "momentum": 0.25,
        "nesterov": True,
    }
    settings = AdamW(np.float32(0.5)).settings()
    assert settings.pop("epsilon_hat") is False
    assert {type(value) for value in settings.values()} == {float}
    assert SGD(1).settings()["learning_rate"] == 1.0


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


class StopAtOnce(Callback):
    """Stops before the first step and keeps the checkpoint of that moment."""

    def on_train_begin(self, run):
        run.stop()
        self.checkpoint = run.checkpoint()


def test_a_run_stopped_before_its_first_step_can_be_resumed(make_data):
    data, options = make_data(), {"epochs": 3, "batch_size": 8, "seed": 5}
    whole, broken = (nn.MLP([6, 4, 3], backend="numpy") for _ in range(2))
    expected = nn.train(whole, data, **options)
    stop = StopAtOnce()
    assert len(nn.train(broken, data, callbacks=[stop], **options)) == 0
    again = StopAtOnce()
    nn.train(broken, data, callbacks=[again], resume=stop.checkpoint, **options)  # stopped at once a second time
    history = nn.train(broken, data, resume=again.checkpoint, **options)
    assert [result.train_loss for result in history] == [result.train_loss for result in expected]
    for name, array in whole.parameters().items():
        np.testing.assert_array_equal(array, broken.parameters()[name])


def test_a_run_resumed_and_stopped_at_once_keeps_its_place(make_data, monkeypatch):
    monkeypatch.setattr(training_loop, "_next_chunk", lambda taken, elapsed, batch_size: batch_size)  # noqa: ARG005
    data, options = make_data(), {"epochs": 3, "batch_size": 8, "seed": 5}

    class StopInside(StopAtOnce):
        def on_train_begin(self, run):
            pass

        def on_chunk_end(self, run):
            if (run.epoch, run.position) == (2, 16):
                super().on_train_begin(run)

    net, inside, again = nn.MLP([6, 4, 3], backend="numpy"), StopInside(), StopAtOnce()
    nn.train(net, data, callbacks=[inside], **options)
    nn.train(net, data, callbacks=[again], resume=inside.checkpoint, **options)
    assert (again.checkpoint.epoch, again.checkpoint.position) == (2, 16)
    assert again.checkpoint.generator_state == inside.checkpoint.generator_state


def test_a_loss_that_is_no_number_stops_before_anyone_can_save_it(make_data, monkeypatch):
    monkeypatch.setattr(training_loop, "_next_chunk", lambda taken, elapsed, batch_size: batch_size)  # noqa: ARG005
    seen = []

    class Watch(Callback):
        def on_chunk_end(self, run):
            seen.append(run.totals.loss_sum)

    net = nn.MLP([6, 4, 3], backend="numpy")
    with pytest.raises(RunError, match="the training diverged in epoch 1"):
        nn.train(net, make_data(), optimizer=nn.SGD(1e38), batch_size=8, callbacks=[Watch()])
    assert all(math.isfinite(loss) for loss in seen)


def test_a_test_loss_that_is_no_number_is_an_error(make_data):
    net = nn.MLP([6, 4, 3], backend="numpy")
    with pytest.raises(RunError, match="the test loss of epoch 1 is"):
        nn.train(net, make_data(), optimizer=nn.SGD(1e38), batch_size=None, epochs=1)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", None])
def test_seeds_are_whole_numbers(make_data, seed):
    with pytest.raises(ConfigError, match="seed must be a whole number >= 0"):
        nn.MLP([6, 3], backend="numpy", seed=seed)
    with pytest.raises(ConfigError, match="seed must be a whole number >= 0"):
        nn.train(nn.MLP([6, 3], backend="numpy"), make_data(), batch_size=8, seed=seed)


def test_a_refused_training_leaves_the_network_as_it_was(make_data):
    net, data = nn.MLP([6, 3], backend="numpy"), replace(make_data(), scale=0.5)
    stop = StopAtOnce()
    nn.train(nn.MLP([6, 3], backend="numpy", seed=1), data, batch_size=8, epochs=2, callbacks=[stop])
    before = net.parameters()
    for options in ({"epochs": 0}, {"batch_size": 99}, {"l2": -1.0}, {"schedule": "cosin"}):
        with pytest.raises(ConfigError):
            nn.train(net, data, **options)
    with pytest.raises(nn.XpnnError):
        nn.train(net, data, batch_size=8, epochs=2, resume=replace(stop.checkpoint, position=3))
    generator = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(nn.XpnnError):
        nn.train(net, data, batch_size=8, epochs=2, seed=generator, resume=stop.checkpoint)
    assert net.input_scale == 1 / 255
    assert net.class_names is None
    for name, array in before.items():
        np.testing.assert_array_equal(array, net.parameters()[name])

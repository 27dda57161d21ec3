"""Trainings, data and settings of optimizers that are refused, and losses that are no number."""

import math
from dataclasses import replace

import numpy as np
import pytest
from small_runs import Recorder, StopAtOnce, network, same_parameters
from xpnn import nn
from xpnn.backends import (
    SGD,
    Adam,
    AdamW,
    ConfigError,
    DataError,
    DivergenceError,
    RMSprop,
    RunError,
)
from xpnn.nn.training import loop as training_loop
from xpnn.nn.training.run import Callback


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
        ({"batch_size": 0}, "batch_size must be a whole number >= 1, or None, got 0"),
        ({"batch_size": True}, "batch_size must be a whole number >= 1, or None, got True"),
        ({"epochs": "5"}, "epochs must be a whole number >= 1, got '5'"),
        ({"optimizer": "adam"}, r"optimizer must be one such as nn.Adam\(1e-3\), got 'adam'"),
        ({"optimizer": Adam}, r"optimizer must be one such as nn.Adam\(1e-3\), got <class"),
        ({"schedule": 0.1}, "schedule must be a name or a function of the progress, got 0.1"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number >= 0, got -1"),
        ({"l2": "0.1"}, "l2 must be a finite number >= 0, got '0.1'"),
        ({"callbacks": iter([])}, "callbacks must be a list of nn.Callback, got <list_iter"),
        ({"callbacks": Callback()}, "callbacks must be a list of nn.Callback, got <xpnn.*: list instances"),
        ({"l2": True}, "l2 must be a finite number >= 0, got True"),
        ({"l2": 10**400}, "l2 must be a finite number >= 0, got 10000"),
        ({"callbacks": [print]}, "callbacks must be a list of nn.Callback, got .<built-in"),
        ({"batch_size": 2.5}, "batch_size must be a whole number >= 1, or None, got 2.5"),
        ({"l2": -0.1}, "l2 must be a finite number >= 0, got -0.1"),
        ({"l2": math.inf}, "l2 must be a finite number >= 0, got inf"),
        ({"l2": math.nan}, "l2 must be a finite number >= 0, got nan"),
        ({"schedule": "cosin"}, r"unknown schedule 'cosin' \(did you mean 'cosine'"),
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
    with pytest.raises(DataError, match="must have two classes or more, got only b"):
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
    bare = nn.Split(data.train.images, data.train.labels)
    with pytest.raises(DataError, match=r"images must have shape \(samples, 5\), got \(23, 6\)"):
        nn.train(nn.MLP([5, 3], backend="numpy"), bare)
    with pytest.raises(DataError, match=r"labels must be in \[0, 2\), got 2 at row"):
        nn.train(nn.MLP([6, 2], backend="numpy"), bare)
    for batch_size in (None, 8):
        with pytest.raises(DataError, match="there are no rows to work on"):
            nn.train(network(), nn.Split(data.train.images[:0], data.train.labels[:0]), batch_size=batch_size)
    labels = data.test.labels.copy()
    labels[4] = 3
    bad_test = nn.Dataset("small", data.train, nn.Split(data.test.images, labels), data.inputs)
    with pytest.raises(DataError, match=r"labels must be in \[0, 3\), got 3 at row 4"):
        nn.train(network(), bad_test, batch_size=8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.0), "learning_rate of sgd must be a finite number > 0, got 0.0"),
        (lambda: Adam(-1.0), "learning_rate of adam must be a finite number > 0, got -1.0"),
        (lambda: RMSprop(math.inf), "learning_rate of rmsprop must be a finite number > 0, got inf"),
        (lambda: SGD(0.1, momentum=1.0), r"momentum of sgd must be a number in \[0, 1\), got 1.0"),
        (lambda: SGD(0.1, momentum=-0.1), r"momentum of sgd must be a number in \[0, 1\), got -0.1"),
        (lambda: SGD(0.1, nesterov=True), "nesterov needs momentum > 0"),
        (lambda: RMSprop(decay=1.5), r"decay of rmsprop must be a number in \[0, 1\), got 1.5"),
        (lambda: RMSprop(epsilon=0.0), "epsilon of rmsprop must be a finite number > 0, got 0.0"),
        (lambda: Adam(beta_1=1.0), r"beta_1 of adam must be a number in \[0, 1\), got 1.0"),
        (lambda: Adam(beta_2=math.nan), r"beta_2 of adam must be a number in \[0, 1\), got nan"),
        (lambda: Adam(epsilon=math.nan), "epsilon of adam must be a finite number > 0, got nan"),
        (lambda: AdamW(beta_1=-0.5), r"beta_1 of adamw must be a number in \[0, 1\), got -0.5"),
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
    net, data = nn.MLP([6, 3], backend="numpy"), make_data()
    stop = StopAtOnce()
    nn.train(nn.MLP([6, 3], backend="numpy", seed=1), data, batch_size=8, epochs=2, callbacks=[stop])
    before = net.parameters()
    for options in ({"epochs": 0}, {"l2": -1.0}, {"schedule": "cosin"}):
        with pytest.raises(ConfigError):
            nn.train(net, data, **options)
    with pytest.raises(nn.XpnnError):
        nn.train(net, data, batch_size=8, epochs=2, resume=replace(stop.checkpoint, position=3))
    generator = np.random.Generator(np.random.MT19937(0))
    with pytest.raises(nn.XpnnError):
        nn.train(net, data, batch_size=8, epochs=2, seed=generator, resume=stop.checkpoint)
    assert net.inputs is None
    for name, array in before.items():
        np.testing.assert_array_equal(array, net.parameters()[name])

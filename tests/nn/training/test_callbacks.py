"""Callbacks: the order of the calls, what they see, and stopping."""

import numpy as np
import pytest
from small_runs import Recorder, StopAfter, network, same_parameters
from xpnn import nn
from xpnn.backends import (
    SGD,
)
from xpnn.nn.training.run import Callback


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

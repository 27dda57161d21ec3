"""Training that is interrupted, and trainings of one network at the same time."""

import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import xpnn.backends
from interrupt import Interrupt
from small_runs import network, same_parameters
from xpnn import nn
from xpnn.backends import ConfigError, RunError, get_backend, why_unavailable
from xpnn.nn.training import claim as training_claim
from xpnn.nn.training import loop as training_loop
from xpnn.nn.training.run import Callback

OPTIONS = {"epochs": 2, "batch_size": 8, "optimizer": nn.Adam(0.01)}
BACKENDS = Path(xpnn.backends.__file__).parent
STEPS = [  # what the points of an interrupt are taken from
    training_loop.__file__, training_claim.__file__,
    *(str(BACKENDS / name) for name in ("plan.py", "generic_plan.py", "numba/plan.py", "numba/engine.py")),
    str(BACKENDS / "numba/compiler/team.py"),
]  # fmt: skip


class Chunks(Callback):
    """Keeps the parameters after each chunk of steps, the initial ones first."""

    def on_train_begin(self, run):
        self.run, self.parameters = run, [run.net.parameters()]

    def on_chunk_end(self, run):
        self.parameters.append(run.net.parameters())


class InterruptThird(Chunks):
    """Interrupts the third chunk when its steps are done."""

    def on_train_begin(self, run):
        super().on_train_begin(run)
        take = run.source.take

        def take_and_raise(*args):
            sums = take(*args)
            if len(self.parameters) == 3:
                raise KeyboardInterrupt
            return sums

        run.source.take = take_and_raise


@pytest.mark.usefixtures("one_batch_chunks")
def test_an_interrupt_returns_to_the_end_of_the_chunk_before(every_backend, make_data):
    whole, cut, net = Chunks(), InterruptThird(), network(every_backend)
    nn.train(network(every_backend), make_data(), callbacks=[whole], **OPTIONS)
    with pytest.raises(KeyboardInterrupt) as raised:
        nn.train(net, make_data(), callbacks=[cut], **OPTIONS)
    assert raised.value.__notes__ == [
        "The training was interrupted in epoch 1 of 2: the network has the parameters of the last finished chunk of "
        "steps."
    ]
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, whole.parameters[2][name])
        assert not np.array_equal(array, whole.parameters[3][name])
    assert cut.run.was_cut_off
    for call in (lambda: cut.run.optimizer_state, cut.run.checkpoint):
        with pytest.raises(RunError, match=r"the training was cut off in epoch 1, .* resume from a checkpoint"):
            call()
    nn.train(net, make_data(), epochs=1)


def bits_of(parameters):
    return tuple(array.tobytes() for array in parameters.values())


@pytest.mark.usefixtures("one_batch_chunks")
@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_an_interrupt_at_any_point_leaves_a_network_of_whole_chunks(
    name, step, make_data, monkeypatch, record_property
):
    if reason := why_unavailable(name):
        pytest.skip(reason)
    backend, data, whole = get_backend(name), make_data(), Chunks()
    if name == "numba":
        from xpnn.backends.numba import engine

        monkeypatch.setattr(engine, "SMALL_STEP", 0)
        monkeypatch.setattr(engine, "usable_threads", lambda: 3)
    else:
        from xpnn.backends.numpy import backend as numpy_backend

        monkeypatch.setattr(numpy_backend, "MOST_PARAMETERS", 0)  # one array after the other
    nn.train(network(backend), data, callbacks=[whole], **OPTIONS)
    states = {bits_of(parameters) for parameters in whole.parameters}
    assert len(states) == 7
    for point in count(0, step):
        net, interrupt = network(backend), Interrupt(point, STEPS)
        with suppress(KeyboardInterrupt), interrupt:
            nn.train(net, data, **OPTIONS)
        assert bits_of(net.parameters()) in states
        assert not training_claim.CLAIMS
        if interrupt.points <= point:
            record_property("points", interrupt.points)
            break


class Train(Callback):
    """Trains the network after the first chunk, on a thread, and keeps the errors."""

    def __init__(self, net, data, *, in_thread):
        self.net, self.data, self.in_thread, self.errors = net, data, in_thread, []

    def train(self):
        try:
            nn.train(self.net, self.data, epochs=1)
        except ConfigError as error:
            self.errors.append(str(error))

    def on_train_begin(self, run):  # noqa: ARG002
        if self.in_thread:
            thread = threading.Thread(target=self.train)
            thread.start()
            thread.join()
        else:
            self.train()


@pytest.mark.parametrize(
    ("in_thread", "words"),
    [(True, "is being trained in another thread: wait"), (False, "is being trained already, by the training that")],
)
def test_a_network_is_trained_once_at_a_time(make_data, in_thread, words):
    net, alone, data = network(), network(), make_data()
    train = Train(net, data, in_thread=in_thread)
    nn.train(net, data, callbacks=[train], **OPTIONS)
    nn.train(alone, data, **OPTIONS)
    assert [error.startswith(f"MLP(6-4-3, relu, float64, numpy) {words}") for error in train.errors] == [True]
    same_parameters(net, alone)
    nn.train(net, data, epochs=1)  # free again


@pytest.mark.parametrize("in_thread", [True, False])
def test_another_network_may_be_trained_meanwhile(make_data, in_thread):
    data, other = make_data(), network()
    train = Train(other, data, in_thread=in_thread)
    nn.train(network(), data, callbacks=[train], **OPTIONS)
    assert train.errors == []


def test_a_training_that_failed_frees_its_network(make_data):
    class Fail(Callback):
        def on_chunk_end(self, run):  # noqa: ARG002
            raise OSError("no space left")

    net = network()
    with pytest.raises(OSError, match="no space left"):
        nn.train(net, make_data(), callbacks=[Fail()], **OPTIONS)
    nn.train(net, make_data(), epochs=1)


def test_an_interrupt_while_parameters_are_loaded_leaves_all_or_none():
    net, other = network(), network(seed=4)
    before, after = bits_of(net.parameters()), bits_of(other.parameters())
    seen = set()
    for point in count():
        net.load_parameters(network().parameters())
        interrupt = Interrupt(point, [nn.MLP.load_parameters.__code__.co_filename, str(BACKENDS / "plan.py")])
        with suppress(KeyboardInterrupt), interrupt:
            net.load_parameters(other.parameters())
        seen.add(bits_of(net.parameters()))
        if interrupt.points <= point:
            break
    assert seen == {before, after}

"""The network of the tests of training, what they compare, and callbacks that record and stop."""

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import (
    OPTIMIZERS,
    SGD,
)
from xpnn.nn.training.run import Callback

STEPPERS = [
    *(pytest.param(kind(0.05), id=name) for name, kind in OPTIMIZERS.items()),
    pytest.param(SGD(0.05, momentum=0.9, nesterov=True), id="nesterov"),
]


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


class StopAtOnce(Callback):
    """Stops before the first step and keeps the checkpoint of that moment."""

    def on_train_begin(self, run):
        run.stop()
        self.checkpoint = run.checkpoint()

"""A small training that a rank or one process alone does, and what it gives."""

from dataclasses import replace

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import Adam

TOLERANCE = {"float64": 1e-12, "float32": 1e-4}  # of the largest number of each parameter
ROWS, FEATURES, CLASSES = 163, 12, 3
STEPS = {"batch_size": 40, "epochs": 6}  # 30 steps; the last of an epoch has 3 rows, fewer than there are ranks


class Ended(nn.Callback):
    """Keeps the optimizer's state of each rank at the end."""

    every_rank = True

    def on_train_end(self, run):
        self.state = run.optimizer_state


class Result:
    """What a training gave: parameters, figures of the epochs, and the optimizer's state."""

    def __init__(self, net, history, ended):
        self.parameters, self.step, self.state = net.parameters(), ended.state.step, ended.state.arrays
        # NaN is no figure of any run that ends, and None compares as itself.
        self.figures = [
            {name: value for name, value in vars(result).items() if name != "seconds"} for result in history
        ]

    def assert_close(self, other, dtype):
        assert self.step == other.step
        for name, array in self.parameters.items():
            assert array.dtype == np.dtype(dtype)
            most = np.abs(other.parameters[name]).max()
            assert np.abs(array - other.parameters[name]).max() <= TOLERANCE[dtype] * most, name
        assert len(self.figures) == len(other.figures) > 0
        for mine, others in zip(self.figures, other.figures, strict=True):
            assert mine == {
                name: value if value is None else pytest.approx(value, rel=10 * TOLERANCE[dtype])
                for name, value in others.items()
            }

    def assert_same_bits(self, other):
        assert (self.step, self.figures) == (other.step, other.figures)
        assert self.figures
        for mine, others in ((self.parameters, other.parameters), (self.state, other.state)):
            assert mine.keys() == others.keys()
            for name, array in mine.items():
                np.testing.assert_array_equal(array, others[name], strict=True)


def fit(communicator, data, backend="numpy", *, dtype="float64", loss="softmax_cross_entropy", **options):
    """Train 12-16-3 in one of the ranks, or alone."""
    net = nn.MLP([FEATURES, 16, CLASSES], backend=backend, dtype=dtype, loss=loss, activation="tanh", seed=3)
    ended = Ended()
    options = {"optimizer": Adam(0.01), "seed": 5, "callbacks": [], **STEPS} | options
    history = nn.train(net, data, communicator=communicator, **options | {"callbacks": [*options["callbacks"], ended]})
    return Result(net, history, ended)


class StopAt(nn.Callback):
    """Stops on one rank after some chunks."""

    every_rank = True

    def __init__(self, communicator, rank, chunks):
        self.is_here, self.chunks = communicator is None or communicator.rank == rank, chunks

    def on_chunk_end(self, run):
        self.chunks -= 1
        if self.is_here and self.chunks == 0:
            run.stop()


def weighted(split):
    return replace(split, weights=np.random.default_rng(2).uniform(0, 3, len(split)))

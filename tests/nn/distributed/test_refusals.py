"""Ranks that differ, or of which one goes wrong: what is refused on all of them, in threads of this process."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, DivergenceError, RunError
from xpnn.nn.training import agreement

from .small_training import CLASSES, FEATURES, STEPS, StopAt, fit, weighted


def refused(ranks, size, work, kind=ConfigError):
    """Return the message of the error, which every rank must raise."""
    errors = ranks.errors(size, work)
    assert [type(error) for error in errors] == [kind] * size, errors
    assert len({str(error) for error in errors}) == 1
    return str(errors[0])


def changed(split, what):
    arrays = {"images": split.images.copy(), "labels": split.labels.copy()}
    arrays[what][5] = (arrays[what][5] + 1) % 3
    return nn.Split(**arrays)


DIFFERENCES = {
    "an image": (lambda data: {"data": replace(data, train=changed(data.train, "images"))}, "check sum of the rows"),
    "a label": (lambda data: {"data": replace(data, train=changed(data.train, "labels"))}, "check sum of the rows"),
    "fewer rows": (
        lambda data: {"data": replace(data, train=nn.Split(data.train.images[:-1], data.train.labels[:-1]))},
        "number of rows 162, rank 0 has 163",
    ),
    "weights of rows": (lambda data: {"data": replace(data, train=weighted(data.train))}, "check sum of the rows"),
    "validation rows": (lambda data: {"validation": data.test}, "check sum of the validation rows"),
    "seed": (lambda data: {"seed": 6}, "state of the generator"),  # noqa: ARG005
    "batch_size": (lambda data: {"batch_size": 41}, "batch_size 41, rank 0 has 40"),  # noqa: ARG005
    "epochs": (lambda data: {"epochs": 7}, "epochs 7, rank 0 has 6"),  # noqa: ARG005
    "evaluate_every": (lambda data: {"evaluate_every": 2}, "evaluate_every 2, rank 0 has 1"),  # noqa: ARG005
    "optimizer": (lambda data: {"optimizer": nn.SGD(0.01)}, "optimizer "),  # noqa: ARG005
    "backend": (lambda data: {"backend": "numba"}, "backend 'numba', rank 0 has 'numpy'"),  # noqa: ARG005
    "type": (lambda data: {"dtype": "float32"}, "dtype 'float32', rank 0 has 'float64'"),  # noqa: ARG005
    "dropout": (lambda data: {"dropout": 0.1}, "dropout 0.1, rank 0 has 0.0"),  # noqa: ARG005
    "reproducible": (lambda data: {"reproducible": True}, "reproducible True, rank 0 has False"),  # noqa: ARG005
}


@pytest.mark.parametrize(("change", "message"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_rank_that_differs_is_refused_on_every_rank(ranks, data, change, message):
    nets = {}

    def work(communicator):
        options = {"data": data} | (change(data) if communicator.rank == 1 else {})
        fit(communicator, callbacks=[Begun(nets)], **options)

    assert refused(ranks, 3, work).startswith(f"rank 1 has {message}")
    assert not nets


class Begun(nn.Callback):
    """Notes that a training began."""

    every_rank = True

    def __init__(self, nets):
        self.nets = nets

    def on_train_begin(self, run):
        self.nets[id(run)] = run.net


def test_a_refused_training_leaves_every_network_as_it_was(ranks, data):
    """Weights of another seed on rank 2; names and scale are not adopted either."""
    nets = [nn.MLP([FEATURES, 16, CLASSES], backend="numpy", seed=3 + (rank == 2)) for rank in range(3)]
    before = [(net.parameters(), net.class_names, net.input_scale) for net in nets]
    message = refused(ranks, 3, lambda communicator: nn.train(nets[communicator.rank], data, communicator=communicator))
    assert message.startswith("rank 2 has check sum of the weights ")
    assert message.endswith("make the network with the same seed everywhere")
    for net, (parameters, names, scale) in zip(nets, before, strict=True):
        assert (net.class_names, net.input_scale) == (names, scale)
        for name, array in net.parameters().items():
            np.testing.assert_array_equal(array, parameters[name])


def test_another_version_on_a_rank_is_refused(ranks, data, monkeypatch):
    versions = agreement.versions

    def of_rank():
        return versions() | ({"numpy": "1.0"} if ranks.current() == 1 else {})

    monkeypatch.setattr(agreement, "versions", of_rank)
    message = refused(ranks, 2, partial(fit, data=data))
    assert message.startswith("rank 1 has version of numpy '1.0', rank 0 has '")
    assert message.endswith("install the same versions everywhere")


@pytest.mark.usefixtures("one_batch_chunks")
def test_another_checkpoint_on_a_rank_is_refused(ranks, data, tmp_path):
    paths = [tmp_path / f"{steps}.safetensors" for steps in (2, 3)]
    for steps, path in zip((2, 3), paths, strict=True):
        fit(None, data, callbacks=[nn.SaveCheckpoints(path), StopAt(None, 0, steps)])

    message = refused(ranks, 2, lambda communicator: fit(communicator, data, resume=paths[communicator.rank]))
    assert message.startswith("rank 1 has checkpoint of step 3, rank 0 has 2: ")
    message = refused(
        ranks, 2, lambda communicator: fit(communicator, data, resume=None if communicator.rank else paths[0])
    )
    assert message.startswith("rank 1 has checkpoint of step None, rank 0 has 2: ")


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (4, {"batch_size": 3}, "4 processes cannot share batches of 3 rows as there are more than 3"),
        (3, {"batch_size": 16, "reproducible": True}, "whose 2 shards are added up in a fixed order"),
    ],
)
def test_more_ranks_than_can_have_something_to_do_are_refused(ranks, data, size, options, message):
    assert message in refused(ranks, size, partial(fit, data=data, **options))


@pytest.mark.parametrize("wrong", ["mpi", 4, object()])
def test_what_is_no_communicator_is_refused(data, wrong):
    with pytest.raises(ConfigError, match=r"communicator must be nn\.distributed\.world\(\), or None, got"):
        fit(wrong, data)


@pytest.mark.parametrize("wrong", [1, None, "yes"])
def test_reproducible_is_true_or_false(data, wrong):
    with pytest.raises(ConfigError, match=r"reproducible must be True or False, got"):
        fit(None, data, reproducible=wrong)


# What goes wrong on one rank alone


@pytest.mark.parametrize(
    ("row", "rank", "detect_anomaly", "reproducible"),
    [(3, 0, False, False), (17, 1, True, True), (39, 2, False, True), (20, 1, True, False)],
)
def test_numbers_too_large_on_one_rank_end_all_and_name_it(ranks, data, row, rank, detect_anomaly, reproducible):
    """A finite row whose products overflow, in the part of the first batch that one rank has."""
    images = data.train.images / 255
    images[row] = 1e308
    rows = nn.Split(images, data.train.labels)
    finite = []

    def work(communicator):
        net = nn.MLP([FEATURES, 16, CLASSES], backend="numpy", dtype="float64", activation="relu", seed=3)
        try:
            nn.train(
                net, rows, communicator=communicator, shuffle=False, detect_anomaly=detect_anomaly,
                reproducible=reproducible, optimizer=nn.SGD(0.1), **STEPS,
            )  # fmt: skip
        finally:
            finite.append(net.are_finite())

    message = refused(ranks, 3, work, DivergenceError)
    assert f"epoch 1, step 1 of 5: rank {rank}: " in message
    assert " in the output of layers.0 at " in message
    assert finite == [True] * 3


class Drift(nn.Callback):
    """Changes a weight of one rank by a bit."""

    every_rank = True

    def __init__(self, communicator, rank):
        self.is_here = communicator.rank == rank

    def on_chunk_end(self, run):
        if self.is_here and run.epoch == 2:
            weight = run.net.layers[0].weight
            weight[1, 2] = np.nextafter(weight[1, 2], np.inf)


@pytest.mark.parametrize("rank", [1, 2])
def test_weights_that_drift_apart_are_noticed(ranks, data, rank):
    def work(communicator):
        fit(communicator, data, callbacks=[Drift(communicator, rank)])

    message = refused(ranks, 3, work, RunError)
    assert message.startswith(f"after epoch 2 rank {rank} has other weights than rank 0: ")


def test_an_error_on_one_rank_is_not_waited_for_forever(ranks, data):
    """Of MPI's ranks, that one ends the job; threads are told by the test's communicator."""

    class Fail(nn.Callback):
        def on_chunk_end(self, run):  # noqa: ARG002
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        ranks(3, partial(fit, data=data, callbacks=[Fail()]))

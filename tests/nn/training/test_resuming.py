"""Resuming from a checkpoint: the same bits, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import StopAfter, StopAtOnce, figures, network, same_parameters
from xpnn import nn
from xpnn.backends import (
    SGD,
    Adam,
    ConfigError,
    DataError,
    ModelFileError,
)
from xpnn.nn.training import loop as training_loop
from xpnn.nn.training.history import EpochResult
from xpnn.nn.training.run import Callback


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
    with pytest.raises(ConfigError, match=f"the checkpoint belongs to a run with {message}.*: resume it with its own"):
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
        (lambda data: replace(data, inputs=replace(data.inputs, largest=200)), "inputs"),
    ],
)
def test_a_checkpoint_is_not_resumed_with_other_rows(make_data, checkpoint, change, name):
    with pytest.raises(ConfigError, match=f"the checkpoint belongs to a run with {name}"):
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

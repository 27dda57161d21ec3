"""The callback that saves where a training stands."""

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, StorageError

OPTIONS = {"epochs": 3, "batch_size": 8}


class Stop(nn.Callback):
    def on_epoch_end(self, run, _):
        run.stop()


def network():
    return nn.MLP([6, 3], backend="numpy")


def test_a_training_goes_on_from_its_file(make_data, tmp_path):
    whole, net, path = network(), network(), tmp_path / "c.safetensors"
    nn.train(whole, make_data(), **OPTIONS)
    save = nn.SaveCheckpoints(path)
    nn.train(net, make_data(), callbacks=[save, Stop()], **OPTIONS)
    assert nn.Checkpoint.load(path).epoch == 2
    nn.train(net, make_data(), callbacks=[save], resume=path, **OPTIONS)
    for name, array in whole.parameters().items():
        np.testing.assert_array_equal(net.parameters()[name], array)
    assert nn.Checkpoint.load(path).epoch == 4


def test_a_new_training_does_not_overwrite_the_checkpoint_of_an_earlier_one(make_data, tmp_path):
    path = tmp_path / "c.safetensors"
    nn.train(network(), make_data(), callbacks=[nn.SaveCheckpoints(path)], **OPTIONS)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"is the checkpoint of an earlier training: resume it with resume="):
        nn.train(network(), make_data(), callbacks=[nn.SaveCheckpoints(path)], **OPTIONS)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("seconds", "saves"), [(0.0, 3 + 2), (1e9, 2)])
def test_it_saves_no_more_often_than_it_is_told(make_data, tmp_path, monkeypatch, seconds, saves):
    monkeypatch.setattr("xpnn.nn.training.loop.CHUNK_SECONDS", 0.0)
    saved = []
    monkeypatch.setattr(nn.Checkpoint, "save", lambda checkpoint, path: saved.append(checkpoint.step))  # noqa: ARG005
    callbacks = [nn.SaveCheckpoints(tmp_path / "c", every_seconds=seconds)]
    nn.train(network(), make_data(), epochs=1, batch_size=8, callbacks=callbacks)
    assert len(saved) == saves
    assert (saved[0], saved[-1]) == (0, 3)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "10", None])
def test_seconds_that_cannot_be(tmp_path, seconds):
    with pytest.raises(ConfigError, match="every_seconds must be a finite number >= 0"):
        nn.SaveCheckpoints(tmp_path / "c", every_seconds=seconds)


@pytest.mark.parametrize("name", ["nowhere/c", "zero\0byte", "a" * 300])
def test_a_file_that_cannot_be_written_is_told_before_the_first_step(make_data, tmp_path, name):
    net = network()
    with pytest.raises(StorageError, match="cannot write"):
        nn.train(net, make_data(), callbacks=[nn.SaveCheckpoints(f"{tmp_path}/{name}")], **OPTIONS)
    for key, array in network().parameters().items():
        np.testing.assert_array_equal(net.parameters()[key], array)


def test_a_run_that_was_stopped_before_its_first_step_can_be_resumed(make_data, tmp_path):
    class StopAtOnce(nn.Callback):
        def on_train_begin(self, run):
            run.stop()

    path = tmp_path / "run.safetensors"
    options = {"epochs": 2, "batch_size": 8}
    nn.train(
        nn.MLP([6, 4, 3], backend="numpy"), make_data(), callbacks=[nn.SaveCheckpoints(path), StopAtOnce()], **options
    )
    net = nn.MLP([6, 4, 3], backend="numpy")
    assert len(nn.train(net, make_data(), callbacks=[nn.SaveCheckpoints(path)], resume=path, **options)) == 2


def test_an_earlier_checkpoint_is_not_overwritten_by_a_run_with_an_optimizers_state(make_data, tmp_path):
    class Keep(nn.Callback):
        def on_train_end(self, run):
            self.state = run.optimizer_state

    net, keep, path = nn.MLP([6, 4, 3], backend="numpy"), Keep(), tmp_path / "run.safetensors"
    nn.train(net, make_data(), epochs=1, batch_size=8, callbacks=[keep, nn.SaveCheckpoints(path)])
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is the checkpoint of an earlier training"):
        nn.train(
            net, make_data(), epochs=1, batch_size=8, optimizer_state=keep.state, callbacks=[nn.SaveCheckpoints(path)]
        )
    assert path.read_bytes() == before

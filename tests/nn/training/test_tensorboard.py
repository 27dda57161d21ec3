"""TensorBoard's event files, read back with TensorBoard's own reader."""

import builtins
import json

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, MissingDependency, StorageError

pytest.importorskip("tensorboard", reason="tensorboard is not installed")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

TAGS = ["loss/train", "loss/test", "accuracy/train", "accuracy/test", "seconds", "learning_rate"]


def read(folder):
    """{tag: [(epoch, value), ...]} of all files of a folder."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def files(folder):
    return sorted(folder.glob("*tfevents*"))


def train(data, *, epochs=3, callbacks=(), **options):
    net = nn.MLP([6, 4, 3], backend="numpy", seed=0)
    settings = {"batch_size": 5, "schedule": "cosine", "optimizer": nn.Adam(0.01)} | options
    return net, nn.train(net, data, epochs=epochs, callbacks=callbacks, **settings)


def test_every_epoch_s_figures_are_there(make_data, tmp_path):
    _, history = train(make_data(), callbacks=[nn.TensorBoard(tmp_path / "run")])
    found = read(tmp_path / "run")
    assert sorted(found) == sorted(TAGS)
    for tag, name in (("loss/train", "train_loss"), ("loss/test", "test_loss"), ("accuracy/train", "train_accuracy"),
                      ("accuracy/test", "test_accuracy"), ("seconds", "seconds")):  # fmt: skip
        assert [epoch for epoch, _ in found[tag]] == [1, 2, 3]
        np.testing.assert_allclose([v for _, v in found[tag]], [getattr(r, name) for r in history], rtol=1e-6)
    rates = [0.01 * nn.SCHEDULES["cosine"]((5 * epoch - 1) / 15) for epoch in (1, 2, 3)]  # 23 rows are 5 steps of 5
    np.testing.assert_allclose([value for _, value in found["learning_rate"]], rates, rtol=1e-6)


def test_what_a_training_has_not_is_left_out(make_data, tmp_path):
    train(make_data().train, callbacks=[nn.TensorBoard(tmp_path)])
    assert sorted(read(tmp_path)) == ["accuracy/train", "learning_rate", "loss/train", "seconds"]
    train(make_data(), callbacks=[nn.TensorBoard(tmp_path / "every other")], epochs=5, evaluate_every=2)
    assert [epoch for epoch, _ in read(tmp_path / "every other")["loss/test"]] == [2, 4, 5]


def test_full_batches_taken_in_one_go_are_all_there(make_data, tmp_path):
    _, history = train(make_data(), callbacks=[nn.TensorBoard(tmp_path)], epochs=50, batch_size=None, evaluate_every=50)
    found = read(tmp_path)["loss/train"]
    assert [epoch for epoch, _ in found] == list(range(1, 51))
    np.testing.assert_allclose([value for _, value in found], [result.train_loss for result in history], rtol=1e-6)


def test_histograms_hold_the_weights(make_data, tmp_path):
    net, _ = train(make_data(), callbacks=[nn.TensorBoard(tmp_path, histograms=True)])
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    assert sorted(events.PluginTagToContent("histograms")) == sorted(net.parameters())
    for name, array in net.parameters().items():
        found = events.Tensors(name)
        assert [event.step for event in found] == [1, 2, 3]
        last = make_ndarray(found[-1].tensor_proto)  # (buckets, 3): left and right end, number of weights
        assert (last[0, 0], last[-1, 1], last[:, 2].sum()) == (array.min(), array.max(), array.size)
        for left, right, count in last[:-1]:
            assert count == np.count_nonzero((array >= left) & (array < right))


class StopAt(nn.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run, result):
        if result.epoch == self.epoch:
            run.stop()


def test_a_resumed_training_goes_on_in_a_file_of_its_own(make_data, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "broken"
    train(make_data(), callbacks=[nn.TensorBoard(whole)], epochs=5)
    save = nn.SaveCheckpoints(tmp_path / "c.safetensors")
    train(make_data(), callbacks=[save, nn.TensorBoard(folder), StopAt(2)], epochs=5)
    before = files(folder)[0].read_bytes()
    train(make_data(), callbacks=[nn.TensorBoard(folder)], epochs=5, resume=tmp_path / "c.safetensors")
    assert len(files(folder)) == 2
    assert files(folder)[0].read_bytes() == before
    expected, found = read(whole), read(folder)
    assert [tag for tag in TAGS if tag != "seconds" and expected[tag] != found[tag]] == []
    assert [epoch for epoch, _ in found["seconds"]] == [1, 2, 3, 4, 5]


def test_epochs_that_are_done_again_are_shown_once(make_data, tmp_path):
    """Killed after four epochs, with a checkpoint of the second; then once more after the fifth."""
    checkpoints = []

    class Keep(nn.Callback):
        def on_epoch_end(self, run, result):  # noqa: ARG002
            checkpoints.append(run.checkpoint())

    _, history = train(make_data(), callbacks=[Keep(), nn.TensorBoard(tmp_path), StopAt(4)], epochs=6)
    train(make_data(), callbacks=[nn.TensorBoard(tmp_path), StopAt(5)], epochs=6, resume=checkpoints[1])
    _, history = train(make_data(), callbacks=[nn.TensorBoard(tmp_path)], epochs=6, resume=checkpoints[2])
    assert len(files(tmp_path)) == 3
    found = read(tmp_path)["loss/train"]
    assert [epoch for epoch, _ in found] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([value for _, value in found], [result.train_loss for result in history], rtol=1e-6)


@pytest.mark.parametrize("lost", ["all", "the last"])
def test_epochs_that_never_reached_the_file_are_written_on_resume(make_data, tmp_path, lost):
    save = nn.SaveCheckpoints(tmp_path / "c.safetensors")
    train(make_data(), callbacks=[save, nn.TensorBoard(tmp_path / "run"), StopAt(3)], epochs=4)
    (file,) = files(tmp_path / "run")
    file.write_bytes(b"" if lost == "all" else file.read_bytes()[:-7])
    resume = {"resume": tmp_path / "c.safetensors"}
    _, history = train(make_data(), callbacks=[nn.TensorBoard(tmp_path / "run")], epochs=4, **resume)
    found = read(tmp_path / "run")["loss/test"]
    assert [epoch for epoch, _ in found] == [1, 2, 3, 4]
    np.testing.assert_allclose([value for _, value in found], [result.test_loss for result in history], rtol=1e-6)


def test_an_epoch_that_was_void_and_never_done_again_is_written_on_resume(make_data, tmp_path):
    """The first file holds epoch 3, which the second made void; the second lost its own."""
    checkpoints = []

    class Keep(nn.Callback):
        def on_epoch_end(self, run, result):  # noqa: ARG002
            checkpoints.append(run.checkpoint())

    train(make_data(), callbacks=[Keep(), nn.TensorBoard(tmp_path), StopAt(4)], epochs=5)
    train(make_data(), callbacks=[nn.TensorBoard(tmp_path), StopAt(3)], epochs=5, resume=checkpoints[1])
    second = files(tmp_path)[1]
    second.write_bytes(second.read_bytes()[:-7])
    train(make_data(), callbacks=[nn.TensorBoard(tmp_path)], epochs=5, resume=checkpoints[2])
    assert [epoch for epoch, _ in read(tmp_path)["loss/train"]] == [1, 2, 3, 4, 5]


def test_a_new_training_in_the_folder_takes_the_place_of_the_earlier_one(make_data, tmp_path):
    train(make_data(), callbacks=[nn.TensorBoard(tmp_path)], epochs=6)
    _, history = train(make_data(), callbacks=[nn.TensorBoard(tmp_path)], epochs=2, optimizer=nn.SGD(0.5))
    found = read(tmp_path)["loss/train"]
    np.testing.assert_allclose(found, [(result.epoch, result.train_loss) for result in history], rtol=1e-6)
    assert len(files(tmp_path)) == 2


def test_a_folder_that_cannot_be_made_is_told(make_data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*file"):
        train(make_data(), callbacks=[nn.TensorBoard(tmp_path / "file" / "run")])
    with pytest.raises(ConfigError, match="must be a path, got 3"):
        nn.TensorBoard(3)


def test_the_command_writes_into_the_run_folder(tmp_path, monkeypatch):
    testing = pytest.importorskip("click.testing")
    from xpnn.nn.cli.app import xpnn

    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--backend", "numpy", "--epochs", "3", "--quiet"]
    result = testing.CliRunner().invoke(xpnn, [*arguments, "--tensorboard", "--out", "run"])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = read(tmp_path / "run")
    np.testing.assert_allclose(found["loss/test"], [(row["epoch"], row["test_loss"]) for row in rows], rtol=1e-6)
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been killed at its very end
    resumed = testing.CliRunner().invoke(xpnn, ["train", "--resume", "run", "--tensorboard", "--quiet"])
    assert resumed.exit_code == 0, resumed.output
    assert read(tmp_path / "run") == found
    assert testing.CliRunner().invoke(xpnn, [*arguments, "--out", "other"]).exit_code == 0
    assert files(tmp_path / "other") == []


def test_without_the_package_the_install_line_is_told(monkeypatch, tmp_path):
    real = builtins.__import__

    def fail(name, *arguments, **options):
        if name.partition(".")[0] == "tensorboard":
            raise ImportError(f"No module named {name!r}")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MissingDependency, match=r'pip install "xpnn\[tensorboard\]"'):
        nn.TensorBoard(tmp_path)

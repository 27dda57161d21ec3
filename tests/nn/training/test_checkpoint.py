"""Checkpoints: all of it comes back from a file, and a damaged file says so."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save
from xpnn import nn
from xpnn.backends import DivergenceError, ModelFileError, RunError, Totals
from xpnn.nn.files.tensors import BLANK, sealed


@pytest.fixture
def checkpoint():
    generator = np.random.default_rng(3)
    return nn.Checkpoint(
        parameters={"layers.0.weight": generator.normal(size=(3, 2)), "layers.0.bias": np.zeros(2)},
        optimizer_state={"layers.0.weight.mean": generator.normal(size=(3, 2)).astype("float32")},
        step=17,
        generator_state=generator.bit_generator.state,
        epoch=3,
        position=24,
        totals=Totals(1 / 3, 20, 24),
        seconds=0.1 + 0.2,
        history=nn.History(
            [nn.EpochResult(1, 0.7, 0.5, None, None, 1.5), nn.EpochResult(2, 1 / 7, 0.75, 0.3, 0.7, 1.25)]
        ),
        training={"sizes": [3, 2], "optimizer": {"name": "adam", "learning_rate": 0.1}},
    )


def rewrite(path, *, arrays=None, **changes):
    """Change the description or some arrays of a checkpoint's file; a value of `...` takes the entry out."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    description = json.loads(header["__metadata__"]["xpnn"]) | changes
    description = {name: value for name, value in description.items() if value is not ...}
    kept = {name: array for name, array in (load(content) | (arrays or {})).items() if array is not ...}
    del description["sha256"]
    path.write_bytes(sealed(save(kept, {"xpnn": json.dumps({"sha256": BLANK} | description)})))


def test_everything_comes_back(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "c.safetensors")
    back = nn.Checkpoint.load(tmp_path / "c.safetensors")
    for name in ("parameters", "optimizer_state"):
        arrays, expected = getattr(back, name), getattr(checkpoint, name)
        assert arrays.keys() == expected.keys()
        for key, array in expected.items():
            assert arrays[key].dtype == array.dtype
            np.testing.assert_array_equal(arrays[key], array)
    for name in ("step", "generator_state", "epoch", "position", "totals", "seconds", "training"):
        assert getattr(back, name) == getattr(checkpoint, name)
    assert isinstance(back.totals, Totals)
    assert isinstance(back.history, nn.History)
    assert list(back.history) == list(checkpoint.history)
    generator = np.random.default_rng()
    generator.bit_generator.state = back.generator_state
    original = np.random.default_rng()
    original.bit_generator.state = checkpoint.generator_state
    assert generator.random() == original.random()


def test_the_path_may_be_a_string(checkpoint, tmp_path):
    checkpoint.save(str(tmp_path / "c"))
    assert nn.Checkpoint.load(str(tmp_path / "c")).step == 17


def test_an_optimizer_without_state_has_no_arrays(checkpoint, tmp_path):
    replace(checkpoint, optimizer_state={}).save(tmp_path / "c")
    assert nn.Checkpoint.load(tmp_path / "c").optimizer_state == {}


@pytest.mark.parametrize("part", ["parameters", "optimizer_state"])
def test_numbers_that_are_not_finite_are_not_saved_over_good_ones(checkpoint, tmp_path, part):
    checkpoint.save(tmp_path / "c")
    name, array = next(iter(getattr(checkpoint, part).items()))
    bad = replace(checkpoint, **{part: getattr(checkpoint, part) | {name: np.full_like(array, np.inf)}})
    with pytest.raises(
        DivergenceError, match=rf"c is not written, because of inf in {name} at \[0, 0\]: the last good"
    ):
        bad.save(tmp_path / "c")
    assert nn.Checkpoint.load(tmp_path / "c").step == 17


def test_a_taken_checkpoint_does_not_change_as_the_run_goes_on(make_data):
    taken = []

    class Keep(nn.Callback):
        def on_epoch_end(self, run, _result):
            checkpoint = run.checkpoint()
            taken.append((checkpoint, {name: a.copy() for name, a in checkpoint.parameters.items()}))

    nn.train(nn.MLP([6, 3], backend="numpy"), make_data(), epochs=3, batch_size=8, callbacks=[Keep()])
    first, parameters = taken[0]
    assert (len(first.history), first.step, first.epoch) == (1, 3, 2)
    for name, array in parameters.items():
        np.testing.assert_array_equal(first.parameters[name], array)
    assert first.generator_state != taken[1][0].generator_state


@pytest.mark.parametrize(
    "changes",
    [
        {"step": ...},
        {"step": "seventeen"},
        {"step": "17"},
        {"step": 17.0},
        {"step": True},
        {"step": -1},
        {"step": 10**400},
        {"totals": [1.0, 10**400, 24]},
        {"totals": [1.0, -7, 24]},
        {"totals": [1.0, 25, 24]},
        {"totals": [-1.0, 5, 24]},
        {"totals": ["nan", 5, 24]},
        {"seconds": "1.5"},
        {"seconds": -1.0},
        {"step": float("inf")},
        {"generator_state": 5},
        {"generator_state": ...},
        {"epoch": None},
        {"position": []},
        {"totals": [1.0, 2]},
        {"totals": 5},
        {"totals": ["x", 1, 2]},
        {"seconds": "long"},
        {"training": 5},
        {"training": ...},
        {"arrays": {"history/epoch": ...}},
        {"arrays": {"history/epoch": np.array([1, 3])}},
        {"arrays": {"history/epoch": np.array([1.0, 2.0])}},
        {"arrays": {"history/epoch": np.array([[1, 2]])}},
        {"arrays": {"history/train_loss": np.zeros(3)}},
        {"arrays": {"history/train_loss": np.array([0.5, np.nan])}},
        {"arrays": {"history/seconds": np.array([0.5, np.inf])}},
        {"arrays": {"history/test_loss": np.array([np.nan, np.inf])}},
        {"arrays": {"parameters/layers.0.bias": np.array([0.5, np.nan])}},
        {"arrays": {"optimizer_state/layers.0.weight.mean": np.array([np.inf])}},
        {"arrays": {"unknown": np.zeros(1)}},
    ],
)
def test_a_damaged_description_is_refused(checkpoint, tmp_path, changes):
    checkpoint.save(tmp_path / "c")
    rewrite(tmp_path / "c")
    assert nn.Checkpoint.load(tmp_path / "c").step == 17  # rewriting alone does no harm
    rewrite(tmp_path / "c", **changes)
    with pytest.raises(
        ModelFileError, match=r"c is damaged,? or (was written by another version|is no checkpoint that xpnn wrote): "
    ):
        nn.Checkpoint.load(tmp_path / "c")


def test_a_model_is_no_checkpoint_and_a_checkpoint_no_model(checkpoint, tmp_path):
    nn.save(nn.MLP([3, 2], backend="numpy"), tmp_path / "m")
    with pytest.raises(
        ModelFileError, match="m is damaged, or is no checkpoint that xpnn wrote: it is of the kind 'model'"
    ):
        nn.Checkpoint.load(tmp_path / "m")
    checkpoint.save(tmp_path / "c")
    with pytest.raises(ModelFileError, match="c is damaged, or is no model that xpnn wrote"):
        nn.load(tmp_path / "c")


def test_a_checkpoint_that_cannot_be_written_says_so(checkpoint, tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*c: No such file or directory"):
        checkpoint.save(tmp_path / "nowhere" / "c")

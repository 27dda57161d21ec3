"""Damaged checkpoints, models and configurations: each is refused by name, or is a valid one."""

import json

import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import save
from xpnn import nn
from xpnn.nn.files.tensors import BLANK, description_text, read_tensors, sealed
from xpnn.nn.runs.config import RunConfig
from xpnn.nn.runs.data_choice import DataChoice
from xpnn.nn.runs.folder import RunFolder
from xpnn.nn.runs.recipes import RECIPES

from .mutations import mutated

JSON_TOKENS = [
    b"null", b"true", b"NaN", b"Infinity", b"-1", b"1e400", b"1e308", b"9" * 30, b'"', b"{", b"}", b"[", b"]", b":",
    b",", b"[" * 200, b"\\u0000", b"\\u001b[2J", b'"sha256"', b'"xpnn"', b'"kind"',
]  # fmt: skip
TENSOR_TOKENS = [*JSON_TOKENS, b'"F64"', b'"F32"', b'"BF16"', b'"I64"', b'"data_offsets"', b'"shape"', b'"dtype"']


@pytest.fixture
def run(saved_run):
    """A folder with a small run's checkpoint and model."""
    return saved_run(4)[0].parent


def resealed(content):
    """Give a damaged file the digest of what it is now, so that it gets past the check; as it is where it has none."""
    before, mark, rest = content.partition(b'"{\\"sha256\\": \\"')
    blank = before + mark + BLANK.encode() + rest[len(BLANK) :]
    try:
        return bytes(sealed(blank))
    except ValueError:
        return content


def damaged(path, kind):
    """A strategy of damaged files: as they are, under a new digest, and with a damaged description under a new one."""
    arrays, description = read_tensors(path, kind)
    content = path.read_bytes()
    text = json.dumps(description).encode()

    def with_text(text):
        return resealed(save(arrays, {"xpnn": '{"sha256": "' + BLANK + '", ' + text.decode("latin-1")[1:]}))

    return st.one_of(
        mutated(content, TENSOR_TOKENS),
        mutated(content, TENSOR_TOKENS).map(resealed),
        mutated(text, JSON_TOKENS).map(with_text),
    ).map(lambda content: (path.name, content))


def test_the_digest_alone_would_refuse_nearly_all(run):
    """So that two thirds of the files get past it: here one does."""
    path = run / "model.safetensors"
    arrays, description = read_tensors(path, "model")
    changed = save(arrays, {"xpnn": description_text(description | {"activation": "tanh"})})
    path.write_bytes(resealed(changed))
    assert nn.load(path, backend="numpy").activation == "tanh"


def check_checkpoint(checkpoint):
    for arrays in (checkpoint.parameters, checkpoint.optimizer_state):
        assert all(np.isfinite(array).all() for array in arrays.values())
    assert [result.epoch for result in checkpoint.history] == list(range(1, len(checkpoint.history) + 1))
    assert isinstance(checkpoint.step, int)


def check_model(net):
    assert net.are_finite()
    assert net.predict_proba(np.zeros((1, net.features), dtype=np.uint8)).shape == (1, net.num_outputs)


def test_checkpoints(run, damage):
    damage("checkpoints", damaged(run / "checkpoint.safetensors", "checkpoint"), nn.Checkpoint.load, check_checkpoint)


def test_resumed_trainings(run, damage, make_data):
    """What can be loaded is resumed, and refused by name or trained."""

    def resume(path):
        net = nn.MLP([6, 4, 3], backend="numpy")
        nn.train(net, make_data(), epochs=2, batch_size=8, resume=path)
        return net

    damage("checkpoints, resumed", damaged(run / "checkpoint.safetensors", "checkpoint"), resume, check_model)


def test_models(run, damage):
    load = lambda path: nn.load(path, backend="numpy")  # noqa: E731
    damage("models", damaged(run / "model.safetensors", "model"), load, check_model)


def test_configurations(damage):
    config = RunConfig(RECIPES["mnist-98"], DataChoice("rows.csv", "kind", test_fraction=0.3), "numpy", 0)
    files = mutated(json.dumps(config.to_json()).encode(), JSON_TOKENS).map(lambda content: ("config.json", content))
    damage("config.json", files, lambda path: RunFolder(path.parent).read_config(), lambda read: read.to_json())

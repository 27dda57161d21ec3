"""The .npz file is read with NumPy alone, and the forward pass in its documentation is right."""

import inspect
import json
import textwrap

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, StorageError
from xpnn.nn.export import to_npz


def test_the_documented_forward_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = nn.MLP([784, 256, 10], backend="numpy")
    to_npz(net, "net.npz")
    images = np.random.default_rng(0).integers(0, 256, (5, 784)).astype(np.uint8)
    lines = [line for line in inspect.getdoc(to_npz).splitlines() if line.startswith("    ") and " = " in line]
    known = {"np": np, "json": json, "images": images}
    exec(textwrap.dedent("\n".join(lines)), known)
    assert known["hidden"].shape == (5, 256)
    np.testing.assert_allclose(known["probabilities"], net.predict_proba(images), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_of_a_network_is_in_the_file(dtype, tmp_path):
    net = nn.MLP([6, 4, 2], activation="tanh", dtype=dtype, backend="numpy")
    net.inputs = nn.Pixels(count=6, shape=(2, 3), class_names=("naïve\N{SNOWMAN}", "b"))
    to_npz(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays.pop("description")))
    assert about.pop("xpnn_version")
    assert about == {
        "sizes": [6, 4, 2], "activation": "tanh", "output": "softmax", "dtype": dtype, "input_scale": 1 / 255,
        "class_names": ["naïve\N{SNOWMAN}", "b"], "image_shape": [2, 3],
    }  # fmt: skip
    assert arrays.keys() == net.parameters().keys()
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


def test_refusals(tmp_path):
    net = nn.MLP([6, 2], backend="numpy")
    with pytest.raises(StorageError, match="cannot write"):
        to_npz(net, tmp_path / "missing" / "net.npz")
    net.class_names = ("a", "b\x1b[31m")
    with pytest.raises(ConfigError, match="class names must be without control characters, got"):
        to_npz(net, tmp_path / "net.npz")
    assert list(tmp_path.iterdir()) == []

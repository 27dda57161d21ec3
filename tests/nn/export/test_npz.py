"""The .npz file is read with NumPy alone, and the forward pass in its documentation is right."""

import inspect
import json
import textwrap

import numpy as np
import pandas as pd
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, StorageError
from xpnn.nn.export import to_npz


def documented(number, **known):
    """What is known after the lines of a forward pass in the documentation: the first or the second."""
    blocks = inspect.getdoc(to_npz).split("::\n")[1:]
    lines = [line for line in blocks[number].splitlines() if line.startswith("    ") and " = " in line]
    known |= {"np": np, "json": json}
    exec(textwrap.dedent("\n".join(lines)), known)
    return known


def test_the_documented_forward_pass_of_pixels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = nn.MLP([784, 256, 10], backend="numpy")
    net.inputs = nn.Pixels(count=784)
    to_npz(net, "net.npz")
    images = np.random.default_rng(0).integers(0, 256, (5, 784)).astype(np.uint8)
    known = documented(0, images=images)
    assert known["hidden"].shape == (5, 256)
    np.testing.assert_allclose(known["probabilities"], net.predict_proba(images), atol=1e-6)


def test_the_documented_forward_pass_of_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = np.random.default_rng(0).normal(1e3, 50, (60, 8))
    frame = pd.DataFrame(cells, columns=list("abcdefgh"))
    data = nn.from_arrays(frame, cells[:, 0] * 7 - cells[:, 1])
    net = nn.MLP([8, 16, 1], loss="squared_error", backend="numpy")
    nn.train(net, data, epochs=3, batch_size=10)
    to_npz(net, "table.npz")
    cells[3, 2] = frame.iloc[3, 2] = np.nan
    known = documented(1, cells=cells)
    np.testing.assert_allclose(known["predictions"], net.predict(frame), rtol=1e-6)


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
        "inputs": net.inputs.settings(),
        "class_names": ["naïve\N{SNOWMAN}", "b"], "image_shape": [2, 3],
    }  # fmt: skip
    assert arrays.keys() == net.parameters().keys()
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


def test_a_table_is_described_by_its_columns_and_has_no_scale(tmp_path):
    net = nn.MLP([4, 2], loss="squared_error", backend="numpy")
    town = nn.Column("town", "category", levels=("Bern", "Ulm"), has_flag=True)
    net.inputs = nn.Table(
        columns=(nn.Column("age", mean=40.0, std=9.0), town), target=nn.Target((1.0, 2.0), (3.0, 4.0))
    )
    to_npz(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        about = json.loads(str(file["description"]))
        assert "input_scale" not in about
        assert about["feature_names"] == ["age", "town=Bern", "town=Ulm", "town is missing"]
        assert about["inputs"]["columns"][0] == {"name": "age", "mean": 40.0, "std": 9.0}
        columns = [file[f"columns.{name}"].tolist() for name in ("mean", "std")]
        assert columns == [[40.0, 0.0], [9.0, 1.0]]
        assert np.isnan(file["columns.fill"]).all()
        assert [file[f"target.{name}"].tolist() for name in ("mean", "std")] == [[1.0, 2.0], [3.0, 4.0]]


def test_rows_as_they_are_have_no_scale(tmp_path):
    net = nn.MLP([6, 2], backend="numpy")
    net.inputs = nn.Numbers(count=6)
    to_npz(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        assert "input_scale" not in json.loads(str(file["description"]))
        assert not [name for name in file.files if name.startswith(("columns", "target"))]


def test_refusals(tmp_path):
    net = nn.MLP([6, 2], backend="numpy")
    with pytest.raises(StorageError, match="cannot write"):
        to_npz(net, tmp_path / "missing" / "net.npz")
    net.inputs = nn.Numbers(class_names=("a", "b\x1b[31m"))
    with pytest.raises(ConfigError, match="class names must be without control characters, got"):
        to_npz(net, tmp_path / "net.npz")
    assert list(tmp_path.iterdir()) == []

"""ONNX models say what the networks say, in onnxruntime and in the reference evaluator."""

import json
import sys
from itertools import cycle

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ACTIVATIONS, ConfigError, DivergenceError, MissingDependency
from xpnn.nn.export import onnx_model as exported
from xpnn.nn.export import to_onnx

pytest.importorskip("onnx", reason="onnx is not installed")
import onnx
from onnx.reference import ReferenceEvaluator

# float32 sums of 784 products in another order: two roundings of logits of about 20
TOLERANCE = {"float32": 3e-6, "float64": 1e-12}


@pytest.fixture(scope="module")
def data():
    """The 8x8 digits."""
    return nn.load_dataset("digits")


def trained(data, activation="relu", dtype="float32"):
    """Train a network of two hidden layers for some epochs."""
    net = nn.MLP([data.features, 16, 12, 10], activation=activation, dtype=dtype, backend="numpy")
    nn.train(net, data, optimizer=nn.Adam(1e-2), epochs=4 if len(data.train) < 10_000 else 1)
    return net


def runs(path, images, session=True):
    """The outputs by name, by the reference and by onnxruntime if that is installed."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [output.name for output in model.graph.output]
    yield dict(zip(names, ReferenceEvaluator(model).run(None, {"images": images}), strict=True))
    if session:
        runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        ready = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        yield dict(zip(names, ready.run(None, {"images": images}), strict=True))


@pytest.mark.parametrize(("activation", "dtype"), [*zip(ACTIVATIONS, cycle(["float32", "float64"]), strict=False)])
def test_every_test_image_gets_our_probabilities(activation, dtype, data, tmp_path):
    same_answers(trained(data, activation, dtype), data, tmp_path)


def test_every_test_image_of_mnist_gets_our_probabilities(mnist, tmp_path):
    same_answers(trained(mnist), mnist, tmp_path)


def same_answers(net, data, tmp_path):
    """Hold the ONNX model to the network on every test row."""
    to_onnx(net, tmp_path / "net.onnx")
    expected = net.predict_proba(data.test.images)
    assert nn.evaluate(net, data.test).accuracy > 0.3  # it has learned: the outputs differ from row to row
    for outputs in runs(tmp_path / "net.onnx", data.test.images):
        assert list(outputs) == ["probabilities", "logits", "label"]
        assert outputs["probabilities"].dtype == outputs["logits"].dtype == np.dtype(net.dtype)
        assert np.abs(outputs["probabilities"] - expected).max() < TOLERANCE[net.dtype]
        np.testing.assert_allclose(outputs["logits"], net.logits(data.test.images), atol=20 * TOLERANCE[net.dtype])
        same = outputs["label"] == net.predict(data.test.images)
        assert outputs["label"].dtype == np.int64
        assert same.mean() >= 0.9999  # two classes may be equal but for a rounding


def test_scaled_rows_where_they_are_asked_for(data, tmp_path):
    net = trained(data)
    to_onnx(net, tmp_path / "net.onnx", input_type="float")
    rows = data.test.images[:50] * np.float32(net.input_scale)
    for outputs in runs(tmp_path / "net.onnx", rows):
        np.testing.assert_allclose(outputs["probabilities"], net.predict_proba(data.test.images[:50]), atol=3e-6)


@pytest.mark.parametrize(("input_scale", "dtype", "kind"), [
    (1 / 255, "float32", "UINT8"), (1.0, "float32", "FLOAT"), (1.0, "float64", "DOUBLE"),
])  # fmt: skip
def test_it_takes_what_the_network_was_trained_on(input_scale, dtype, kind, tmp_path):
    net = nn.MLP([4, 3], dtype=dtype, backend="numpy")
    net.input_scale = input_scale
    to_onnx(net, tmp_path / "net.onnx")
    (images,) = onnx.load(tmp_path / "net.onnx").graph.input
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.DataType.Value(kind)
    batch, features = images.type.tensor_type.shape.dim
    assert (batch.dim_param, features.dim_value) == ("batch", 4)
    for rows in (1, 7, 0):
        taken = np.ones((rows, 4), "uint8" if kind == "UINT8" else dtype)
        for outputs in runs(tmp_path / "net.onnx", taken, session=rows > 0):
            np.testing.assert_allclose(outputs["probabilities"], net.predict_proba(taken), atol=1e-6)


def test_other_losses(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (40, 6)).astype(np.uint8)
    labels = nn.MLP([6, 5, 3], loss="sigmoid_cross_entropy", backend="numpy", seed=3)
    numbers = nn.MLP([6, 5, 3], loss="squared_error", backend="numpy", seed=3)
    to_onnx(labels, tmp_path / "labels.onnx")
    to_onnx(numbers, tmp_path / "numbers.onnx")
    for outputs in runs(tmp_path / "labels.onnx", rows):
        np.testing.assert_allclose(outputs["probabilities"], labels.predict_proba(rows), atol=1e-6)
        np.testing.assert_array_equal(outputs["label"], labels.predict(rows))
        assert 0 < outputs["label"].mean() < 1
    for outputs in runs(tmp_path / "numbers.onnx", rows):
        assert list(outputs) == ["predictions"]
        np.testing.assert_allclose(outputs["predictions"], numbers.predict(rows), atol=1e-6)


def test_the_model_describes_itself(tmp_path):
    net = nn.MLP([6, 2], backend="numpy")
    net.class_names, net.image_shape = ("naïve", '"; drop'), (2, 3)
    to_onnx(net, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    about = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert about["class_names"] == ["naïve", '"; drop']
    assert about["image_shape"] == [2, 3]
    assert about["sizes"] == [6, 2]
    assert about["xpnn_version"] == model.producer_version
    assert (model.producer_name, model.ir_version, model.opset_import[0].version) == ("xpnn", 7, 13)


def test_refusals(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_text("before")
    net = nn.MLP([4, 3, 2], backend="numpy")
    with pytest.raises(ConfigError, match="input_type must be one of auto, uint8, float, got 'int8'"):
        to_onnx(net, path, input_type="int8")
    with pytest.raises(ConfigError, match=r"the network must be an nn\.MLP, got str"):
        to_onnx("net", path)
    with pytest.raises(ConfigError, match="a file to write must be a path, got 5"):
        to_onnx(net, 5)
    net.layers[1].weight[2, 0] = np.nan
    with pytest.raises(DivergenceError, match=r"nan in layers\.1\.weight at \[2, 0\]"):
        to_onnx(net, path)
    monkeypatch.setattr(exported, "LARGEST", 90)
    with pytest.raises(ConfigError, match="the network has 92 bytes of weights, and an ONNX file holds 90"):
        to_onnx(net, path)
    assert path.read_text() == "before"


def test_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match=r'pip install "xpnn\[onnx\]"'):
        to_onnx(nn.MLP([4, 2], backend="numpy"), tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()

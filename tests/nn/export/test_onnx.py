"""ONNX models say what the networks say, in onnxruntime and in the reference evaluator."""

import json
import sys
from dataclasses import replace
from itertools import cycle

import numpy as np
import pandas as pd
import polars as pl
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


def runs(path, given, session=True):
    """The outputs by name for the inputs by name, by the reference and by onnxruntime if that is installed."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [output.name for output in model.graph.output]
    yield dict(zip(names, ReferenceEvaluator(model).run(None, given), strict=True))
    if session:
        runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        ready = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        yield dict(zip(names, ready.run(None, given), strict=True))


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
    for outputs in runs(tmp_path / "net.onnx", {"images": data.test.images}):
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
    for outputs in runs(tmp_path / "net.onnx", {"images": rows}):
        np.testing.assert_allclose(outputs["probabilities"], net.predict_proba(data.test.images[:50]), atol=3e-6)


@pytest.mark.parametrize(("inputs", "dtype", "kind"), [
    (nn.Pixels(count=4), "float32", "UINT8"), (nn.Pixels(count=4, largest=1), "float64", "UINT8"),
    (nn.Pixels(count=4, largest=65535), "float32", "UINT16"), (nn.Pixels(count=4, largest=1e5), "float32", "FLOAT"),
    (nn.Numbers(count=4), "float32", "FLOAT"), (nn.Numbers(count=4), "float64", "DOUBLE"), (None, "float32", "FLOAT"),
])  # fmt: skip
def test_it_takes_what_the_network_was_trained_on(inputs, dtype, kind, tmp_path):
    net = nn.MLP([4, 3], dtype=dtype, backend="numpy")
    net.inputs = inputs
    to_onnx(net, tmp_path / "net.onnx")
    (images,) = onnx.load(tmp_path / "net.onnx").graph.input
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.DataType.Value(kind)
    batch, features = images.type.tensor_type.shape.dim
    assert (batch.dim_param, features.dim_value) == ("batch", 4)
    for rows in (1, 7, 0):
        taken = np.ones((rows, 4), kind.lower() if kind.startswith("U") else dtype)
        for outputs in runs(tmp_path / "net.onnx", {"images": taken}, session=rows > 0):
            np.testing.assert_allclose(outputs["probabilities"], net.predict_proba(taken), atol=1e-6)


def test_other_losses_of_pixels(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (40, 6)).astype(np.uint8)
    for loss in ("sigmoid_cross_entropy", "squared_error", "poisson"):
        net = nn.MLP([6, 5, 3], loss=loss, backend="numpy", seed=3)
        net.inputs = nn.Pixels(count=6)
        to_onnx(net, tmp_path / "net.onnx")
        for outputs in runs(tmp_path / "net.onnx", {"images": rows}):
            same_outputs(outputs, net, rows)


def same_outputs(outputs, net, rows):
    """Hold the outputs of a model to those of the network."""
    tolerance = TOLERANCE[net.dtype]
    if not net.outputs.has_probabilities:
        assert list(outputs) == ["predictions"]
        np.testing.assert_allclose(outputs["predictions"], net.predict(rows), rtol=tolerance, atol=tolerance)
        assert outputs["predictions"].dtype == net.dtype
        return
    np.testing.assert_allclose(outputs["probabilities"], net.predict_proba(rows), atol=tolerance)
    np.testing.assert_array_equal(outputs["label"], net.predict(rows))
    assert len(np.unique(outputs["label"])) > 1


# Tables


def people(rows=300):
    """A frame of numbers, truth values and categories, with cells that are missing."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({
        "town": generator.choice(["Bern", "Ulm", "Åre \N{SNOWMAN}"], rows),
        "age": generator.normal(50, 9, rows),
        "code": generator.integers(1, 5, rows),
        "member": generator.random(rows) > 0.4,
        "income": generator.normal(3e4, 1e4, rows),
        "trade": generator.choice(["baker", "smith"], rows),
    })  # fmt: skip
    frame.loc[::7, "age"] = np.nan
    frame.loc[::5, "trade"] = None
    return frame


def labels_for(loss, frame):
    """Labels that a network can learn from `people`."""
    is_rich, is_old = frame["income"] > 3e4, frame["age"].fillna(0) > 50
    if loss == "softmax_cross_entropy":
        return np.where(is_rich, "rich", np.where(is_old, "old", "other"))
    if loss == "sigmoid_cross_entropy":
        return np.column_stack([is_rich, is_old]).astype(float)
    return np.column_stack([frame["income"] / 100, 70 - frame["age"].fillna(50)]).clip(min=0)


def given_to(path, frame):
    """The inputs of a model as a stranger makes them, who has the file alone."""
    about = {each.key: json.loads(each.value) for each in onnx.load(path).metadata_props}
    columns = about["input_columns"]
    given = {}
    if "numbers" in columns:
        given["numbers"] = frame[columns["numbers"]].to_numpy(dtype=np.float64, na_value=np.nan)
    if "categories" in columns:
        cells = frame[columns["categories"]].astype(object)
        given["categories"] = cells.where(cells.notna(), "").astype(str).to_numpy(dtype=object)
    return given


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "poisson"])
def test_a_table_of_all_kinds(loss, dtype, tmp_path):
    frame, path = people(), tmp_path / "net.onnx"
    labels = labels_for(loss, frame)
    data = nn.from_arrays(frame, labels, categorical=["code"], regression=labels.ndim == 2, test_fraction=0.2)
    net = nn.MLP([data.inputs.num_features, 8, 3 if labels.ndim == 1 else 2], loss=loss, dtype=dtype, backend="numpy")
    if loss == "sigmoid_cross_entropy":
        net.inputs = replace(data.inputs, target=None)  # indicators are not standardized
    nn.train(net, data, optimizer=nn.Adam(1e-2), epochs=10, batch_size=16)
    to_onnx(net, path)
    frame.loc[1, "town"], frame.loc[2, "code"], frame.loc[3, "trade"] = "Oslo", 9, "cook"  # no training row has them
    frame.loc[4, "town"] = None
    frame.loc[6, ["income", "age"]] = np.nan
    outputs = list(runs(path, given_to(path, frame)))
    assert len(outputs) == 2
    for rows in (frame, pl.from_pandas(frame)):
        for each in outputs:
            same_outputs(each, net, rows)
    assert list(runs(path, given_to(path, frame[:0])))[1].popitem()[1].shape[0] == 0


NUMBER, FILLED = nn.Column("a", mean=3.0, std=2.0), nn.Column("b", fill=4.0)
PLAIN, TRUTH = nn.Column("c"), nn.Column("d", "truth", fill=1, has_flag=True)
WORD, DIGIT = (
    nn.Column("e", "category", levels=("x", "y")),
    nn.Column("f", "category", levels=("1", "2"), has_flag=True),
)


@pytest.mark.parametrize(("columns", "operators"), [
    ([PLAIN, nn.Column("g")], []),
    ([NUMBER, PLAIN], ["Sub", "Mul"]),
    ([NUMBER, FILLED], ["IsNaN", "Where", "Sub", "Mul"]),
    ([PLAIN, TRUTH], ["IsNaN", "Where", "Gather", "Cast", "Concat"]),
    ([TRUTH, PLAIN], ["IsNaN", "Where", "Gather", "Cast", "Concat", "Gather"]),
    ([DIGIT], ["Gather", "OneHotEncoder"]),
    ([PLAIN, DIGIT], ["Gather", "OneHotEncoder", "Concat"]),
    ([WORD, DIGIT], ["Gather", "OneHotEncoder"] * 2 + ["Concat"]),
    ([WORD, NUMBER], ["Sub", "Mul", "Gather", "OneHotEncoder", "Concat", "Gather"]),
])  # fmt: skip
def test_a_table_has_no_more_nodes_than_it_needs(columns, operators, tmp_path):
    frame = pd.DataFrame({"a": [1.0, 7], "b": [2.0, None], "c": [0.5, -1], "d": [0.0, None], "e": ["y", "z"],
                          "f": ["2", None], "g": [3.0, 1]})  # fmt: skip
    table = nn.Table(columns=tuple(columns))
    net = nn.MLP([table.num_features, 2], backend="numpy", dtype="float64")
    net.inputs = table
    to_onnx(net, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    found = [node.op_type for node in model.graph.node]
    if any(column.kind == "category" for column in columns):  # one-hot features are float32
        found.remove("Cast")
    assert found == [*operators, "Gemm", "Softmax", "ArgMax"]
    given = given_to(tmp_path / "net.onnx", frame[[column.name for column in columns]])
    for outputs in runs(tmp_path / "net.onnx", given):
        np.testing.assert_allclose(outputs["probabilities"], net.predict_proba(frame), atol=1e-12)


def test_standardizing_is_exact_where_float32_is_not(tmp_path):
    """Years beside dates in seconds: the mean is subtracted before anything is rounded."""
    rows = 1.7e9 + np.random.default_rng(0).normal(0, 1, (200, 3))
    data = nn.from_arrays(rows, (rows[:, 0] > 1.7e9).astype(int), test_fraction=0.1)
    net = nn.MLP([3, 8, 2], backend="numpy")
    nn.train(net, data, optimizer=nn.Adam(1e-2), epochs=10, batch_size=16)
    to_onnx(net, tmp_path / "net.onnx")
    for outputs in runs(tmp_path / "net.onnx", {"numbers": rows}):
        same_outputs(outputs, net, rows)


def test_the_model_describes_itself(tmp_path):
    net = nn.MLP([6, 2], backend="numpy")
    net.inputs = nn.Pixels(count=6, shape=(2, 3), class_names=("naïve", '"; drop'))
    to_onnx(net, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    about = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert about["class_names"] == ["naïve", '"; drop']
    assert about["image_shape"] == [2, 3]
    assert about["sizes"] == [6, 2]
    assert about["xpnn_version"] == model.producer_version
    assert about["input_scale"] == 1 / 255
    assert (model.producer_name, model.ir_version, model.opset_import[0].version) == ("xpnn", 7, 13)


def test_the_model_of_a_table_describes_its_columns(tmp_path):
    net = nn.MLP([6, 2], backend="numpy")
    net.inputs = nn.Table(
        columns=(TRUTH, WORD, nn.Column("é", mean=2.0), PLAIN), label="class", class_names=("no", "yes")
    )
    to_onnx(net, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    about = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert about["input_columns"] == {"numbers": ["d", "é", "c"], "categories": ["e"]}
    assert about["feature_names"] == ["d", "d is missing", "e=x", "e=y", "é", "c"]
    assert about["inputs"]["columns"][1] == {"name": "e", "kind": "category", "levels": ["x", "y"]}
    assert (about["inputs"]["label"], about["class_names"]) == ("class", ["no", "yes"])
    assert "input_scale" not in about
    assert {each.domain: each.version for each in model.opset_import} == {"": 13, "ai.onnx.ml": 2}


def test_refusals(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_text("before")
    net = nn.MLP([4, 3, 2], backend="numpy")
    with pytest.raises(ConfigError, match="input_type must be one of auto, uint8, uint16, float, got 'int8'"):
        to_onnx(net, path, input_type="int8")
    with pytest.raises(ConfigError, match=r"the network must be an nn\.MLP, got str"):
        to_onnx("net", path)
    with pytest.raises(ConfigError, match="a file to write must be a path, got 5"):
        to_onnx(net, 5)
    net.inputs = nn.Table(columns=(NUMBER, PLAIN, FILLED, nn.Column("g")))
    with pytest.raises(ConfigError, match="input_type must be auto for a network that takes the columns of a table"):
        to_onnx(net, path, input_type="uint8")
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

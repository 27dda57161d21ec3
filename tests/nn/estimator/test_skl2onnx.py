"""Pipelines with our estimators as ONNX models of skl2onnx, run by onnxruntime."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")
pytest.importorskip("skl2onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
import pandas as pd
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xpnn.nn.estimator import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(60, 3)).astype(np.float32)
NUMBERS = X @ GENERATOR.normal(size=(3, 2)) + 3 * X[:, :1] ** 2  # (60, 2)
TERCILES = np.digitize(NUMBERS[:, 0], np.quantile(NUMBERS[:, 0], [1 / 3, 2 / 3]))  # (60,)
SETTINGS = {"hidden_layer_sizes": (8,), "max_iter": 30, "learning_rate_init": 0.05, "random_state": 0}


def outputs_of(model, rows):
    """Return the outputs of an ONNX model for rows, an array or the columns of a frame."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    if isinstance(rows, pd.DataFrame):
        return session.run(None, {name: rows[[name]].to_numpy() for name in rows})
    return session.run(None, {session.get_inputs()[0].name: rows})


CLASSES = {
    "two": TERCILES > 0,
    "three": TERCILES - 1,
    "floats": TERCILES.astype(float),
    "texts": np.array(["low", "mid", "high"])[TERCILES],
    "objects": np.array(["no", "yes"], dtype=object)[(TERCILES > 0).astype(int)],
    "labels": np.stack([TERCILES > 0, TERCILES > 1], axis=1).astype(int),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", CLASSES)
def test_a_classifier_in_a_pipeline(kind, dtype):
    rows = X.astype(dtype)
    model = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS)).fit(X, CLASSES[kind])
    labels, probabilities = outputs_of(to_onnx(model, rows[:1], options={"zipmap": False}), rows)
    np.testing.assert_array_equal(labels, model.predict(rows))
    np.testing.assert_allclose(probabilities, model.predict_proba(rows), atol=1e-5)
    assert probabilities.dtype == dtype


@pytest.mark.parametrize("opset", [11, None])
def test_older_runtimes(opset):
    model = MLPClassifier(**SETTINGS).fit(X, CLASSES["three"])
    made = to_onnx(model, X[:1], options={"zipmap": False}, target_opset=opset)
    assert opset is None or max(each.version for each in made.opset_import) <= opset
    np.testing.assert_allclose(outputs_of(made, X)[1], model.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu", "leaky_relu"])
def test_the_activations(activation):
    model = MLPClassifier(**SETTINGS, activation=activation).fit(X, CLASSES["three"])
    _, probabilities = outputs_of(to_onnx(model, X[:1], options={"zipmap": False}), X)
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)


def test_the_options_of_a_classifier():
    model = MLPClassifier(**SETTINGS).fit(X, CLASSES["texts"])
    expected = model.predict_proba(X)
    labels, maps = outputs_of(to_onnx(model, X[:1]), X)
    assert list(labels) == list(model.predict(X))
    np.testing.assert_allclose([[each[name] for name in model.classes_] for each in maps], expected, atol=1e-5)
    labels, *columns = outputs_of(to_onnx(model, X[:1], options={"zipmap": "columns"}), X)
    np.testing.assert_allclose(np.stack(columns, axis=1).reshape(60, 3), expected, atol=1e-5)
    indices, _ = outputs_of(to_onnx(model, X[:1], options={"nocl": True, "zipmap": False}), X)
    np.testing.assert_array_equal(indices, expected.argmax(axis=1))


@pytest.mark.parametrize("num_outputs", [1, 2])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "quantile", "poisson"])
def test_a_regressor_in_a_pipeline(loss, num_outputs):
    y = (np.abs(NUMBERS) if loss == "poisson" else NUMBERS)[:, :num_outputs]
    model = make_pipeline(StandardScaler(), MLPRegressor(**SETTINGS, loss=loss)).fit(X, y.squeeze())
    (predictions,) = outputs_of(to_onnx(model, X[:1]), X)
    np.testing.assert_allclose(predictions, model.predict(X).reshape(60, -1), rtol=1e-4, atol=1e-5)


def test_mixed_columns():
    frame = pd.DataFrame(X[:, :2], columns=["length", "width"]).assign(colour=CLASSES["texts"])
    columns = make_column_transformer((StandardScaler(), ["length", "width"]), (OneHotEncoder(), ["colour"]))
    model = make_pipeline(columns, MLPRegressor(**SETTINGS)).fit(frame, NUMBERS[:, 0])
    (predictions,) = outputs_of(to_onnx(model, frame[:1]), frame)
    np.testing.assert_allclose(predictions[:, 0], model.predict(frame), rtol=1e-4, atol=1e-5)


def test_the_columns_of_a_frame_without_a_pipeline():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = MLPRegressor(**SETTINGS).fit(frame, NUMBERS[:, 0])
    (predictions,) = outputs_of(to_onnx(model, frame[:1]), frame)
    np.testing.assert_allclose(predictions[:, 0], model.predict(frame), rtol=1e-4, atol=1e-5)


def test_whole_numbers():
    rows = np.arange(30).reshape(10, 3)
    model = MLPRegressor(**SETTINGS).fit(rows, rows[:, 0])
    (predictions,) = outputs_of(to_onnx(model, rows[:1]), rows)
    np.testing.assert_allclose(predictions[:, 0], model.predict(rows), rtol=1e-4)


@pytest.mark.parametrize("wrap", [
    lambda network: GridSearchCV(network, {"alpha": [1e-4, 1]}, cv=2),
    lambda network: VotingClassifier(
        [("network", network), ("bayes", GaussianNB())], voting="soft", flatten_transform=False
    ),
])  # fmt: skip
def test_within_meta_estimators(wrap):
    model = wrap(MLPClassifier(**SETTINGS)).fit(X, CLASSES["three"])
    labels, probabilities = outputs_of(to_onnx(model, X[:1], options={"zipmap": False}), X)
    np.testing.assert_array_equal(labels, model.predict(X))
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-5)


def test_registered_when_skl2onnx_is_imported_later():
    program = """
import sys
from xpnn.nn.estimator import MLPRegressor
assert "skl2onnx" not in sys.modules
import skl2onnx
print(skl2onnx.get_model_alias(MLPRegressor))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "XpnnMLPRegressor\n"

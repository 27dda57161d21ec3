"""An estimator as a network: the same answers from it, from its file, and from its exports."""

import json

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.datasets import load_iris, make_regression
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xpnn import nn
from xpnn.backends import ConfigError, DataError
from xpnn.nn.estimator import MLPClassifier, MLPRegressor
from xpnn.nn.export import c_files, to_html, to_npz, to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS, SPECIES = load_iris(return_X_y=True)
FRAME = pd.DataFrame(IRIS, columns=["sepal length", "sepal width", "petal length", "petal width"])
NUMBERS, TARGETS = make_regression(120, 5, random_state=0)
WORDS = np.array(["setosa", "versicolor", "virginica"])
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

PROBLEMS = {
    "classes": (MLPClassifier, IRIS, WORDS[SPECIES], tuple(WORDS)),
    "two classes": (MLPClassifier, FRAME, np.where(SPECIES == 1, 7.0, 2.0), ("2", "7")),
    "truth": (MLPClassifier, IRIS.astype(np.float32), SPECIES == 2, ("False", "True")),
    "one class": (MLPClassifier, IRIS, np.full(len(IRIS), "setosa"), ("setosa",)),
    "labels": (MLPClassifier, FRAME, np.stack([SPECIES == 0, SPECIES != 1], axis=1).astype(int), ("0", "1")),
    "number": (MLPRegressor, NUMBERS, TARGETS, ()),
    "numbers": (MLPRegressor, NUMBERS, np.stack([TARGETS, NUMBERS[:, 0]], axis=1), ()),
}


def fitted(problem, **settings):
    kind, rows, targets, _ = PROBLEMS[problem]
    settings = {"hidden_layer_sizes": (12,), "max_iter": 20, "random_state": 0, "backend": "numpy", **settings}
    return kind(**settings).fit(rows, targets)


def answers(estimator, rows):
    """Probabilities, (samples, classes), and labels in their numbers; or predictions, (samples, outputs), and none."""
    if isinstance(estimator, MLPRegressor):
        return estimator.predict(rows).reshape(len(rows), -1), None
    probabilities, labels = estimator.predict_proba(rows), estimator.predict(rows)
    if len(estimator.classes_) == 1:
        probabilities = np.ones((len(rows), 1))  # scikit-learn's have a column more
    return probabilities, labels if labels.ndim == 2 else np.searchsorted(estimator.classes_, labels)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_network_and_its_file_answer_as_the_estimator(problem, activation, solver, tmp_path):
    estimator, rows = fitted(problem, activation=activation, solver=solver), PROBLEMS[problem][1]
    nn.save(estimator, tmp_path / "model.safetensors")
    expected, labels = answers(estimator, rows)
    for net in (estimator.to_mlp(), nn.load(tmp_path / "model.safetensors", backend="numpy")):
        assert net.dtype == expected.dtype or net.num_outputs == 1
        assert (net.class_names or ()) == PROBLEMS[problem][3]
        given = net.predict(rows) if labels is None else net.predict_proba(rows)
        np.testing.assert_allclose(given, expected, rtol=TOLERANCE[net.dtype], atol=TOLERANCE[net.dtype])
        if labels is not None:
            np.testing.assert_array_equal(net.predict(rows), labels)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_onnx_model_answers_as_the_estimator(problem, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    estimator, rows = fitted(problem), PROBLEMS[problem][1]
    to_onnx(estimator, tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.name == ("numbers" if rows is FRAME else "images")
    expected, labels = answers(estimator, rows)
    outputs = session.run(None, {given.name: np.asarray(rows)})
    tolerance = TOLERANCE[str(estimator.coefs_[0].dtype)]
    np.testing.assert_allclose(outputs[0], expected, rtol=tolerance, atol=tolerance)
    if labels is not None:
        np.testing.assert_array_equal(outputs[2], labels)


def test_columns_are_found_by_name():
    net = fitted("two classes").to_mlp()
    assert isinstance(net.inputs, nn.Table)
    expected = net.predict_proba(FRAME)
    np.testing.assert_array_equal(net.predict_proba(FRAME[FRAME.columns[::-1]]), expected)
    np.testing.assert_array_equal(net.predict_proba(IRIS), expected)
    with pytest.raises(DataError, match="column 'sepal width' must be finite in float32, got nan at row 3"):
        net.predict(FRAME.mask((FRAME.index == 3)[:, None] & (FRAME.columns == "sepal width")))


def test_a_network_of_an_estimator_is_evaluated_on_the_same_classes():
    estimator = fitted("two classes", solver="lbfgs", max_iter=200)
    _, rows, targets, _ = PROBLEMS["two classes"]
    data = nn.from_arrays(rows, targets, test_fraction=None)
    assert data.inputs.class_names == ("2", "7")
    assert nn.evaluate(estimator.to_mlp(), data.train).accuracy == estimator.score(rows, targets) > 0.9


def test_rows_without_names_are_taken_as_they_are(tmp_path):
    estimator = fitted("classes")
    assert estimator.to_mlp().inputs == nn.Numbers(count=4, class_names=tuple(WORDS))
    to_npz(estimator, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as file:
        np.testing.assert_array_equal(file["layers.0.weight"], estimator.coefs_[0])
        assert json.loads(str(file["description"]))["class_names"] == list(WORDS)
    assert c_files(estimator) == c_files(estimator.to_mlp())


def test_a_network_goes_to_another_backend():
    estimator = fitted("classes", backend="numba")
    assert estimator.to_mlp().backend.name == "numba"
    net = estimator.to_mlp(backend="numpy")
    assert net.backend.name == "numpy"
    np.testing.assert_allclose(net.predict_proba(IRIS), estimator.predict_proba(IRIS), atol=1e-12)


def test_refusals(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(NotFittedError):
        nn.save(MLPClassifier(), path)
    with pytest.raises(DataError, match="not trained on images, but on rows of 4 features, which cannot be drawn"):
        to_html(fitted("classes"), path)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=1)).fit(IRIS, SPECIES)
    with pytest.raises(ConfigError, match=r"must be an nn\.MLP, got Pipeline: .* to_mlp\(\) of an estimator"):
        nn.save(pipeline, path)
    odd = MLPClassifier(max_iter=1).fit(FRAME.set_axis(["a", "b", "c", "d\x07"], axis=1), SPECIES)
    with pytest.raises(ConfigError, match="columns must have different names without control characters"):
        odd.to_mlp()
    assert list(tmp_path.iterdir()) == []

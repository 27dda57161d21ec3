"""Loss, accuracy and the confusion matrix, by hand; rows that do not fit."""

import math

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import DataError
from xpnn.nn.datasets.split import resplit
from xpnn.nn.network.evaluation import evaluate_logits

LN2, LN3 = math.log(2), math.log(3)


@pytest.fixture
def net(backend):
    """A 2-2 network whose logits are its inputs."""
    net = nn.MLP([2, 2], backend=backend, dtype="float64")
    net.load_parameters({"layers.0.weight": np.eye(2), "layers.0.bias": np.zeros(2)})
    return net


def split(images, labels):
    return nn.Split(np.asarray(images), np.asarray(labels))


def test_loss_and_accuracy_by_hand(net):
    """p = (1/4, 3/4), (3/4, 1/4), (1/2, 1/2): losses ln 4/3 (right), ln 4 (wrong), ln 2 (the first of equals)."""
    result = nn.evaluate(net, split([[0.0, LN3], [LN3, 0.0], [1.0, 1.0]], [1, 1, 0]))
    assert result.loss == pytest.approx((math.log(4 / 3) + 2 * LN2 + LN2) / 3, rel=1e-14)
    assert result.accuracy == pytest.approx(2 / 3)
    assert result == (result.loss, result.accuracy)


def test_integers_are_scaled_by_the_networks_scale(net):
    net.inputs = nn.Pixels(largest=1 / LN3)
    result = nn.evaluate(net, split(np.array([[0, 1]], np.uint8), [0]))
    assert result.loss == pytest.approx(2 * LN2, rel=1e-14)
    assert result.accuracy == 0.0


def test_predictions_and_evaluation_agree(backend, make_data):
    data = make_data(30, 40)
    net = nn.MLP([6, 4, 3], backend=backend)
    net.adopt(data)
    matches = net.predict(data.test.images) == data.test.labels
    assert nn.evaluate(net, data.test).accuracy == pytest.approx(matches.mean())
    of_labels = net.predict_proba(data.test.images)[np.arange(40), data.test.labels]
    assert nn.evaluate(net, data.test).loss == pytest.approx(-np.log(of_labels).mean(), rel=1e-5)


def test_evaluating_changes_no_weights(backend, make_data):
    net = nn.MLP([6, 4, 3], backend=backend)
    before = net.parameters()
    nn.evaluate(net, make_data().test)
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_figures_of_logits_are_those_of_the_network(net):
    rows = split([[0.0, LN3], [LN3, 0.0], [1.0, 1.0], [0.25, -1.0]], [1, 1, 0, 0])
    loss, accuracy = evaluate_logits(net.logits(rows.images), rows.labels)
    expected = nn.evaluate(net, rows)
    assert loss == pytest.approx(expected.loss, rel=1e-14)
    assert accuracy == expected.accuracy == 0.75


def test_the_loss_of_a_sure_answer_is_not_rounded_away(backend):
    """p = 1 / (1 + e^-20): in float32 it is 1."""
    net = nn.MLP([2, 2], backend=backend, dtype="float32")
    net.load_parameters({"layers.0.weight": np.eye(2), "layers.0.bias": np.zeros(2)})
    rows, loss = split(np.array([[20.0, 0.0]], "float32"), [0]), math.log1p(math.exp(-20))
    assert nn.evaluate(net, rows).loss == pytest.approx(loss, rel=1e-6)
    assert evaluate_logits(net.logits(rows.images), rows.labels)[0] == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(net.predict_proba(rows.images), [[1.0, math.exp(-20)]], rtol=1e-6)


def test_figures_of_a_regression_are_scikit_learns(backend):
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    images = generator.normal(size=(50, 2))
    labels = 1000 + 20 * images @ [[1.0, 2.0], [0.0, -1.0]] + generator.normal(size=(50, 2))  # (samples, outputs)
    net = nn.MLP([2, 2], backend=backend, loss="squared_error", dtype="float64", seed=2)
    data = nn.from_arrays(images, labels)
    nn.train(net, data, optimizer=nn.SGD(0.1), epochs=5, batch_size=10)
    result, predictions = nn.evaluate(net, data.test), net.predict(data.test.images)
    assert result.accuracy is None
    assert result.r2 == pytest.approx(sklearn.r2_score(data.test.labels, predictions), rel=1e-12)
    assert 0.5 < result.r2 < 1
    assert result.mean_absolute_error == pytest.approx(
        sklearn.mean_absolute_error(data.test.labels, predictions), rel=1e-12
    )
    errors = (predictions - data.test.labels) / np.array(data.inputs.target.std)
    assert result.loss == pytest.approx(np.square(errors).sum(axis=1).mean() / 2, rel=1e-12)
    equal = nn.Split(data.test.images, np.repeat(labels[:1], len(data.test), axis=0), inputs=data.inputs)
    assert math.isnan(nn.evaluate(net, equal).r2)
    assert result._replace(loss=0.5).loss == 0.5


def test_counts_are_predicted_in_their_units():
    """A table of counts around 1000: the network learns their logarithm, relative to their mean."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 2))
    counts = generator.poisson(1000 * np.exp(0.5 * x[:, 0]))[:, None]
    data = nn.from_arrays(x, counts, regression=True)
    net = nn.MLP([2, 1], backend="numpy", loss="poisson", dtype="float64")
    nn.train(net, data, optimizer=nn.Adam(0.02), epochs=60, batch_size=20)
    assert net.inputs.target == nn.Target((0.0,), (pytest.approx(data.train.labels.mean()),))
    slope, other = net.layers[0].weight[:, 0] / np.array([column.std for column in net.inputs.columns])
    assert slope == pytest.approx(0.5, abs=0.02)
    assert other == pytest.approx(0, abs=0.02)
    result = nn.evaluate(net, data.test)
    predicted, seen = net.predict(data.test.images), data.test.labels
    deviance = predicted - seen - seen * np.log(predicted / seen)  # (samples, 1)
    assert result.loss == pytest.approx(deviance.mean() / net.inputs.target.std[0], rel=1e-9)
    assert result.r2 > 0.9
    np.testing.assert_allclose(np.exp(net.logits(x)) * net.inputs.target.std[0], net.predict(x))
    with pytest.raises(DataError, match="labels of the loss poisson must be >= 0, got -1"):
        nn.evaluate(net, nn.Split(x[:2], np.array([[1.0], [-1.0]])))


@pytest.mark.parametrize("row", [3, 17])
@pytest.mark.parametrize("is_file", [False, True])
def test_rows_are_named_as_they_were_before_the_split(row, is_file, tmp_path):
    counts = np.ones(20)
    counts[row] = -1
    place = f"at row {row}"
    data = nn.from_arrays(np.arange(20.0)[:, None], counts, regression=True, test_fraction=0.4)
    if is_file:
        path = tmp_path / "counts.csv"
        path.write_text("\na,y\n" + "".join(f"{k % 7},{count}\n" for k, count in enumerate(counts)))
        data = nn.load_dataset(path, regression=True, test_fraction=0.4)
        place = f"in line {row + 3}"
    net = nn.MLP([1, 1], backend="numpy", loss="poisson")
    is_test = (data.test.labels < 0).any()
    for again in (data, resplit(data, test_fraction=0.4, seed=5)) if is_file else (data,):
        with pytest.raises(DataError, match=f"must be >= 0, got -1.0 {place}, column 0"):
            nn.train(net, again, epochs=1)
    with pytest.raises(DataError, match=f"must be >= 0, got -1.0 {place}, column 0"):
        nn.evaluate(net, data.test if is_test else data.train)


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_a_quantile_is_predicted(level):
    """That share of the labels lies below the prediction."""
    generator = np.random.default_rng(1)
    x, noise = generator.random((2000, 1)), generator.normal(size=(2000, 1))
    data = nn.from_arrays(x, (1 + x) * noise, regression=True)
    net = nn.MLP([1, 8, 1], backend="numpy", loss=f"quantile:{level}")
    nn.train(net, data, optimizer=nn.Adam(0.01), epochs=40, batch_size=50)
    for half in (x < 0.5, x >= 0.5):
        below = ((1 + x) * noise < net.predict(x))[half].mean()
        assert below == pytest.approx(level, abs=0.04)
    result = nn.evaluate(net, data.test)
    assert result.coverage == np.mean(data.test.labels <= net.predict(data.test.images))
    assert f"coverage={result.coverage}" in repr(result)
    assert nn.evaluate(nn.MLP([1, 1], backend="numpy", loss="squared_error"), data.test).coverage is None


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_labels_may_be_any_integers(net, dtype):
    result = nn.evaluate(net, split([[0.0, LN3], [LN3, 0.0]], np.array([1, 1], dtype)))
    assert result.loss == pytest.approx((math.log(4 / 3) + 2 * LN2) / 2, rel=1e-14)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 4)), [0, 1, 0], r"images must have shape \(samples, 2\), got \(3, 4\)"),
        (np.zeros(2), [0], r"images must have shape \(samples, 2\), got \(2,\)"),
        (np.zeros((3, 2)), [0, 1], r"labels must have shape \(3,\), one for each image, got \(2,\)"),
        (
            np.zeros((3, 2)),
            [[0], [1], [0]],
            r"labels must be integers of shape \(samples,\), got int64 of shape \(3, 1\)",
        ),
        (np.zeros((0, 2)), np.zeros(0, int), "there are no rows to work on"),
        (np.zeros((3, 2)), [0, 2, 5], r"labels must be in \[0, 2\), got 2 at row 1"),
        (np.zeros((3, 2)), [0, 1, -1], r"labels must be in \[0, 2\), got -1 at row 2"),
        (np.zeros((1, 2)), [1.0], r"labels must be integers of shape \(samples,\), got float64 of shape \(1,\)"),
        (np.zeros((1, 2), bool), [1], "images must be numbers, got bool: convert"),
    ],
)
def test_rows_that_do_not_fit_are_refused(images, labels, message):
    with pytest.raises(DataError, match=message):
        nn.evaluate(nn.MLP([2, 2], backend="numpy"), split(images, labels))


def test_confusion_matrix_has_true_classes_down_and_predictions_across():
    matrix = nn.confusion_matrix(np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2]), 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]

"""The figures of each class and the calibration error: by hand, and against scikit-learn's."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xpnn import nn
from xpnn.backends import ConfigError, DataError

MATRIX = np.array([[3, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])  # (true, predicted)


def drawn_classes(data, num_classes):
    """Labels and predictions of up to 40 rows, some classes missing."""
    count = data.draw(st.integers(1, 40))
    numbers = st.lists(st.integers(0, num_classes - 1), min_size=count, max_size=count)
    return np.array(data.draw(numbers)), np.array(data.draw(numbers))


def test_scores_by_hand():
    """Class 2 is there and never predicted, class 3 is neither."""
    scores = nn.precision_recall(MATRIX)
    np.testing.assert_array_equal(scores.precision, [3 / 4, 2 / 3, np.nan, np.nan])
    np.testing.assert_array_equal(scores.recall, [3 / 4, 1, 0, np.nan])
    np.testing.assert_array_equal(scores.f1, [3 / 4, 4 / 5, 0, np.nan])
    assert scores.support.tolist() == [4, 2, 1, 0]
    assert scores.support.dtype == np.int64


def test_counts_of_small_types_do_not_overflow():
    scores = nn.precision_recall(np.array([[200, 100], [0, 200]], np.uint8))
    assert scores.support.tolist() == [300, 200]
    np.testing.assert_allclose(scores.recall, [2 / 3, 1])
    np.testing.assert_allclose(scores.precision, [1, 2 / 3])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), num_classes=st.integers(2, 6))
def test_scores_are_scikit_learns(data, num_classes):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predictions = drawn_classes(data, num_classes)
    matrix = nn.confusion_matrix(labels, predictions, num_classes)
    classes = list(range(num_classes))
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(labels, predictions, labels=classes))
    expected = metrics.precision_recall_fscore_support(labels, predictions, labels=classes, zero_division=np.nan)
    for ours, theirs in zip(nn.precision_recall(matrix), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_calibration_by_hand():
    """Confidences 0.55 (right), 0.6 (wrong), 0.9 (right), 1 (right) in bins (0.5, 0.6], (0.8, 0.9], (0.9, 1]."""
    probabilities = np.array([[0.55, 0.45], [0.4, 0.6], [0.9, 0.1], [0.0, 1.0]])
    result = nn.calibration_error(probabilities, [0, 0, 0, 1], bins=10)
    assert result.rows.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 1, 1]
    np.testing.assert_allclose(result.confidence[[5, 8, 9]], [0.575, 0.9, 1.0])
    np.testing.assert_array_equal(result.accuracy[[5, 8, 9]], [0.5, 1.0, 1.0])
    assert np.isnan(result.confidence[:5]).all()
    assert np.isnan(result.accuracy[:5]).all()
    assert result.error == pytest.approx((2 * 0.075 + 0.1 + 0) / 4)


def test_one_bin_tells_how_much_too_sure_the_network_is_on_the_whole():
    result = nn.calibration_error([[0.75, 0.25], [0.75, 0.25]], [0, 1], bins=1)
    assert (result.error, result.rows.tolist()) == (0.25, [2])


def test_a_sum_that_is_rounded_above_1_is_in_the_last_bin():
    result = nn.calibration_error(np.array([[1.0002, 0.0]], np.float32), [0])
    assert (result.error, result.rows[-1], len(result.rows)) == (0.0, 1, 15)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60), num_classes=st.integers(2, 5), bins=st.integers(1, 20))
def test_bins_are_scikit_learns(seed, rows, num_classes, bins):
    calibration = pytest.importorskip("sklearn.calibration")
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(num_classes, 0.5), rows)  # (rows, classes)
    labels = generator.integers(0, num_classes, rows)
    result = nn.calibration_error(probabilities, labels, bins=bins)
    is_right = probabilities.argmax(axis=1) == labels
    confidence = np.minimum(probabilities.max(axis=1), 1)
    share, mean = calibration.calibration_curve(is_right.astype(int), confidence, n_bins=bins, pos_label=1)
    np.testing.assert_allclose(result.accuracy[result.rows > 0], share, rtol=1e-12)
    np.testing.assert_allclose(result.confidence[result.rows > 0], mean, rtol=1e-12)
    counts = result.rows[result.rows > 0]
    assert result.error == pytest.approx(np.sum(counts * np.abs(share - mean)) / rows, abs=1e-14)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 3], [0, 1], 3), DataError, r"labels must be in \[0, 3\), got 3 at row 1"),
        (([0, 1], [0, -1], 3), DataError, r"predictions must be in \[0, 3\), got -1 at row 1"),
        (([0, 1], [0], 3), DataError, "one prediction a label, got 1 for 2"),
        (([0.0], [0], 3), DataError, r"labels must be whole numbers of shape \(samples,\), got float64"),
        (([[0]], [0], 3), DataError, r"labels must be whole numbers .* got int64 of shape \(1, 1\)"),
        (([0], [0], 0), ConfigError, "num_classes must be a whole number >= 1, got 0"),
    ],
)
def test_what_cannot_be_counted_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        nn.confusion_matrix(*arguments)


def test_no_rows_are_counted_as_none():
    assert nn.confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3), int), r"\(classes, classes\), a row a true class; got shape \(2, 3\)"),
        (np.zeros((0, 0), int), r"got shape \(0, 0\)"),
        (np.array([[1, -1], [0, 0]]), "must hold counts"),
        (np.array([[0.5, 0.5], [0, 0]]), "must hold counts"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, message):
    with pytest.raises(DataError, match=message):
        nn.precision_recall(matrix)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([[3.0, -1.0]], [0], "sum to 1, got a sum of 2 and a least of -1 at row 0: .* not logits"),
        ([[0.5, 0.5], [math.nan, 1.0]], [0, 0], "at row 1"),
        ([[1.5, -0.5]], [0], "a least of -0.5"),
        ([[0.5, 0.5]], [2], r"labels must be in \[0, 2\), got 2 at row 0"),
        ([[0.5, 0.5]], [0, 1], "one row of probabilities a label, got 1 for 2"),
        ([0.5, 0.5], [0, 1], r"got float64 of shape \(2,\)"),
        ([[1, 0]], [0], "must be floating numbers .* got int64"),
        (np.zeros((0, 2)), [], r"got float64 of shape \(0, 2\)"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, labels, message):
    with pytest.raises(DataError, match=message):
        nn.calibration_error(probabilities, labels)


@pytest.mark.parametrize("bins", [0, -1, 1.5, True, 10_001])
def test_bins_that_cannot_be_are_refused(bins):
    with pytest.raises(ConfigError, match=r"bins must be a whole number in \[1, 10000\], got"):
        nn.calibration_error([[0.5, 0.5]], [0], bins=bins)


class TestCommand:
    """`xpnn evaluate` on two classes of three, of which the network never predicts class c."""

    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        testing = pytest.importorskip("click.testing")
        from xpnn.nn.cli.app import xpnn

        monkeypatch.chdir(tmp_path)
        net = nn.MLP([2, 3], backend="numpy", dtype="float64")
        weight = np.array([[1.0, 0, 0], [0, 1.0, 0]])  # (features, classes)
        net.load_parameters({"layers.0.weight": weight, "layers.0.bias": np.array([0.0, 0.0, -50.0])})
        nn.save(net, "m.safetensors")
        images = np.array([[math.log(3), 0.0], [0.0, math.log(3)], [math.log(3), 0.0], [0.0, math.log(9)]])
        labels = [0, 0, 2, 1]
        np.savez("d.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        arguments = ["evaluate", "m.safetensors", "--data", "d.npz", "--backend", "numpy"]
        return lambda *more: testing.CliRunner().invoke(xpnn, [*arguments, *more])

    def test_json(self, run):
        result = json.loads(run("--json").stdout)
        assert result["precision"] == {"0": 0.5, "1": 0.5, "2": None}
        assert result["recall"] == {"0": 0.5, "1": 1.0, "2": 0.0}
        assert result["f1"] == {"0": 0.5, "1": 2 / 3, "2": 0.0}
        assert result["support"] == {"0": 2, "1": 1, "2": 1}
        bins = result["calibration_bins"]
        assert bins["rows"] == [0] * 11 + [3, 0, 1, 0]  # confidences 3/4 three times, one of them right, and 9/10
        assert bins["accuracy"][11] == pytest.approx(1 / 3)
        assert bins["confidence"][11] == pytest.approx(3 / 4)
        assert bins["accuracy"][12] is None
        assert result["calibration_error"] == pytest.approx((3 * (3 / 4 - 1 / 3) + 1 / 10) / 4)

    def test_table(self, run):
        text = run().stdout
        assert "calibration error 33.75%" in text
        rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.startswith("  ")]
        assert rows == [
            ["class", "precision", "recall", "F1", "rows"],
            ["0", "50.00%", "50.00%", "50.00%", "2"],
            ["1", "50.00%", "100.00%", "66.67%", "1"],
            ["2", "none", "0.00%", "0.00%", "1"],
        ]

    def test_folder(self, run, tmp_path):
        pytest.importorskip("matplotlib")
        assert run("--out", "pictures").exit_code == 0
        written = json.loads((tmp_path / "pictures/evaluation.json").read_text())
        assert written == json.loads(run("--json").stdout)
        assert (tmp_path / "pictures/reliability.png").stat().st_size > 5000


def test_reliability_diagram_shows_each_bin():
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from xpnn.nn.pictures.evaluation import draw_reliability_diagram

    result = nn.calibration_error([[0.55, 0.45], [0.4, 0.6], [0.9, 0.1]], [0, 0, 0], bins=10)
    figure = Figure()
    FigureCanvasAgg(figure)
    draw_reliability_diagram(figure, result)
    figure.canvas.draw()
    upper, lower = figure.axes
    bars = [(bar.get_x(), bar.get_height(), bar.get_width()) for bar in upper.patches]
    np.testing.assert_allclose(bars, [(0.5, 0.5, 0.1), (0.8, 1.0, 0.1)])
    np.testing.assert_allclose([bar.get_height() for bar in lower.patches], [0, 0, 0, 0, 0, 2 / 3, 0, 0, 1 / 3, 0])
    gaps = upper.collections[0].get_segments()  # from the accuracy to the confidence, where the rows are
    np.testing.assert_allclose(gaps, [[(0.575, 0.5), (0.575, 0.575)], [(0.9, 1.0), (0.9, 0.9)]])
    assert upper.get_title(loc="left") == "calibration error 8.33 %"

"""Meaning of rows: the same numbers give the same answers in any array, and what has no meaning is refused."""

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, DataError
from xpnn.nn.inputs.facts import RowFacts
from xpnn.nn.inputs.inputs import bare_inputs, largest_pixel, moments


@pytest.fixture
def net(backend):
    """A network whose logits are its features."""
    net = nn.MLP([3, 3], backend=backend, dtype="float64")
    net.load_parameters({"layers.0.weight": np.eye(3), "layers.0.bias": np.zeros(3)})
    return net


# Pixels

IMAGES = np.array([[0, 51, 255], [0, 0, 1], [2, 128, 4]])  # (samples, pixels)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint16", ">i4", "float32", "float64", "longdouble"])
def test_the_same_pixels_give_the_same_bits(net, dtype):
    net.inputs = nn.Pixels(count=3)
    np.testing.assert_allclose(net.logits(IMAGES.astype("uint8")), IMAGES / 255, rtol=1e-15)
    np.testing.assert_array_equal(net.logits(IMAGES.astype(dtype)), net.logits(IMAGES.astype("uint8")))


def test_scaled_pixels_and_truth_values_are_taken_as_they_are(net):
    net.inputs = nn.Pixels(count=3)
    np.testing.assert_array_equal(net.logits(IMAGES / 255), IMAGES / 255)
    np.testing.assert_array_equal(net.logits(IMAGES > 1), IMAGES > 1)


def test_pixels_are_scaled_by_the_largest(net):
    net.inputs = nn.Pixels(count=3, largest=16)
    np.testing.assert_array_equal(net.logits(np.array([[4, 16, 32]])), [[0.25, 1, 2]])
    net.inputs = nn.Pixels(count=3, largest=4096)
    np.testing.assert_array_equal(net.logits(np.array([[1024.0, 4096, 0]])), [[0.25, 1, 0]])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[0, -1, 2]], r"whole numbers in \[0, 255\], or scaled to \[0, 1\], got numbers from -1 to 2: scale them as"),
        ([[0, -0.5, 0.5]], r"got numbers from -0.5 to 0.5"),
        ([[0, 1, 511]], r"got numbers from 0 to 511"),
        ([[0, 1, 65535]], r"got numbers from 0 to 65535"),
        ([[0, 1, 2], [3, 4.5, 6]], r"got 4.5 at row 1, column 1, and up to 6: scale them by 1/6"),
        ([[0, 1, np.nan]], r"images must be finite in float64, got nan at row 0, column 2"),
        ([[0, 1, np.inf]], r"images must be finite in float64, got inf at row 0, column 2"),
    ],
)
def test_what_are_no_pixels_is_refused(net, images, message):
    net.inputs = nn.Pixels(count=3)
    for refuse in (net.predict, lambda rows: nn.evaluate(net, nn.Split(rows, np.zeros(len(rows), np.int64)))):
        with pytest.raises(DataError, match=message):
            refuse(np.array(images))


def test_bytes_far_beyond_the_largest_pixel_are_refused(net):
    net.inputs = nn.Pixels(count=3, largest=16)
    with pytest.raises(DataError, match=r"whole numbers in \[0, 16\].* from 0 to 255"):
        net.predict(IMAGES[:1].astype("uint8"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"largest": 0}, "the largest pixel must be a finite number > 0, got 0"),
        ({"largest": "255"}, "the largest pixel must be a finite number > 0, got '255'"),
        ({"shape": (2,)}, "image_shape must be two whole numbers >= 1"),
        ({"shape": (2, 0)}, "image_shape must be two whole numbers >= 1"),
        ({"shape": (2, 3), "count": 5}, "image_shape must have the product 5, the features, got"),
    ],
)
def test_pixels_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        nn.Pixels(**options)


@pytest.mark.parametrize(
    ("most", "largest"), [(0, 1), (1, 1), (16, 16), (127, 127), (128, 255), (255, 255), (300, 300)]
)
def test_the_pixel_of_full_intensity(most, largest):
    assert largest_pixel(most) == largest


def test_bare_bytes_are_pixels_and_other_rows_numbers():
    for dtype, inputs in (
        ("uint8", nn.Pixels(count=3)),
        ("int64", nn.Numbers(count=3)),
        ("float32", nn.Numbers(count=3)),
    ):
        rows = IMAGES.astype(dtype)
        assert bare_inputs(rows, RowFacts(rows)) == inputs


# Tables of numbers

ROWS = np.array([[30, 0, 20], [40, 1, 25], [50, 1, 30], [80, 0, 25]])  # age, flag, body mass index


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64"])
def test_whole_numbers_are_a_table_whatever_their_type(backend, dtype):
    data = nn.from_arrays(ROWS.astype(dtype), [0, 1, 1, 0], test_fraction=None)
    net = nn.MLP([3, 2], backend=backend, seed=1)
    nn.train(net, data, epochs=1, batch_size=4)
    expected = net.logits(ROWS)
    for given in ("uint8", "int32", "float32", "float64", ">f8", "longdouble"):
        np.testing.assert_array_equal(net.logits(ROWS.astype(given)), expected)
    np.testing.assert_array_equal(net.logits(ROWS.tolist()), expected)
    for k, column in enumerate(net.inputs.columns):
        assert (column.mean, column.std) == pytest.approx((ROWS[:, k].mean(), ROWS[:, k].std()), rel=1e-15)
    scaled = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)  # (samples, features)
    np.testing.assert_allclose(net.inputs.features(ROWS, "float64"), scaled, rtol=1e-14, atol=1e-15)


def test_truth_values_are_numbers_of_a_table(backend):
    data = nn.from_arrays(ROWS > 26, [0, 1, 1, 0], test_fraction=None)
    net = nn.MLP([3, 2], backend=backend)
    nn.train(net, data, epochs=1, batch_size=4)
    np.testing.assert_array_equal(net.logits(ROWS > 26), net.logits((ROWS > 26).astype(int)))


def test_a_table_may_be_taken_as_it_is():
    data = nn.from_arrays(ROWS, [0, 1, 1, 0], test_fraction=None, standardize=False)
    assert data.inputs == nn.Numbers(count=3, class_names=("0", "1"))


def test_standardization_is_that_of_the_training_rows():
    images = np.arange(20.0).reshape(10, 2)
    data = nn.from_arrays(images, np.arange(10) % 2, test_fraction=0.3)
    assert [column.mean for column in data.inputs.columns] == data.train.images.mean(axis=0).tolist()
    np.testing.assert_array_equal(np.sort(np.concatenate([data.train.images, data.test.images]), axis=0), images)


# Moments


@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_moments_are_numpys_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr("xpnn.nn.inputs.arguments.BLOCK_BYTES", block)
    generator = np.random.default_rng(0)
    rows = generator.normal([0, 5, -1e9, 1e-8], [1, 1e-3, 1, 1e-9], (101, 4))  # (samples, columns)
    mean, std = moments(rows)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(std, rows.std(axis=0), rtol=1e-7)


def test_a_constant_column_is_not_blown_up():
    rows = np.repeat([[0.0, 0.1, -1e30, 7]], 1000, axis=0)
    mean, std = moments(rows)
    np.testing.assert_allclose(mean, rows[0], rtol=1e-13)
    assert std.tolist() == [1, 1, 1, 1]


# Targets


def test_labels_are_standardized_and_answers_are_in_their_units():
    labels = np.array([[10.0, 5], [30, 5], [50, 5]])  # (samples, outputs)
    target = nn.Target.learn(labels)
    assert target == nn.Target((30.0, 5.0), (np.std([10, 30, 50]), 1.0))
    standardized = target.standardized(labels)
    np.testing.assert_allclose(standardized.mean(axis=0), [0, 0], atol=1e-15)
    np.testing.assert_allclose(standardized.std(axis=0), [1, 0], rtol=1e-15)
    np.testing.assert_allclose(target.in_units(np, standardized), labels, rtol=1e-15)


def test_a_regression_learns_numbers_of_any_size(backend):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(200, 3))
    prices = 1e6 + 2e5 * images[:, 0] - 1e5 * images[:, 1]
    data = nn.from_arrays(images, prices)
    net = nn.MLP([3, 1], backend=backend, loss="squared_error")
    nn.train(net, data, optimizer=nn.SGD(0.5), epochs=20, batch_size=32)
    evaluation = nn.evaluate(net, data.test)
    assert evaluation.r2 > 0.999
    assert evaluation.mean_absolute_error < 5e3
    np.testing.assert_allclose(net.predict(data.test.images), data.test.labels, atol=3e4)
    assert evaluation.loss == pytest.approx(
        np.mean(np.square((net.predict(data.test.images) - data.test.labels) / data.inputs.target.std)) / 2, rel=0.05
    )


# Settings


@pytest.mark.parametrize(
    "inputs",
    [
        nn.Numbers(),
        nn.Numbers(count=3),
        nn.Pixels(count=6, largest=16, shape=(2, 3)),
        nn.Pixels(largest=np.float32(4), shape=(np.int64(2), np.int64(3))),
    ],
)
def test_settings_give_the_same_inputs(inputs):
    settings = inputs.settings()
    assert type(inputs).from_settings(settings) == inputs
    assert settings["kind"] == inputs.KIND

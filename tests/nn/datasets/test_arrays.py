"""Arrays in memory: types, scales, shapes, labels, and what is refused."""

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends.errors import ConfigError, DataError
from xpnn.nn.datasets import from_arrays

LABELS = [0, 1, 0, 1]
NAN, INF = float("nan"), float("inf")


def make(images=None, labels=LABELS, **options):
    """Give the test part too, so that rows stay in order."""
    images = np.arange(12).reshape(4, 3) if images is None else np.asarray(images)
    options = {"test_images": images, "test_labels": labels} | options
    return from_arrays(images, labels, **options)


def test_values_arrive_as_they_were():
    data = make(test_images=[[9, 8, 7]], test_labels=[1], name="mine")
    np.testing.assert_array_equal(data.train.images, np.arange(12).reshape(4, 3))
    np.testing.assert_array_equal(data.train.labels, LABELS)
    np.testing.assert_array_equal(data.test.images, [[9, 8, 7]])
    np.testing.assert_array_equal(data.test.labels, [1])
    assert data.train.labels.dtype == np.int64
    assert (data.name, data.class_names, data.features, data.num_classes) == ("mine", ("0", "1"), 3, 2)
    assert len(data.test) == 1


def test_without_a_test_part_rows_are_held_back():
    images, labels = np.arange(200).reshape(100, 2), np.repeat([0, 1], [80, 20])
    data = from_arrays(images, labels)
    assert (len(data.train), len(data.test)) == (80, 20)
    assert data.name == "arrays"
    np.testing.assert_array_equal(data.test.images, from_arrays(images, labels, seed=0).test.images)
    shuffled = np.random.default_rng(0).permutation(100)[:20]  # without stratify
    np.testing.assert_array_equal(data.test.images, images[shuffled])
    stratified = from_arrays(images, labels, stratify=True, test_fraction=0.1, seed=5)
    assert np.bincount(stratified.test.labels).tolist() == [8, 2]
    other = from_arrays(images, labels, stratify=True, test_fraction=0.1, seed=6)
    assert not np.array_equal(stratified.test.images, other.test.images)
    everything = np.concatenate([data.train.images, data.test.images])
    assert sorted(everything[:, 0].tolist()) == list(range(0, 200, 2))


@pytest.mark.parametrize(
    ("given", "cells", "pixels"),
    [
        ("uint8", "uint8", "uint8"),
        ("bool", "float32", "uint8"),
        ("int64", "float64", "uint8"),
        (">i2", "float32", "uint8"),
        ("float16", "float32", "float32"),
        ("float32", "float32", "float32"),
        (">f4", "float32", "float32"),
        ("float64", "float64", "float64"),
        (">f8", "float64", "float64"),
        ("longdouble", "float64", "float64"),
    ],
)
def test_types(given, cells, pixels):
    values = np.arange(12).reshape(4, 3) % 2
    for became, options in ((cells, {}), (pixels, {"pixels": True})):
        data = make(values.astype(given), **options)
        assert data.train.images.dtype == data.test.images.dtype == np.dtype(became)
        assert data.train.images.dtype.isnative
        np.testing.assert_array_equal(data.train.images, values)
        is_scaled = became == pixels != "uint8" and options  # to [0, 1], as pixels of 255 would be
        assert data.scale == (1 / 255 if is_scaled else 1.0)


@pytest.mark.parametrize("part", ["images", "test_images"])
def test_pixels_beyond_a_byte_are_scaled_by_the_largest_of_both_parts(part):
    images = {"images": np.arange(12).reshape(4, 3), "test_images": np.arange(12).reshape(4, 3)}
    images[part][2, 1] = 4096
    data = make(images["images"], test_images=images["test_images"], pixels=True)
    assert data.train.images.dtype == data.test.images.dtype == np.float32
    np.testing.assert_array_equal(data.train.images, images["images"])
    np.testing.assert_array_equal(data.test.images, images["test_images"])
    assert data.scale == 1 / 4096


def test_pixels_beyond_a_byte_are_scaled_as_those_of_the_training_in_other_data_sets(backend):
    images = np.arange(1000, 2200, 100, dtype=np.uint16).reshape(4, 3)
    net = nn.MLP([3, 2], backend=backend)
    net.adopt(make(2 * images, pixels=True))
    for options in ({"inputs": net.inputs}, {"pixels": True}):
        rows = make(images, test_fraction=None, **options).train
        np.testing.assert_array_equal(net.predict_proba(rows), net.predict_proba(images))


@pytest.mark.parametrize("outlier", [256, -1, 2**24 + 1])
def test_whole_numbers_of_a_table_are_kept_exactly(outlier):
    images = np.arange(12).reshape(4, 3)
    images[2, 1] = outlier
    data = make(images)
    np.testing.assert_array_equal(data.train.images, images)
    assert data.scale == 1.0


def test_float64_in_one_part_is_kept_in_both():
    for one, other in ((np.float32, np.float64), (np.uint8, np.float64), (np.int64, np.float32)):
        data = make(np.zeros((4, 3), one), test_images=np.full((4, 3), 0.1, other))
        assert data.train.images.dtype == data.test.images.dtype == np.float64
        assert data.test.images[0, 0] == other(0.1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[-1, 2]], "from -1 to 2: scale them, or leave out pixels=True"),
        ([[0.5, 2]], "from 0.5 to 2"),
        ([[0.5, NAN]], "images must be finite in float64, got nan at row 0, column 1"),
    ],
)
def test_what_is_said_to_be_pixels_must_be_pixels(images, message):
    with pytest.raises(DataError, match=message):
        make(np.repeat(images, 4, axis=0), pixels=True)


@pytest.mark.parametrize(
    ("largest", "scale"), [(255, 1 / 255), (128, 1 / 255), (127, 1 / 127), (16, 1 / 16), (1, 1.0), (0, 1.0)]
)
def test_the_scale_comes_from_the_largest_training_value(largest, scale):
    images = np.zeros((4, 3), np.uint8)
    images[1, 2] = largest
    assert (
        make(images, test_images=np.full((4, 3), min(2 * max(largest, 1), 255), np.uint8), pixels=True).scale == scale
    )


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "expected"),
    [
        ((4, 784), "uint8", {}, None),
        ((4, 784), "uint8", {"pixels": True}, (28, 28)),
        ((4, 784), "float32", {"pixels": True}, (28, 28)),
        ((4, 16), "uint8", {"pixels": True}, (4, 4)),
        ((4, 9), "uint8", {"pixels": True}, None),
        ((4, 17), "uint8", {"pixels": True}, None),
        ((4, 12), "uint8", {"image_shape": (3, 4)}, (3, 4)),
        ((4, 2, 3), "uint8", {}, (2, 3)),
        ((4, 2, 3), "float32", {}, (2, 3)),
    ],
)
def test_image_shapes(shape, dtype, options, expected):
    images = (np.arange(np.prod(shape)) % 256).reshape(shape).astype(dtype)
    data = make(images, **options)
    assert data.image_shape == expected
    assert data.train.images.shape == (4, int(np.prod(shape[1:])))
    np.testing.assert_array_equal(data.train.images, images.reshape(4, -1))
    assert data.train.images.flags.c_contiguous


def test_columns_in_memory_order_are_laid_out_by_rows():
    images = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    data = make(images)
    assert data.train.images.flags.c_contiguous
    np.testing.assert_array_equal(data.train.images, images)


@pytest.mark.parametrize(
    ("labels", "encoded", "names"),
    [
        ([5, -2, 5, 10], [1, 0, 1, 2], ("-2", "5", "10")),
        ([-1, -3, -1, 0], [1, 0, 1, 2], ("-3", "-1", "0")),
        ([-(2**63), 2**63 - 1, 0, 0], [0, 2, 1, 1], ("-9223372036854775808", "0", "9223372036854775807")),
        ([2.0, 1.0, 2.0, 30.0], [1, 0, 1, 2], ("1", "2", "30")),
        ([2.0**53, 0.0, 0.0, 0.0], [1, 0, 0, 0], ("0", "9007199254740992")),
        (np.array([1, 0, 1, 0], ">i4"), [1, 0, 1, 0], ("0", "1")),
        ([True, False, True, True], [1, 0, 1, 1], ("False", "True")),
        (["dog", "cat", "cat", "eel"], [1, 0, 0, 2], ("cat", "dog", "eel")),
        (np.array([b"dog", b"cat", "é".encode(), b"cat"]), [1, 0, 2, 0], ("cat", "dog", "é")),
        (np.array(["b", "a", "b", "a"], object), [1, 0, 1, 0], ("a", "b")),
        (np.array([1, "a", 1, "b"], object), [0, 1, 0, 2], ("1", "a", "b")),
        (np.array([(0, 1), (0, 0), None], object)[[0, 1, 1, 0]], [1, 0, 0, 1], ("(0, 0)", "(0, 1)")),
    ],
)
def test_labels_of_every_kind_are_numbered_in_order(labels, encoded, names):
    data = make(labels=labels)
    assert data.train.labels.tolist() == encoded
    assert data.train.labels.dtype == np.int64
    assert data.class_names == names


def test_both_parts_are_numbered_together():
    data = make(labels=["b", "c", "b", "c"], test_images=[[1, 2, 3]] * 2, test_labels=["c", "a"])
    assert data.class_names == ("a", "b", "c")
    assert data.train.labels.tolist() == [1, 2, 1, 2]
    assert data.test.labels.tolist() == [2, 0]
    data = make(
        labels=np.array([1, "x"] * 2, object), test_images=[[1, 2, 3]], test_labels=np.array(["a"], dtype=object)
    )
    assert data.test.labels.tolist() == [1]


def test_class_names_fix_the_numbers():
    data = make(labels=[3, 1, 3, 1], class_names=["a", "b", "c", "d"])
    assert data.train.labels.tolist() == [3, 1, 3, 1]
    assert data.class_names == ("a", "b", "c", "d")
    assert make(labels=[True, False, True, True], class_names=["no", "yes"]).train.labels.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros(4)}, r"images must be \(samples, features\).*got shape \(4,\).*reshape"),
        ({"images": np.zeros((4, 2, 2, 2))}, r"got shape \(4, 2, 2, 2\): pass images.reshape\(len\(images\), -1\)"),
        (
            {"images": np.zeros((4, 5, 5, 3), np.uint8)},
            r"images must be grey, .*, got 3 channels in shape \(4, 5, 5, 3\): pass images.mean\(axis=3\).astype",
        ),
        ({"images": np.zeros((4, 5, 5, 4))}, r"got 4 channels .*: pass images\[..., :3\].mean\(axis=3\).astype"),
        ({"images": np.zeros((4, 4, 5, 5))}, r"got 4 channels .*: pass images\[:, :3\].mean\(axis=1\).astype"),
        ({"test_images": np.zeros((4, 3, 5, 5))}, r"test_images must be grey, .*: pass test_images.mean\(axis=1\)"),
        ({"images": np.zeros((0, 3)), "labels": []}, r"at least one row and one feature, got shape \(0, 3\)"),
        ({"images": np.zeros((4, 0))}, r"at least one row and one feature, got shape \(4, 0\)"),
        ({"images": np.zeros((4, 3), complex)}, r"real numbers, got complex128"),
        ({"images": np.full((4, 3), "a")}, r"real numbers, got <U1"),
        ({"images": np.full((4, 3), None)}, r"real numbers, got object"),
        ({"test_images": np.zeros((4, 2), int)}, r"same features, got shapes \(4, 3\) and \(4, 2\)"),
        ({"images": np.zeros((4, 2, 3)), "test_images": np.zeros((4, 3, 2))}, r"\(4, 2, 3\) and \(4, 3, 2\)"),
        ({"labels": [0, 1, 0]}, r"labels must be as many as the images, got 3 for 4 images"),
        ({"test_labels": [0, 1, 0]}, r"test_labels must be as many as the images, got 3 for 4 images"),
        (
            {"labels": np.zeros((4, 1, 1), int)},
            r"one dimension \(samples,\), got shape \(4, 1, 1\): pass labels.ravel\(\)",
        ),
        ({"labels": np.eye(4)}, r"got shape \(4, 4\): pass labels.argmax\(axis=1\) if they are one-hot"),
        ({"labels": np.eye(2)[[0, 1, 0, 1]]}, r"got shape \(4, 2\): pass labels.argmax\(axis=1\)"),
        ({"labels": [[0], [1, 2], [0], [1]]}, r"labels cannot become a NumPy array"),
        ({"labels": [0, 1, 0.5, 1], "regression": False}, r"whole numbers or strings, got 0.5 at row 2: classes are"),
        ({"labels": [0.5, NAN, 0, 1], "regression": True}, r"labels must be finite in float32, got nan at row 1"),
        ({"labels": ["a", "b"] * 2, "regression": True}, r"labels must be numbers, .*, got <U1 of shape \(4,\)"),
        ({"labels": [0, NAN, 0, 1]}, r"whole numbers or strings, got nan at row 1"),
        ({"labels": [0, 1, 0, INF]}, r"whole numbers or strings, got inf at row 3"),
        ({"labels": [0, 1, 0, 2.0**53 + 2]}, r"whole numbers or strings, got 9007199254740994.0 at row 3"),
        ({"labels": [0, 1, 0, -(2.0**60)]}, r"whole numbers or strings, got -1.15\S* at row 3"),
        ({"labels": np.array([0, 1, 2**63, 1], np.uint64)}, r"fit into 64 bits, got 9223372036854775808 at row 2"),
        ({"labels": ["a", "b", "", "b"]}, r"labels must not be empty, got  at row 2"),
        ({"labels": np.array([0, None, 0, 1], object)}, r"hashable and present, got None at row 1"),
        ({"labels": np.array([0, NAN, 0, 1], object)}, r"hashable and present, got nan at row 1"),
        ({"labels": np.array([0, {}, 0, 1], object)}, r"hashable and present, got {} at row 1"),
        ({"labels": np.zeros(4, "datetime64[D]")}, r"whole numbers or strings, got datetime64\[D\]"),
        ({"labels": np.zeros(4, complex)}, r"whole numbers or strings, got complex128"),
        ({"labels": np.array([1, "1", 1, "1"], object)}, r"class names must differ, got '1' twice"),
        ({"test_labels": ["0", "1", "0", "1"]}, r"of one kind, got labels int64, test_labels <U1"),
        ({"labels": [0, 1, 0, 10], "class_names": "0123456789"}, r"labels must be in \[0, 10\), got 10 at row 3"),
        ({"labels": [0, -1, 0, 1], "class_names": "01"}, r"labels must be in \[0, 2\), got -1 at row 1"),
        ({"test_labels": [0, 1, 5, 1], "class_names": "01"}, r"test_labels must be in \[0, 2\), got 5 at row 2"),
        ({"labels": ["a", "b"] * 2, "class_names": "ab"}, r"class numbers where class_names are given, got <U1"),
        ({"class_names": ["a", "x", "x"]}, r"class names must differ, got 'x' twice"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(DataError, match=message):
        make(**({"test_labels": change["labels"]} if "labels" in change else {}) | change)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("part", ["images", "test_images"])
@pytest.mark.parametrize(("shape", "dtype"), [((4, 2, 3), "float64"), ((4, 6), "float32")])
def test_a_value_that_is_not_finite_is_named_by_row_and_column(bad, part, shape, dtype):
    images = {"images": np.zeros(shape), "test_images": np.zeros(shape)}
    images[part].reshape(4, 6)[2, 4] = bad
    with pytest.raises(DataError, match=rf"^{part} must be finite in {dtype}, got {bad} at row 2, column 4"):
        make(images["images"], test_images=images["test_images"])


@pytest.mark.parametrize("row", range(10))
def test_a_value_that_is_not_finite_is_named_by_its_row_before_the_split(row):
    images = np.zeros((10, 3))
    images[row, 1] = 1e300
    with pytest.raises(
        DataError, match=rf"^images must be finite in float32, got 1e\+300 at row {row}, column 1: fill"
    ):
        from_arrays(images, np.arange(10) % 2)


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="longdouble is float64 here")
def test_a_longdouble_beyond_float64_is_refused():
    images = np.ones((4, 3), np.longdouble)
    images[3, 2] = np.longdouble(10) ** 400
    with pytest.raises(DataError, match="finite in float32, got inf at row 3, column 2"):
        make(images)


def test_one_class_is_a_data_set_to_predict_on():
    data = make(labels=[7, 7, 7, 7])
    assert data.class_names == ("7",)
    assert data.train.labels.tolist() == [0] * 4


def test_all_rows_may_be_for_training():
    data = from_arrays(np.arange(12).reshape(4, 3), LABELS, test_fraction=None)
    assert (len(data.train), len(data.test), data.test.images.shape) == (4, 0, (0, 3))
    np.testing.assert_array_equal(data.train.images, np.arange(12).reshape(4, 3))


def test_a_column_of_labels_is_its_labels():
    assert make(labels=[[1], [0], [1], [0]]).train.labels.tolist() == [1, 0, 1, 0]


def test_labels_with_a_fraction_are_numbers_to_predict():
    data = make(labels=[0.5, 1, 2, 4.5])
    assert (data.num_classes, data.num_outputs, data.class_names) == (0, 1, ())
    assert data.train.labels.tolist() == [[0.5], [1.0], [2.0], [4.5]]
    assert data.inputs.target.mean == (2.0,)
    assert data.inputs.target.std == (np.std([0.5, 1, 2, 4.5]),)
    assert make(labels=[1.0, 2.0, 1.0, 2.0]).class_names == ("1", "2")
    assert make(labels=[1, 2, 1, 2], regression=True).train.labels.tolist() == [[1.0], [2.0], [1.0], [2.0]]


def test_ragged_images_are_refused():
    with pytest.raises(DataError, match="images cannot become a NumPy array"):
        from_arrays([[1, 2], [3]], [0, 1])


@pytest.mark.parametrize("missing", ["test_images", "test_labels"])
def test_half_a_test_part_is_refused(missing):
    with pytest.raises(ConfigError, match=f"belong together, got no {missing}"):
        make(**{missing: None})


class Broken:
    """Cannot be hashed, compared, written or made an array, and says so in kinds of its own."""

    def __init__(self, *methods):
        for method in methods:
            assert method in ("hash", "eq", "str", "array")
        self.methods = methods

    def _fail(self, method):
        if method in self.methods:
            raise LookupError(method)

    def __hash__(self):
        self._fail("hash")
        return 1

    def __eq__(self, other):
        self._fail("eq")
        return self is other

    def __str__(self):
        self._fail("str")
        return "broken"

    def __array__(self, dtype=None, copy=None):
        self._fail("array")
        return np.zeros((4, 3), int)


def objects(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


ENDLESS = [1]
ENDLESS[0] = ENDLESS
BAD_TEXT = np.array([65, 0x110000, 66, 67], "<u4").view("<U1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": Broken("array")}, r"images cannot become a NumPy array \(array\): pass equal rows"),
        ({"images": [[10**400, 1.5]] * 4}, r"images (cannot become a NumPy array|must be real numbers)"),
        ({"images": [[10**400, 1]] * 4}, r"images must be real numbers, got object"),
        ({"images": ENDLESS}, r"images"),
        ({"images": (row for row in range(4))}, r"must be \(samples, features\).*got shape \(\)"),
        ({"images": np.zeros((4, 3), "datetime64[s]")}, r"real numbers, got datetime64"),
        ({"images": np.zeros((4, 3), "timedelta64[s]")}, r"real numbers, got timedelta64"),
        ({"images": np.zeros(4, [("a", "f4"), ("b", "f4")])}, r"got shape \(4,\)"),
        ({"images": np.zeros((4, 3), [("a", "f4")])}, r"real numbers, got \[\('a'"),
        ({"images": np.array(5)}, r"got shape \(\)"),
        ({"images": None}, r"got shape \(\)"),
        ({"images": {"a": 1}}, r"got shape \(\)"),
        (
            {"images": np.ma.masked_equal(np.arange(12).reshape(4, 3), 7)},
            r"images must have all their values, got 1 that",
        ),
        (
            {"labels": np.ma.masked_equal(LABELS, 1)},
            r"labels must have all their values, got 2 that are masked",
        ),
        ({"labels": 5}, r"one dimension \(samples,\), got shape \(\)"),
        ({"labels": None}, r"one dimension \(samples,\), got shape \(\)"),
        ({"labels": ENDLESS}, r"labels"),
        ({"labels": Broken("array")}, r"labels cannot become a NumPy array \(array\): pass one label a row"),
        ({"labels": np.zeros(4, "timedelta64[s]")}, r"whole numbers or strings, got timedelta64"),
        ({"labels": np.zeros(4, [("a", "f4")])}, r"whole numbers or strings, got \[\('a'"),
        ({"labels": objects(Broken("hash"), 1, 2, 3)}, r"hashable and present, got broken at row 0"),
        ({"labels": objects(1, Broken("eq"), 2, 3)}, r"hashable and present, got broken at row 1"),
        ({"labels": objects(1, Broken("eq", "str"), 2, 3)}, r"hashable and present, got a Broken at row 1"),
        ({"labels": objects(1, Broken("str"), 2, 3)}, r"labels must have a name, got a Broken without \(str\)"),
        ({"labels": objects(1, 10**5000, 2, 3)}, r"labels must have a name, got a int without \("),
        (
            {"labels": np.array([b"a", b"\xff", b"b", b"\xfe"])},
            r"labels must be in UTF-8, got b'\\xff' at row 1: decode",
        ),
        ({"labels": BAD_TEXT}, r"labels must be text in each character, got a number at row 1"),
        (
            {"labels": BAD_TEXT.astype(BAD_TEXT.dtype.newbyteorder(">"))},
            r"text in each character, got a number at row 1",
        ),
        ({"labels": ["a", "b\x1b[2J", "a", "c"]}, r"class names must be plain text in one line, got 'b\\x1b\[2J'"),
        ({"labels": ["a", "b\nc", "a", "c"]}, r"class names must be plain text in one line, got 'b\\nc'"),
        ({"labels": ["a", "\ud800", "a", "c"]}, r"class names must be plain text in one line, got '\\ud800'"),
        ({"class_names": ["a", "\x07"]}, r"class names must be plain text in one line, got '\\x07'"),
    ],
)
def test_what_is_no_data_is_named_whatever_it_is(change, message):
    with pytest.raises(DataError, match=message):
        from_arrays(**{"images": np.arange(12).reshape(4, 3), "labels": LABELS} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": 5}, r"class_names must be a sequence of names, got int: pass a list"),
        ({"class_names": {"a", "b"}}, r"class_names must be in order, got a set: pass a list"),
        ({"class_names": {0: "a", 1: "b"}}, r"class_names must be in order, got a dict: pass a list"),
        ({"test_fraction": "0.2"}, r"test_fraction must be in \(0, 1\), got '0\.2'"),
        ({"image_shape": (2, 2)}, r"image_shape must have the product 3, the features, got \(2, 2\)"),
        ({"drop": ("a",)}, r"drop names columns of a frame, got an array without names: pass a frame"),
        ({"test_fraction": [0.2]}, r"test_fraction must be in \(0, 1\), got \[0\.2\]"),
        ({"test_fraction": NAN}, r"test_fraction must be in \(0, 1\), got nan"),
        ({"seed": "0"}, r"seed must be a whole number >= 0"),
        ({"seed": 0.5}, r"seed must be a whole number >= 0"),
        ({"seed": None}, r"seed must be a whole number >= 0"),
        ({"seed": -1}, r"seed must be a whole number >= 0"),
    ],
)
def test_options_that_are_none_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        make(**{"test_images": None, "test_labels": None} | change)


def test_what_has_no_masked_value_is_taken():
    images, labels = np.ma.masked_equal(np.arange(12).reshape(4, 3), 99), np.ma.array(LABELS)
    data = from_arrays(images, labels, test_images=Broken(), test_labels=LABELS)  # any library's array
    np.testing.assert_array_equal(data.train.images, np.arange(12).reshape(4, 3))
    assert data.train.labels.tolist() == LABELS
    assert data.test.images.tolist() == [[0] * 3] * 4


def test_labels_of_many_bytes_are_characters():
    data = make(labels=np.array(["日本", "a", "日本", "𝄞"], ">U2"))
    assert data.class_names == ("a", "日本", "𝄞")
    assert data.train.labels.tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize("shape", [(6, 1, 5, 4), (6, 5, 4, 1)])
def test_an_axis_of_one_channel_is_left_out(shape):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    labels = np.arange(6) % 2
    data = from_arrays(images, labels, test_fraction=None)
    assert data.image_shape == (5, 4)
    np.testing.assert_array_equal(data.train.images, images.reshape(6, 20))
    nets = []
    for rows in (data.train, nn.Batches(lambda _: [(images, labels)])):
        net = nn.MLP([20, 2], backend="numpy", seed=0)
        nn.train(net, rows, optimizer=nn.SGD(0.5), epochs=2, batch_size=None if not nets else 6, shuffle=False)
        nets.append(net)
    probabilities = nets[0].predict_proba(images.reshape(6, 20))
    np.testing.assert_array_equal(nets[0].predict_proba(images), probabilities)
    np.testing.assert_allclose(nets[1].predict_proba(images), probabilities, rtol=1e-5)
    with pytest.raises(DataError, match="images must be grey"):
        nets[0].predict(np.zeros((2, 3, 5, 4)))


def test_labels_of_one_column_are_labels(tmp_path):
    column = np.array(LABELS)[:, None]  # (samples, 1)
    assert make(labels=column).train.labels.tolist() == LABELS
    np.savez(tmp_path / "a.npz", x_train=np.eye(4), y_train=column, x_test=np.eye(4), y_test=column)
    data = nn.load_dataset(tmp_path / "a.npz")
    assert data.train.labels.tolist() == data.test.labels.tolist() == LABELS

"""Names and paths of data sets, the digits, and what an import loads."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from xpnn.backends.errors import ConfigError, DataError, MissingDependency
from xpnn.nn.datasets import load_dataset, split_places
from xpnn.nn.datasets.load import NAMED, PIXELS


def test_the_digits():
    sklearn_datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    data = load_dataset("digits")
    assert data.train.images.shape == (1438, 64)
    assert data.test.images.shape == (359, 64)
    assert data.train.images.dtype == np.uint8
    assert (data.name, data.scale, data.image_shape) == ("digits", 1 / 16, (8, 8))
    assert data.class_names == tuple("0123456789")
    bunch = sklearn_datasets.load_digits()
    np.testing.assert_array_equal(
        np.bincount(data.test.labels), np.floor(np.bincount(bunch.target) * 0.2 + 0.5).astype(int)
    )
    given = sorted((*row, label) for row, label in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True))
    got = sorted(
        (*row, label)
        for part in (data.train, data.test)
        for row, label in zip(part.images.tolist(), part.labels.tolist(), strict=True)
    )
    assert got == given


def test_the_digits_are_always_split_alike():
    pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    first, second = load_dataset("digits"), load_dataset("digits", seed=5, test_fraction=0.5)
    np.testing.assert_array_equal(first.test.images, second.test.images)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)
    images = np.concatenate([first.train.images, first.test.images])
    assert images.sum() == 561718
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    _, test = split_places(bunch.target, test_fraction=0.2, seed=0, stratify=True)
    np.testing.assert_array_equal(first.test.images, bunch.data[test])


def test_without_sklearn_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependency, match=r'pip install "xpnn\[cli\]"$'):
        load_dataset("digits")


def test_the_names():
    assert list(NAMED) == ["mnist", "fashion-mnist", "digits"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mnst", "mnist"),
        ("MNIST", "mnist"),
        ("fashion_mnist", "fashion-mnist"),
        ("Fashion", "fashion-mnist"),
        ("digit", "digits"),
        ("load_digits", "digits"),
    ],
)
def test_an_unknown_name_gets_the_names_and_the_nearest(name, nearest):
    with pytest.raises(ConfigError) as caught:
        load_dataset(name)
    said = f"unknown data set {name!r} (did you mean {nearest!r}?): the names are mnist, fashion-mnist, digits"
    assert said in str(caught.value)


def test_a_name_like_nothing_still_gets_an_answer():
    with pytest.raises(ConfigError, match="unknown data set 'zzz'"):
        load_dataset("zzz")
    with pytest.raises(ConfigError, match="unknown data set ''"):
        load_dataset("")


@pytest.mark.parametrize("source", ["nowhere.npz", "nowhere.csv", "./nowhere", "data/nowhere"])
def test_a_path_to_nothing_is_refused_as_a_path(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"nowhere.* is neither a file nor a folder"):
        load_dataset(source)


def test_a_path_object_is_never_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="'mnist' is neither a file nor a folder"):
        load_dataset((tmp_path / "mnist").relative_to(tmp_path))


def test_the_rows_of_the_digits_are_what_is_said_of_them():
    assert replace(load_dataset("digits").inputs, class_names=()) == PIXELS["digits"]


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "table.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"must be \.npz or one of \.csv, .*, got .*table\.xlsx: convert"):
        load_dataset(path)


def test_the_case_of_a_suffix_does_not_matter(tmp_path):
    (tmp_path / "a.CSV").write_text("label,x\n0,1\n1,2\n0,3\n1,4\n")
    assert load_dataset(tmp_path / "a.CSV").features == 1


def test_an_import_loads_no_optional_package():
    code = (
        "import sys, xpnn.nn.datasets\n"
        "print(sorted({'sklearn', 'ssl', 'matplotlib', 'scipy', 'numba', 'cupy', 'requests'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("a" * 300 + ".csv", DataError, "is neither a file nor a folder"),
        ("~nosuchuser/rows.csv", DataError, "is neither a file nor a folder"),
        ("rows\0.csv", DataError, "is neither a file nor a folder"),
        (5, ConfigError, r"a data set must be a name or a path, got 5; for arrays: nn.from_arrays"),
        (np.zeros((2, 2)), ConfigError, "a data set must be a name or a path"),
        (None, ConfigError, "a data set must be a name or a path"),
    ],
)
def test_what_cannot_be_a_path(source, error, message):
    with pytest.raises(error, match=message):
        load_dataset(source)


@pytest.mark.parametrize("folder", ["a" * 300, "~nosuchuser", "zero\0byte"])
def test_what_cannot_be_a_folder(folder):
    with pytest.raises(DataError, match="must name a folder"):
        load_dataset("mnist", data_dir=folder)

"""MNIST, Fashion-MNIST and other folders of four IDX files, from local folders."""

import gzip
import hashlib
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from xpnn.backends.errors import DataError
from xpnn.nn.datasets import load_dataset, mnist
from xpnn.nn.datasets.load import PIXELS
from xpnn.nn.datasets.mnist import FASHION_MNIST, MNIST, SOURCES, find_local, load_source

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

REAL = os.environ.get("XPNN_DATA")


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch):
    """No folder from the environment, and no network."""
    monkeypatch.delenv("XPNN_DATA", raising=False)

    def no_network(*_, **__):
        raise DataError("train-images could not be downloaded (no network)")

    monkeypatch.setattr(mnist, "fetch", no_network)


def idx_bytes(values):
    code = {1: 0x08, 4: 0x0C}[values.itemsize]
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def fill(folder, *, seed=0, gz=True, dotted=False, test_labels=range(10), skip=(), **changes):
    """Write four small files: 20 training and 10 test images of 5 x 4."""
    rng = np.random.default_rng(seed)
    arrays = {
        STEMS[0]: rng.integers(0, 256, (20, 5, 4)).astype(np.uint8),
        STEMS[1]: (np.arange(20) % 10).astype(np.uint8),
        STEMS[2]: rng.integers(0, 256, (10, 5, 4)).astype(np.uint8),
        STEMS[3]: np.array(test_labels, np.uint8),
    } | {STEMS[int(key[-1])]: value for key, value in changes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for number, (stem, values) in enumerate(arrays.items()):
        name = stem.replace("-idx", ".idx") if dotted else stem
        if number not in skip:
            data = idx_bytes(values)
            (folder / (name + ".gz" if gz else name)).write_bytes(gzip.compress(data) if gz else data)
    return list(arrays.values())


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
@pytest.mark.parametrize("inside", ["", "mnist"])
def test_all_names_of_the_files(tmp_path, gz, dotted, inside):
    arrays = fill(tmp_path / inside, gz=gz, dotted=dotted)
    data = load_dataset("mnist", data_dir=str(tmp_path))
    np.testing.assert_array_equal(data.train.images, arrays[0].reshape(20, 20))
    np.testing.assert_array_equal(data.train.labels, arrays[1])
    np.testing.assert_array_equal(data.test.images, arrays[2].reshape(10, 20))
    np.testing.assert_array_equal(data.test.labels, arrays[3])
    assert data.train.images.dtype == np.uint8
    assert (data.name, data.image_shape, data.scale) == ("mnist", (5, 4), 1 / 255)
    assert data.class_names == tuple("0123456789")


def test_data_dir_comes_before_the_environment(tmp_path, monkeypatch):
    first, second = fill(tmp_path / "a" / "mnist", seed=1), fill(tmp_path / "b", seed=2)
    monkeypatch.setenv("XPNN_DATA", str(tmp_path / "b"))
    np.testing.assert_array_equal(load_dataset("mnist").train.images, second[0].reshape(20, 20))
    np.testing.assert_array_equal(load_dataset("mnist", data_dir=tmp_path / "a").train.images, first[0].reshape(20, 20))


def test_the_environment_leads_to_the_files(tmp_path, monkeypatch):
    arrays = fill(tmp_path / "full" / "fashion-mnist")
    monkeypatch.setenv("XPNN_DATA", str(tmp_path / "full"))
    data = load_dataset("fashion-mnist")
    np.testing.assert_array_equal(data.train.images, arrays[0].reshape(20, 20))
    assert data.name == "fashion-mnist"
    assert data.class_names[0] == "T-shirt/top"
    assert data.class_names[9] == "Ankle boot"
    assert data.num_classes == 10


@pytest.mark.parametrize(
    ("inside", "labels", "found"),
    [
        (None, (), "none of them"),
        ("", FASHION_MNIST.first_labels, "fashion-mnist in {folder}"),
        ("mnist", FASHION_MNIST.first_labels, "fashion-mnist in {folder}{sep}mnist"),
        ("fashion-mnist", range(10), "another data set in {folder}{sep}fashion-mnist"),
    ],
)
def test_a_data_dir_without_the_data_set_is_never_passed_over(tmp_path, monkeypatch, inside, labels, found):
    fill(tmp_path / "full" / "mnist")
    monkeypatch.setenv("XPNN_DATA", str(tmp_path / "full"))
    folder = tmp_path / "given"
    folder.mkdir()
    if inside is not None:
        fill(folder / inside, test_labels=labels)
    with pytest.raises(DataError) as caught:
        load_dataset("mnist", data_dir=folder)
    assert f"{folder} must hold mnist, got {found.format(folder=folder, sep=os.sep)}: name the folder with" in str(
        caught.value
    )
    assert len(load_dataset("mnist").train) == 20


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    fill(tmp_path / "sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(load_dataset("mnist", data_dir="~/sets").train) == 20
    assert len(load_dataset("~/sets").train) == 20


def test_the_folder_of_the_other_data_set_is_passed_by(tmp_path, monkeypatch):
    monkeypatch.setenv("XPNN_DATA", str(tmp_path))
    fill(tmp_path, gz=False, test_labels=MNIST.first_labels)
    assert find_local(FASHION_MNIST) is None
    assert find_local(MNIST) == [tmp_path / stem for stem in STEMS]
    fill(tmp_path, gz=False, test_labels=[*MNIST.first_labels, 0, 6])
    assert find_local(FASHION_MNIST) is None
    fill(tmp_path / "fashion-mnist", test_labels=FASHION_MNIST.first_labels)
    assert find_local(FASHION_MNIST)[0].parent == tmp_path / "fashion-mnist"
    assert find_local(FASHION_MNIST, tmp_path)[0].parent == tmp_path / "fashion-mnist"
    fill(tmp_path, gz=False, test_labels=FASHION_MNIST.first_labels)
    assert find_local(MNIST) is None


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_folder_is_loaded_as_what_it_holds(tmp_path, source):
    fill(tmp_path / "sets", test_labels=source.first_labels)
    data = load_dataset(tmp_path / "sets")
    assert (data.name, data.class_names) == (source.name, source.class_names)


def test_a_parent_folder_by_itself_is_refused_and_its_folders_are_named(tmp_path):
    fill(tmp_path / "mnist", test_labels=MNIST.first_labels)
    fill(tmp_path / "fashion-mnist", test_labels=FASHION_MNIST.first_labels)
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    places = f"got mnist in {tmp_path / 'mnist'} and fashion-mnist in {tmp_path / 'fashion-mnist'}: name the folder"
    assert places in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_without_files_and_network_the_way_out_is_named(name):
    with pytest.raises(DataError) as caught:
        load_dataset(name)
    text = str(caught.value)
    for part in (f"{name} is in no local folder", "(no network)", *STEMS, f"folder {name}", "XPNN_DATA or --data"):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize("skipped", range(4))
def test_some_of_the_four_files_are_not_enough(tmp_path, skipped):
    fill(tmp_path, skip=[skipped])
    with pytest.raises(DataError, match=f"must hold all four IDX files, got no {STEMS[skipped]}: add"):
        load_dataset("mnist", data_dir=tmp_path)
    with pytest.raises(DataError, match=f"must hold all four IDX files, got no {STEMS[skipped]}: add"):
        load_dataset(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"data_dir \(--data\) must name a folder, got .*nowhere"):
        load_dataset("mnist", data_dir=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data_dir \(--data\) must name a folder, got ''"):
        load_dataset("mnist", data_dir="")
    monkeypatch.setenv("XPNN_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"XPNN_DATA must name a folder, got .*gone"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part1": np.zeros(19, np.uint8)}, "labels must be as many as the images, got 19 for 20 images"),
        ({"part3": np.zeros(11, np.uint8)}, "test_labels must be as many as the images, got 11 for 10 images"),
        ({"part2": np.zeros((10, 4, 5), np.uint8)}, r"same features, got shapes \(20, 5, 4\) and \(10, 4, 5\)"),
        ({"part1": (np.arange(20) + 1).astype(np.uint8)}, r"labels must be in \[0, 10\), got 10 at row 9"),
        ({"part0": np.zeros(20, np.uint8)}, r"images must be \(samples, features\)"),
        ({"part1": np.zeros((20, 2), np.uint8)}, "labels must have one dimension"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, changes, message):
    fill(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("mnist", data_dir=tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")


def test_a_folder_of_ones_own(tmp_path):
    arrays = fill(tmp_path / "letters", part1=(np.arange(20) % 3 * 5).astype(np.uint8), part3=np.full(10, 5, np.uint8))
    data = load_dataset(tmp_path / "letters")
    assert (data.name, data.class_names) == ("letters", ("0", "5", "10"))
    assert data.train.labels.tolist() == [0, 1, 2] * 6 + [0, 1]
    assert data.test.labels.tolist() == [1] * 10
    np.testing.assert_array_equal(data.test.images, arrays[2].reshape(10, 20))


def fill_named(folder, names, arrays):
    """Write four small files under names of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip(names, arrays, strict=True):
        data = idx_bytes(values)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def emnist_names(split, suffix=".gz"):
    kinds = ("images-idx3", "labels-idx1")
    return [f"emnist-{split}-{part}-{kind}-ubyte{suffix}" for part in ("train", "test") for kind in kinds]


def small_arrays(labels, test_labels):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (len(each), 5, 4)).astype(np.uint8) for each in (labels, test_labels)]
    return [images[0], np.array(labels, np.uint8), images[1], np.array(test_labels, np.uint8)]


@pytest.mark.parametrize(
    ("split", "labels", "classes", "num_classes", "named"),
    [
        ("letters", [1, 26, 5], [0, 25, 4], 26, "AZE"),
        ("balanced", [0, 10, 46], [0, 10, 46], 47, "0At"),
        ("bymerge", [9, 36, 37], [9, 36, 37], 47, "9ab"),
        ("byclass", [35, 36, 61], [35, 36, 61], 62, "Zaz"),
        ("digits", [0, 9, 5], [0, 9, 5], 10, "095"),
        ("mnist", [0, 9, 5], [0, 9, 5], 10, "095"),
        ("kanji", [7, 9, 5], [1, 2, 0], 3, "795"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_emnist_is_upright_and_called_by_its_characters(tmp_path, split, labels, classes, num_classes, named, suffix):
    arrays = small_arrays(labels, labels[:2])
    fill_named(tmp_path, emnist_names(split, suffix), arrays)
    data = load_dataset(tmp_path)
    assert (data.name, data.num_classes, data.image_shape) == (f"emnist-{split}", num_classes, (4, 5))
    assert data.train.labels.tolist() == classes
    assert "".join(data.class_names[k] for k in classes) == named
    assert data.train.images[0].reshape(4, 5).tolist() == arrays[0][0].T.tolist()
    assert data.test.images[1].reshape(4, 5).tolist() == arrays[2][1].T.tolist()
    assert data.scale == 1 / 255


@pytest.mark.parametrize(
    ("label", "message"), [(0, r"labels in \[1, 26\], got 0"), (27, r"labels in \[1, 26\], got 27")]
)
def test_a_label_that_is_no_letter_is_refused(tmp_path, label, message):
    fill_named(tmp_path, emnist_names("letters"), small_arrays([1, 2], [1, label]))
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(tmp_path)
    assert "emnist-letters-test-labels-idx1-ubyte.gz" in str(caught.value)


def test_emnist_must_have_images(tmp_path):
    arrays = small_arrays([1, 2], [1, 2])
    fill_named(tmp_path, emnist_names("letters"), [arrays[0].reshape(2, 20), *arrays[1:]])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz must have three dimensions, got shape \(2, 20\)"):
        load_dataset(tmp_path)


QMNIST = [f"qmnist-{part}-{kind}.gz" for part in ("train", "test") for kind in ("images-idx3-ubyte", "labels-idx2-int")]


def nist_labels(classes):
    labels = np.full((len(classes), 8), 1000, np.int32)  # (samples, 8)
    labels[:, 0] = classes
    return labels


def test_qmnist_s_classes_are_the_first_of_eight_numbers(tmp_path):
    images, classes, test_images, test_classes = small_arrays([5, 0, 4], [0, 5])
    fill_named(tmp_path, QMNIST, [images, nist_labels(classes), test_images, nist_labels(test_classes)])
    data = load_dataset(tmp_path)
    assert (data.name, data.class_names) == ("qmnist", ("0", "4", "5"))
    assert data.train.labels.tolist() == [2, 0, 1]
    assert data.test.labels.tolist() == [0, 2]
    np.testing.assert_array_equal(data.train.images, images.reshape(3, 20))
    fill_named(tmp_path, QMNIST, [images, nist_labels(classes)[:, :7], test_images, nist_labels(test_classes)])
    with pytest.raises(DataError, match=r"labels-idx2-int.gz must have shape \(samples, 8\), got \(3, 7\)"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("test", ["t10k", "test"])
@pytest.mark.parametrize("prefix", ["", "kmnist-"])
def test_either_name_of_the_test_files(tmp_path, test, prefix):
    arrays = small_arrays([5, 0, 4], [0, 5])
    fill_named(tmp_path / "own", [prefix + stem.replace("t10k", test) for stem in STEMS], arrays)
    data = load_dataset(tmp_path / "own")
    assert data.name == ("kmnist" if prefix else "own")
    np.testing.assert_array_equal(data.test.images, arrays[2].reshape(2, 20))


def test_a_prefix_names_the_data_set(tmp_path):
    fill_named(tmp_path, [f"fashion-mnist-{stem}" for stem in STEMS], small_arrays([0, 9], [9, 0]))
    assert load_dataset("fashion-mnist", data_dir=tmp_path).class_names[9] == "Ankle boot"
    assert load_dataset(tmp_path).class_names[9] == "Ankle boot"
    with pytest.raises(DataError, match="must hold mnist, got fashion-mnist in"):
        load_dataset("mnist", data_dir=tmp_path)


def test_of_several_data_sets_in_a_folder_one_is_named_by_a_file(tmp_path):
    fill_named(tmp_path, emnist_names("letters"), small_arrays([1, 2], [2, 1]))
    fill_named(tmp_path, emnist_names("digits"), small_arrays([1, 2, 3], [3, 1]))
    with pytest.raises(DataError, match=r"must hold one data set, got 2, with the files emnist-digits-\S+, emnist-le"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match=r"must hold mnist, got emnist-digits in .* and emnist-letters in"):
        load_dataset("mnist", data_dir=tmp_path)
    assert load_dataset(tmp_path / emnist_names("letters")[3]).name == "emnist-letters"
    assert len(load_dataset(tmp_path / emnist_names("digits")[0]).train) == 3
    fill(tmp_path)
    assert load_dataset("mnist", data_dir=tmp_path).name == "mnist"
    (tmp_path / emnist_names("letters")[3]).unlink()
    with pytest.raises(DataError, match="all four IDX files, got no emnist-letters-test-labels-idx1-ubyte: add"):
        load_dataset(tmp_path / emnist_names("letters")[0])


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must hold the four IDX files train-images.* got none of them"):
        load_dataset(tmp_path)


def test_the_shipped_table():
    assert [source.name for source in SOURCES] == ["mnist", "fashion-mnist"]
    for source in SOURCES:
        assert len(source.mirrors) == 2
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in source.mirrors)
        assert list(source.sha256) == [f"{stem}.gz" for stem in STEMS]
        assert all(len(digest) == 64 and int(digest, 16) for digest in source.sha256.values())
        assert len(source.class_names) == len(source.first_labels) == 10
    assert MNIST.first_labels == (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)
    assert FASHION_MNIST.first_labels == (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)
    assert not set(MNIST.sha256.values()) & set(FASHION_MNIST.sha256.values())


@pytest.fixture
def real_folder():
    """Return the folder of the real MNIST files, by XPNN_DATA as it was before this module cleared it."""
    if not REAL or find_local(MNIST, REAL) is None:
        pytest.skip("needs the MNIST files: set XPNN_DATA to their folder")
    return Path(REAL)


def test_the_real_mnist(real_folder):
    data = load_source(MNIST, data_dir=real_folder)
    assert data.train.images.shape == (60000, 784)
    assert data.test.images.shape == (10000, 784)
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert tuple(data.test.labels[:10]) == MNIST.first_labels
    assert np.bincount(data.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.train.images.mean() * data.scale == pytest.approx(0.1306604762738429)
    assert (data.image_shape, data.scale) == ((28, 28), 1 / 255)
    assert replace(data.inputs, class_names=()) == PIXELS["mnist"]


def test_the_sums_are_those_of_the_real_files(real_folder):
    for path in find_local(MNIST, real_folder):
        if path.suffix != ".gz":
            pytest.skip("needs the MNIST files as they are downloaded, with .gz")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == MNIST.sha256[path.name]

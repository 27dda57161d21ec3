"""A user's .npz and .csv files."""

import io
import zipfile

import numpy as np
import pytest
from xpnn.backends.errors import ConfigError, DataError
from xpnn.nn.datasets import load_dataset
from xpnn.nn.datasets.table import load_npz

IMAGES = np.arange(160).reshape(10, 16)
LABELS = np.arange(10) % 2


def save(tmp_path, **arrays):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return path


def csv(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "mine.csv"
    path.write_bytes(text.encode(encoding))
    return path


def all_rows(data):
    """Both parts together, sorted by the first feature: images (samples, features), labels (samples,)."""
    images = np.concatenate([data.train.images, data.test.images])
    labels = np.concatenate([data.train.labels, data.test.labels])
    order = np.argsort(images[:, 0])
    return images[order], labels[order]


@pytest.mark.parametrize(
    "names",
    [("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test")],
)
def test_npz_with_a_test_part(tmp_path, names):
    arrays = (IMAGES[:7].reshape(7, 2, 8), LABELS[:7], IMAGES[7:].reshape(3, 2, 8), LABELS[7:])
    data = load_npz(save(tmp_path, **dict(zip(names, arrays, strict=True))))
    np.testing.assert_array_equal(data.train.images, IMAGES[:7])
    np.testing.assert_array_equal(data.train.labels, LABELS[:7])
    np.testing.assert_array_equal(data.test.images, IMAGES[7:])
    np.testing.assert_array_equal(data.test.labels, LABELS[7:])
    assert data.train.images.dtype == np.uint8
    assert (data.name, data.image_shape, data.scale) == ("mine", (2, 8), 1 / 111)


@pytest.mark.parametrize("names", [("images", "labels"), ("X", "y")])
def test_npz_without_a_test_part(tmp_path, names):
    path = save(tmp_path, **dict(zip(names, (IMAGES, LABELS), strict=True)), more=np.zeros(3))
    data = load_npz(path, test_fraction=0.4, seed=1, stratify=True, pixels=True)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    images, labels = all_rows(data)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert data.image_shape == (4, 4)
    other = load_npz(path, test_fraction=0.4, seed=2, stratify=True)
    assert not np.array_equal(data.test.images, other.test.images)


def test_npz_rows_of_integers_are_a_table(tmp_path):
    data = load_npz(save(tmp_path, images=IMAGES * 2, labels=np.array(list("abababccab"))))
    assert data.train.images.dtype == np.float64
    assert data.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(all_rows(data)[0], IMAGES * 2)


@pytest.mark.parametrize("arrays", [{}, {"images": IMAGES}, {"train_images": IMAGES, "train_labels": LABELS}])
def test_npz_without_the_arrays_says_what_it_has(tmp_path, arrays):
    found = ", ".join(arrays) or "no arrays"
    with pytest.raises(DataError, match=rf"must hold train_images.* or images, labels or X, y, got '{found}': rename"):
        load_npz(save(tmp_path, **arrays))


def test_npz_with_objects_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = save(tmp_path, images=IMAGES, labels=np.array([Trap()] * 10, object))
    with pytest.raises(DataError, match=r"labels holds Python objects, which are never unpickled"):
        load_npz(path)


def test_npz_that_is_something_else(tmp_path):
    path = tmp_path / "a.npz"
    member = io.BytesIO()
    np.save(member, IMAGES)
    good = save(tmp_path, images=IMAGES, labels=LABELS).read_bytes()
    for content in (b"", b"text", member.getvalue(), good[:200], good[:-30], b"\x80\x04N."):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz is not a readable \.npz"):
            load_npz(path)


def test_npz_with_a_member_that_is_no_array(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", b"text")
        archive.writestr("labels", b"text")
    with pytest.raises(DataError, match=r"a\.npz"):
        load_npz(path)


def test_npz_damaged_inside(tmp_path):
    path = save(tmp_path, images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"not a readable .npz .*CRC"):
        load_npz(path)


def test_npz_damaged_at_random_never_raises_anything_else(tmp_path):
    rng = np.random.default_rng(2)
    content = save(tmp_path, images=IMAGES.astype(np.uint8), labels=LABELS.astype(np.uint8)).read_bytes()
    path = tmp_path / "damaged.npz"
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        try:
            images, labels = all_rows(load_npz(path))
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(images, IMAGES)
            np.testing.assert_array_equal(labels, LABELS)
    assert refused > 100


def test_npz_that_promises_more_memory_than_there_is(tmp_path):
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, %d), }" % (2**31, 2**31)
    header += len(text).to_bytes(2, "little") + text
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header)
        archive.writestr("labels.npy", header)
    with pytest.raises(DataError, match=r"images: the header promises \(2147483648, 2147483648\) .* got 0 bytes"):
        load_npz(path)


def test_errors_of_the_arrays_name_the_file(tmp_path):
    with pytest.raises(DataError, match=r"mine\.npz: labels must be as many as the images, got 9 for 10"):
        load_npz(save(tmp_path, images=IMAGES, labels=LABELS[:9]))


@pytest.mark.parametrize("place", [0, 1, 3])
def test_csv_with_the_label_anywhere(tmp_path, place):
    cells = [["a", "b", "c"], *[[str(3 * row + column) for column in range(3)] for row in range(10)]]
    for row, label in zip(cells, ["label", *"7373737373"], strict=True):
        row.insert(place, label)
    data = load_dataset(csv(tmp_path, "\n".join(",".join(row) for row in cells)))
    images, labels = all_rows(data)
    np.testing.assert_array_equal(images, np.arange(30).reshape(10, 3))
    assert labels.tolist() == [1, 0] * 5
    assert [column.name for column in data.inputs.columns] == ["a", "b", "c"]
    assert (data.class_names, data.image_shape, data.name) == (("3", "7"), None, "mine")
    assert (len(data.train), len(data.test), data.inputs.label) == (8, 2, "label")


def test_csv_as_kaggle_writes_it(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 784))
    labels = np.arange(30) % 10
    header = "label," + ",".join(f"pixel{number}" for number in range(784))
    lines = [",".join(map(str, [label, *row])) for label, row in zip(labels, pixels.tolist(), strict=True)]
    path = csv(tmp_path, "\r\n".join([header, *lines]) + "\r\n")
    data = load_dataset(path, stratify=True, test_fraction=0.3)
    assert data.train.images.dtype == np.uint8
    assert data.class_names == tuple("0123456789")
    assert (data.scale, data.image_shape, len(data.test)) == (1 / 255, (28, 28), 10)
    assert np.bincount(data.test.labels).tolist() == [1] * 10
    images, numbers = all_rows(data)
    number_of = {tuple(row): label for row, label in zip(pixels.tolist(), labels.tolist(), strict=True)}
    assert [number_of[tuple(row)] for row in images.tolist()] == numbers.tolist()
    assert len(set(map(tuple, images.tolist()))) == 30


def test_csv_with_words_quotes_blanks_and_a_byte_order_mark(tmp_path):
    text = 'size,"kind",hue\n1.5,"cat, small",-2\n2.5,dog,1e3\n3.5,"cat, small",0\n4.5,dog,7\n'
    data = load_dataset(csv(tmp_path, text, "utf-8-sig"), label_column="kind", test_fraction=0.5)
    images, labels = all_rows(data)
    np.testing.assert_array_equal(images, [[1.5, -2], [2.5, 1000], [3.5, 0], [4.5, 7]])
    assert labels.tolist() == [0, 1, 0, 1]
    assert data.class_names == ("cat, small", "dog")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "10", "-1"], ("-1", "9", "10")),
        (["10.0", "9.0", "10", "9"], ("9", "10")),
        (["10", "9", "x", "9"], ("10", "9", "x")),
    ],
)
def test_csv_labels_are_numbers_where_all_of_them_are(tmp_path, labels, names):
    rows = "\n".join(f"{number},{label}" for number, label in enumerate(labels))
    assert load_dataset(csv(tmp_path, f"a,label\n{rows}\n")).class_names == names


def test_the_split_without_options(tmp_path):
    order = np.random.default_rng(0).permutation(20)
    path = csv(tmp_path, "label,a\n" + "".join(f"{row % 2},{row + 5}\n" for row in range(20)))
    data = load_dataset(path)
    assert data.test.images[:, 0].tolist() == (order[:4] + 5).tolist()
    assert data.train.images[:, 0].tolist() == (order[4:] + 5).tolist()
    path = save(tmp_path, images=np.arange(20).reshape(20, 1), labels=np.arange(20) % 2)
    for data in (load_npz(path), load_dataset(path)):
        assert data.test.images[:, 0].tolist() == order[:4].tolist()


def test_options_reach_the_files_through_load_dataset(tmp_path):
    path = csv(tmp_path, "kind,a\n" + "".join(f"{row % 2},{row + 5}\n" for row in range(20)))
    data = load_dataset(path, label_column="kind", test_fraction=0.3, seed=4, stratify=True)
    assert np.bincount(data.test.labels).tolist() == [3, 3]
    same = load_dataset(path, label_column="kind", test_fraction=0.3, seed=4, stratify=True)
    np.testing.assert_array_equal(data.test.images, same.test.images)
    other = load_dataset(path, label_column="kind", test_fraction=0.3, seed=5, stratify=True)
    assert not np.array_equal(data.test.images, other.test.images)

    path = save(tmp_path, images=IMAGES, labels=LABELS)
    data = load_dataset(str(path), test_fraction=0.4, seed=4, stratify=True)
    same = load_npz(path, test_fraction=0.4, seed=4, stratify=True)
    np.testing.assert_array_equal(data.test.images, same.test.images)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    with pytest.raises(ConfigError, match="test_fraction"):
        load_dataset(path, test_fraction=2)

"""A user's .npz and .csv files."""

import io
import os
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from xpnn.backends.errors import ConfigError, DataError
from xpnn.nn.datasets import load_dataset
from xpnn.nn.datasets.table import load_csv, load_npz

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
    data = load_csv(csv(tmp_path, "\n".join(",".join(row) for row in cells)))
    images, labels = all_rows(data)
    np.testing.assert_array_equal(images, np.arange(30).reshape(10, 3))
    assert labels.tolist() == [1, 0] * 5
    assert images.dtype == np.uint8
    assert (data.class_names, data.image_shape, data.name) == (("3", "7"), None, "mine")
    assert (len(data.train), len(data.test)) == (8, 2)


def test_csv_as_kaggle_writes_it(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 784))
    labels = np.arange(30) % 10
    header = "label," + ",".join(f"pixel{number}" for number in range(784))
    lines = [",".join(map(str, [label, *row])) for label, row in zip(labels, pixels.tolist(), strict=True)]
    path = csv(tmp_path, "\r\n".join([header, *lines]) + "\r\n")
    data = load_csv(path, stratify=True, test_fraction=0.3)
    assert data.train.images.dtype == np.uint8
    assert data.class_names == tuple("0123456789")
    assert len(data.test) == 10
    assert np.bincount(data.test.labels).tolist() == [1] * 10
    images, numbers = all_rows(data)
    order = np.argsort(pixels[:, 0])
    assert sorted(map(tuple, images.tolist())) == sorted(map(tuple, pixels[order].tolist()))
    number_of = {tuple(row): label for row, label in zip(pixels.tolist(), labels.tolist(), strict=True)}
    assert [number_of[tuple(row)] for row in images.tolist()] == numbers.tolist()


def test_csv_with_words_quotes_blanks_and_a_byte_order_mark(tmp_path):
    text = 'size, "kind" ,hue\n\n1.5,"cat, small",-2\n2.5, dog ,1e3\n\n3.5,"cat, small",0\n4.5,dog,7\n'
    data = load_csv(csv(tmp_path, text, "utf-8-sig"), label_column="kind", test_fraction=0.5)
    images, labels = all_rows(data)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, np.array([[1.5, -2], [2.5, 1000], [3.5, 0], [4.5, 7]], np.float32))
    assert labels.tolist() == [0, 1, 0, 1]
    assert data.class_names == ("cat, small", "dog")
    assert data.scale == 1.0


@pytest.mark.parametrize(
    ("cell", "dtype", "value"),
    [
        ("3.0", "uint8", 3),
        ("0.0", "uint8", 0),
        ("255.0", "uint8", 255),
        ("255", "uint8", 255),
        ("256", "float32", 256),
        ("-1", "float32", -1),
        ("0.5", "float32", 0.5),
    ],
)
def test_csv_types(tmp_path, cell, dtype, value):
    images, _ = all_rows(load_csv(csv(tmp_path, f"a,b,label\n1,{cell},x\n2,2,y\n3,3,x\n4,4,y\n")))
    assert images.dtype == np.dtype(dtype)
    assert images[0].tolist() == [1, value]


@pytest.mark.parametrize("cell", ["0.5", "300", "-1", "3e2"])
def test_csv_cells_that_are_no_bytes_survive_where_warnings_are_no_errors(tmp_path, cell):
    """NumPy 2.0 reads 0.5 as 0 and 300 as 44, with a warning that nobody sees."""
    path = csv(tmp_path, f"a,b,label\n1,{cell},x\n2,2,y\n3,3,x\n4,4,y\n")
    code = (
        "import sys; from pathlib import Path; from xpnn.nn.datasets.table import load_csv\n"
        "data = load_csv(Path(sys.argv[1]))\n"
        "print([b for part in (data.train, data.test) for a, b in part.images.tolist() if a == 1])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    command = [sys.executable, "-W", "ignore", "-c", code, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == f"[{float(cell)}]"


def test_csv_a_reader_that_only_warns_is_not_believed(tmp_path, monkeypatch):
    """As NumPy 2.0 does it, with any NumPy."""
    loadtxt = np.loadtxt

    def warning(lines, **options):
        if options["dtype"]["before"].base == np.uint8:
            warnings.warn("Parsing an integer via a float is deprecated", DeprecationWarning, stacklevel=1)
            lines = [line.replace("0.5", "0") for line in lines]
        return loadtxt(lines, **options)

    monkeypatch.setattr(np, "loadtxt", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images, _ = all_rows(load_csv(csv(tmp_path, "a,b,label\n1,0.5,x\n2,2,y\n3,3,x\n4,4,y\n")))
    assert images[:, 1].tolist() == [0.5, 2, 3, 4]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "10", "-1"], ("-1", "9", "10")),
        (["10.0", "9.0", "10", "9"], ("9", "10")),
        (["10", "9", "x", "9"], ("10", "9", "x")),
        (["nan", "x", "nan", "x"], ("nan", "x")),
    ],
)
def test_csv_labels_are_numbers_where_all_of_them_are(tmp_path, labels, names):
    rows = "\n".join(f"{number},{label}" for number, label in enumerate(labels))
    assert load_csv(csv(tmp_path, f"a,label\n{rows}\n")).class_names == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"one column 'label' in its header, got 0 in ''"),
        ("a,b\n1,2\n", r"one column 'label' in its header, got 0 in 'a, b': name the label column"),
        ("1,2,3,4,5,6\n", r"got 0 in '1, 2, 3, 4, 5, 6': name"),
        ("1,2,3,4,5,6,7\n", r"got 0 in '1, 2, 3, 4, 5, 6, \.\.\.'"),
        ("label,label,b\n1,2,3\n", r"one column 'label' in its header, got 2"),
        ("label\n1\n", r"features beside 'label', got no other column"),
        ("label,a\n", r"must hold rows below its header, got none"),
        ("label,a\n\n \n", r"must hold rows below its header, got none"),
        ("label,a,b\n1,2,3\n0,,3\n", r"features must be numbers, got '' at row 1, column 'a': fill the cell"),
        ("a,label,b\n1,2,3\n0,1,red\n", r"features must be numbers, got 'red' at row 1, column 'b'"),
        ("label,a,b\n1,2,3\n0,2\n", r"expected 3 cells in each row, got 2 at row 1: fix that line"),
        ("label,a,b\n1,2,3,4\n0,2,3\n", r"expected 3 cells in each row, got 4 at row 0"),
        ("label,a\n1,2\n0,nan\n", r"mine\.csv: features must be finite in float32, got nan at row 1, column 'a'"),
        ("label,a\n1,2\n0,1e50\n", r"features must be finite in float32, got inf at row 1, column 'a'"),
        ("label,a\n1,2\n,3\n1,2\n", r"labels must not be empty, got  at row 1"),
        (f"label,a\nx,2\n{'y' * 65},3\n", rf"at most 64 characters, got '{'y' * 20}'\.\.\. at row 1: is 'label'"),
    ],
)
def test_csv_says_what_is_wrong_and_where(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load_csv(csv(tmp_path, text))


def test_csv_labels_of_the_longest_length_are_kept(tmp_path):
    long = "y" * 64
    assert load_csv(csv(tmp_path, f"label,a\nx,2\n{long},3\nx,1\n{long},5\n")).class_names == ("x", long)


@pytest.mark.parametrize("text", ["label,a\nx,2\né,3\n", "é,label\n1,2\n"])
def test_csv_in_another_encoding_is_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"mine\.csv cannot be read .*UTF-8"):
        load_csv(csv(tmp_path, text, "latin-1"))


def test_csv_with_another_encoding_far_below_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"mine\.csv cannot be read .*UTF-8"):
        load_csv(csv(tmp_path, "label,a\n" + "x,2\n" * 50_000 + "é,3\n", "latin-1"))


def test_csv_with_an_endless_header_cell_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read .*field larger"):
        load_csv(csv(tmp_path, "a" * 200_000 + ",label\n1,2\n"))


def test_csv_that_cannot_be_opened(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_csv(tmp_path)


def test_a_message_of_the_reader_that_is_not_known_passes_through(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ValueError("something new")

    monkeypatch.setattr(np, "loadtxt", broken)
    with pytest.raises(DataError, match=r"mine\.csv is not a table of numbers: something new"):
        load_csv(csv(tmp_path, "label,a\n1,2\n"))


def test_the_split_without_options(tmp_path):
    order = np.random.default_rng(0).permutation(20)
    path = csv(tmp_path, "label,a\n" + "".join(f"{row % 2},{row}\n" for row in range(20)))
    for data in (load_csv(path), load_dataset(path)):
        assert data.test.images[:, 0].tolist() == order[:4].tolist()
        assert data.train.images[:, 0].tolist() == order[4:].tolist()
    path = save(tmp_path, images=np.arange(20).reshape(20, 1), labels=np.arange(20) % 2)
    for data in (load_npz(path), load_dataset(path)):
        assert data.test.images[:, 0].tolist() == order[:4].tolist()


def test_options_reach_the_files_through_load_dataset(tmp_path):
    path = csv(tmp_path, "kind,a\n" + "".join(f"{row % 2},{row}\n" for row in range(20)))
    data = load_dataset(path, label_column="kind", test_fraction=0.3, seed=4, stratify=True)
    assert np.bincount(data.test.labels).tolist() == [3, 3]
    same = load_csv(path, label_column="kind", test_fraction=0.3, seed=4, stratify=True)
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

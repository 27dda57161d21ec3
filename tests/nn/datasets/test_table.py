"""A user's .npz files, and tables: which column is the label, what the others are, and lines in messages."""

import gzip
import io
import zipfile

import numpy as np
import polars as pl
import pytest
from xpnn.backends.errors import ConfigError, DataError
from xpnn.nn.datasets import load_dataset
from xpnn.nn.datasets.dataset import Origin
from xpnn.nn.datasets.table import load_npz
from xpnn.nn.datasets.table_file import TableOptions
from xpnn.nn.inputs.table import Table

IMAGES = np.arange(160).reshape(10, 16)
LABELS = np.arange(10) % 2


def save(tmp_path, **arrays):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def table(tmp_path):
    """`table(text, **options)`: the data set of a text table, `mine.csv`."""

    def load(text, **options):
        path = tmp_path / "mine.csv"
        path.write_text(text, encoding="utf-8")
        return load_dataset(path, **options)

    return load


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


@pytest.mark.parametrize(("names", "shape"), [(("images", "labels"), (4, 4)), (("X", "y"), None)])
def test_npz_without_a_test_part(tmp_path, names, shape):
    """Bytes that are called images are pixels."""
    arrays = (IMAGES.astype(np.uint8), LABELS)
    path = save(tmp_path, **dict(zip(names, arrays, strict=True)), more=np.zeros(3))
    data = load_npz(path, test_fraction=0.4, seed=1, stratify=True)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    images, labels = all_rows(data)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert data.image_shape == shape
    other = load_npz(path, test_fraction=0.4, seed=2, stratify=True)
    assert not np.array_equal(data.test.images, other.test.images)


def test_npz_of_whole_numbers_is_a_table(tmp_path):
    data = load_npz(save(tmp_path, images=IMAGES * 2, labels=np.array(list("abababccab"))))
    assert data.train.images.dtype == np.float64
    assert isinstance(data.inputs, Table)
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


def column(data, name):
    """Return a column of the data set's inputs."""
    return next(each for each in data.inputs.columns if each.name == name)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_label_is_found_anywhere(table, place):
    cells = [["a", "b", "c"], *[[str(3 * row + column) for column in range(3)] for row in range(10)]]
    for row, label in zip(cells, ["label", *"7373737373"], strict=True):
        row.insert(place, label)
    data = table("\n".join(",".join(row) for row in cells))
    images, labels = all_rows(data)
    np.testing.assert_array_equal(images, np.arange(30).reshape(10, 3))
    assert labels.tolist() == [1, 0] * 5
    assert [each.name for each in data.inputs.columns] == ["a", "b", "c"]
    assert (data.class_names, data.image_shape, data.name, data.inputs.label) == (("3", "7"), None, "mine", "label")
    assert (len(data.train), len(data.test), data.notes) == (8, 2, ())


@pytest.mark.parametrize(
    ("header", "named", "label", "notes"),
    [
        ("a,Target,c", None, "Target", ()),
        ("y,label,c", None, "label", ()),
        ("class,y,c", None, "class", ()),
        ("a,b,c", None, "c", ("label c, the last column: --label-column to name another",)),
        ("a,label,c", "a", "a", ()),
    ],
)
def test_the_label_s_column(table, header, named, label, notes):
    data = table(f"{header}\n" + "1,1,0\n0,0,1\n" * 5, label_column=named)
    assert (data.inputs.label, data.notes) == (label, notes)
    assert [each.name for each in data.inputs.columns] == [name for name in header.split(",") if name != label]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "a,b\n1,2\n",
            {"label_column": "kind"},
            r"must have the label's column 'kind', got 'a', 'b': name it by label_column",
        ),
        ("1,2,3,4,5,6,7,8,9\n", {"label_column": "x"}, r"got 'column_1', .*'column_6', \.\.\.: name it"),
        ("label\n1\n", {}, r"must have features beside 'label', got no other column: check the delimiter"),
        ("a,label\n1,x\n\n2,\n3,y\n", {}, r"labels must not be empty, got none in line 4, column 'label': fill"),
        ("a,label\n1,x\n\n2,NA\n3,y\n", {}, r"got none in line 4"),
        ("a,label\n1,0.5\n2,inf\n3,1\n", {}, r"labels must be finite in float32, got inf in line 3"),
        (f"a,label\n1,2\n2,{'9' * 20}\n", {"regression": False}, r"whole numbers or strings, got 1e\+20 in line 3"),
        ("a,label\n1,x\n2,y\n3,\x01\n4,x\n", {}, r"class names must be plain text in one line, got '\\x01'"),
    ],
)
def test_what_is_wrong_with_labels_is_told_with_its_line(table, text, options, message):
    with pytest.raises(DataError, match=rf"mine\.csv.*{message}"):
        table(text, **options)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "10", "-1"], ("-1", "9", "10")),
        (["10.0", "9.0", "10", "9"], ("9", "10")),
        (["10", "9", "x", "9"], ("10", "9", "x")),
        (["True", "false", "TRUE", "false"], ("False", "True")),
        (["2026-01-31", "2025-12-31", "2026-01-31", "2025-12-31"], ("2025-12-31", "2026-01-31")),
    ],
)
def test_classes_are_numbers_where_all_of_them_are(table, labels, names):
    rows = "\n".join(f"{number},{label}" for number, label in enumerate(labels))
    assert table(f"a,label\n{rows}\n").class_names == names


def test_whole_numbers_that_are_taken_as_classes_are_told(table):
    def notes(count, form="{}", **options):
        rows = "".join(f"{row % 7},{form.format(row % count)}\n" for row in range(40 * count))
        return table(f"a,y\n{rows}", **options).notes

    said = "labels are 6 different whole numbers, taken as classes: --loss squared_error or poisson to predict numbers"
    assert notes(6) == (said,)
    for silent in (notes(5), notes(6, "c{}"), notes(6, regression=False), notes(6, regression=True)):
        assert silent == ()


def test_a_label_of_many_numbers_is_predicted(table):
    text = "a,price\n" + "".join(f"{row % 7},{100 * row}\n" for row in range(30))
    data = table(text)
    assert (data.class_names, data.train.labels.shape) == ((), (24, 1))
    assert data.notes == (
        "label price, the last column: --label-column to name another; its many numbers make it a "
        "regression: --loss to change it",
    )
    assert data.inputs.target.mean == (pytest.approx(data.train.labels.mean()),)
    named = table(text, label_column="price")
    assert named.notes == ("label price; its many numbers make it a regression: --loss to change it",)
    assert table(text, regression=False).num_classes == 30
    few = "a,stars\n" + "".join(f"{row % 7},{row % 5}\n" for row in range(30))
    assert table(few).num_classes == 5
    assert table(few, regression=True).class_names == ()


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("Id", "Id identifies the rows and is not learned: --id-column none to learn it"),
        ("customer_id", "customer_id identifies the rows and is not learned: --id-column none to learn it"),
        ("", "the column without a name is an index and is not learned: --id-column none to learn it"),
    ],
)
def test_columns_that_identify_rows_are_not_learned(table, name, note):
    text = f"{name},size,label\n" + "".join(f"{1000 - 3 * row},{row % 5},{row % 2}\n" for row in range(30))
    data = table(text)
    assert [each.name for each in data.inputs.columns] == ["size"]
    assert (data.inputs.identifier, data.notes[-1]) == (name or "column_1", note)
    learned = table(text, id_column="none")
    assert [each.name for each in learned.inputs.columns] == [name or "column_1", "size"]
    assert learned.inputs.identifier is None
    if name:
        assert table(text, id_column="size").inputs.identifier == "size"


def test_columns_of_every_kind(table):
    rows = "".join(
        f"{row},{'ab'[row % 2]},{['True', 'false'][row % 3 > 0]},2026-01-{1 + row % 28:02},{row % 4},{row % 2}\n"
        for row in range(2, 42)
    )
    text = "\ufeffnumber, word ,truth,day,code,label\n" + rows.replace("3,b,", ",,", 1)
    data = table(text, categorical=("code",), test_fraction=None)
    assert [each.kind for each in data.inputs.columns] == ["number", "category", "truth", "number", "category"]
    assert column(data, "word").levels == ("a", "b")
    assert column(data, "code").levels == ("0", "1", "2", "3")
    assert [column(data, name).has_flag for name in ("number", "word", "truth")] == [True, True, False]
    days = 20_457  # from 1970 to 2026-01-04
    np.testing.assert_array_equal(data.train.images[1], [np.nan, np.nan, 1, days, 3])
    assert [each.name for each in table(text, drop=("day", "code")).inputs.columns] == ["number", "word", "truth"]
    with pytest.raises(ConfigError, match="drop must name a column, got 'days'"):
        table(text, drop=("days",))


@pytest.mark.parametrize("place", [2, 17, 41])  # of the training rows or of the test rows
@pytest.mark.parametrize("cell", ["inf", "-inf", "1e39"])
def test_infinite_numbers_are_told_with_their_line(table, place, cell):
    """Also by the inputs of a trained network, which were learned from other rows."""
    rows = [f"{row % 5}.5,{row % 3},{row % 2}" for row in range(40)]
    good = "a,b,label\n" + "\n".join(rows)
    rows[place - 2] = f"{cell},1,0"
    bad = "a,b,label\n" + "\n".join(rows)
    for inputs in (None, table(good).inputs):
        with pytest.raises(
            DataError, match=rf"mine\.csv: column 'a' must be finite in float32, got .* in line {place}:"
        ):
            table(bad, inputs=inputs)


def test_rows_are_held_to_the_columns_of_a_network(table):
    rows = [f"{3 * row},{'ab'[row % 2]},{'xyz'[row % 3]}" for row in range(30)]
    inputs = table("size,word,label\n" + "\n".join(rows)).inputs
    other = "word,label,more,size\nb,z,0,7\na,z,0,8\n"
    data = table(other, inputs=inputs, test_fraction=None)
    np.testing.assert_array_equal(data.train.images, [[7, 1], [8, 0]])
    assert data.train.labels.tolist() == [2, 2]
    assert data.class_names == ("x", "y", "z")
    for change, message in (
        (("size", "Size"), r"must have the columns of the training, got no 'size' in 'word', 'more', 'Size'"),
        (
            ("8\n", "tall\n"),
            r"column 'size' must be numbers as in the training, got 'tall' in line 3: correct the cell",
        ),
        (("a,z", "a,u"), r"labels must be among the classes of the network, x, y, z, got 'u' in line 3"),
        (("label", "kind"), r"must have the label's column 'label', got 'word', 'kind'"),
    ):
        with pytest.raises(DataError, match=message):
            table(other.replace(*change), inputs=inputs)


def test_kaggle_s_digits_are_pixels(table):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (30, 784))
    header = "label," + ",".join(f"pixel{number}" for number in range(784))
    lines = [",".join(map(str, [row % 10, *cells])) for row, cells in enumerate(pixels.tolist())]
    text = "\n".join([header, *lines]) + "\n"
    data = table(text, stratify=True, test_fraction=0.3)
    assert data.train.images.dtype == np.uint8
    assert data.class_names == tuple("0123456789")
    assert (data.scale, data.image_shape, len(data.test)) == (1 / 255, (28, 28), 10)
    assert np.bincount(data.test.labels).tolist() == [1] * 10
    images, labels = all_rows(data)
    order = np.argsort(pixels[:, 0], kind="stable")
    assert sorted(map(tuple, images.tolist())) == sorted(map(tuple, pixels[order].tolist()))
    label_of = {tuple(row): k % 10 for k, row in enumerate(pixels.tolist())}
    assert [label_of[tuple(row)] for row in images.tolist()] == labels.tolist()
    held = table(text, inputs=data.inputs, test_fraction=None)
    np.testing.assert_array_equal(data.inputs.features(held.train.images, "float32"), pixels)


def test_every_format_is_the_same_table(tmp_path):
    frame = pl.DataFrame({
        "size": [0.5 * k for k in range(20)], "word": list("abcd" * 5), "label": [k % 2 for k in range(20)]
    })  # fmt: skip
    text = frame.write_csv()
    frame.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.tsv").write_text(frame.write_csv(separator="\t"))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", text)
    frame.to_pandas().to_csv(tmp_path / "pandas.zip", index=False)  # in which the file is called `pandas`
    (tmp_path / "semicolons.txt").write_text(text.replace(",", ";").replace(".", ","))
    plain = load_dataset(tmp_path / "a.csv")
    for name in ("a.parquet", "a.tsv", "a.csv.gz", "a.zip", "pandas.zip", "semicolons.txt"):
        data = load_dataset(tmp_path / name)
        assert data.inputs == plain.inputs
        np.testing.assert_array_equal(data.train.images, plain.train.images)
        np.testing.assert_array_equal(data.test.labels, plain.test.labels)


def test_a_dialect_that_is_given_is_not_detected(table):
    text = "0;5,5\n1;4,5\n" * 10
    data = table(text, dialect=TableOptions(delimiter=";", decimal=",", header=False), regression=True)
    assert sorted({*data.train.labels.ravel().tolist(), *data.test.labels.ravel().tolist()}) == [4.5, 5.5]


def test_the_split_without_options(tmp_path, table):
    order = np.random.default_rng(0).permutation(20)
    data = table("label,a\n" + "".join(f"{row % 2},{3 * row}\n" for row in range(20)))
    assert data.test.images[:, 0].tolist() == (3 * order[:4]).tolist()
    assert data.train.images[:, 0].tolist() == (3 * order[4:]).tolist()
    path = save(tmp_path, images=np.arange(20).reshape(20, 1), labels=np.arange(20) % 2)
    for data in (load_npz(path), load_dataset(path)):
        assert data.test.images[:, 0].tolist() == order[:4].tolist()


def test_options_reach_the_files_through_load_dataset(tmp_path, table):
    text = "kind,a\n" + "".join(f"{row % 2},{3 * row}\n" for row in range(20))
    data = table(text, label_column="kind", test_fraction=0.3, seed=4, stratify=True)
    assert np.bincount(data.test.labels).tolist() == [3, 3]
    other = table(text, label_column="kind", test_fraction=0.3, seed=5, stratify=True)
    assert not np.array_equal(data.test.images, other.test.images)

    path = save(tmp_path, images=IMAGES, labels=LABELS)
    data = load_dataset(str(path), test_fraction=0.4, seed=4, stratify=True)
    same = load_npz(path, test_fraction=0.4, seed=4, stratify=True)
    np.testing.assert_array_equal(data.test.images, same.test.images)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    with pytest.raises(ConfigError, match="test_fraction"):
        load_dataset(path, test_fraction=2)


@pytest.mark.parametrize(
    ("header", "options", "label"), [("a,b,", {}, "column_3"), (",b,a", {"label_column": "column_1"}, "column_1")]
)
def test_the_label_may_be_a_column_without_a_name(table, header, options, label):
    """Each row its own number, as an index has them."""
    data = table(f"{header}\n" + "".join(f"{k},{k % 3},{k}\n" for k in range(8)), regression=False, **options)
    assert data.inputs.label == label
    assert data.class_names == tuple("01234567")
    assert data.features == 2


def test_only_the_row_of_a_message_is_located():
    origin = Origin(range(2, 5), "a.csv", "in line")
    assert origin.locate("'at row 0': at row 9 at row 1") == "a.csv: 'at row 0': at row 9 in line 3"

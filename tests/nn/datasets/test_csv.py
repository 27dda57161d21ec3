"""The .csv reader against text that is no table: long, dense, torn or not text at all."""

import tracemalloc

import numpy as np
import pytest
from xpnn.backends import DataError
from xpnn.nn.datasets import csv_table
from xpnn.nn.datasets.csv_table import read_csv
from xpnn.nn.files import limits


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_rows_arrive_in_order_through_every_size_of_block(write, monkeypatch):
    """A block that holds a float is read again as such, the others are not."""
    path = write("a,label,b\n" + "".join(f"{row},c{row % 3},{row * 2}\n" for row in range(100)) + "1,c0,0.5\n\n")
    for block in (1, 7, 300, 10**6):
        monkeypatch.setattr(csv_table, "BLOCK", block)
        features, labels = read_csv(path, "label")
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features[:-1], np.stack([np.arange(100), np.arange(100) * 2], axis=1))
        assert features[-1].tolist() == [1, 0.5]
        assert labels.tolist() == [*(f"c{row % 3}" for row in range(100)), "c0"]


@pytest.mark.parametrize("block", [1, 40, 10**6])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,x", r"expected 3 cells in each row, got 2 at row 50: fix that line"),
        ("1,x,2,3", r"expected 3 cells in each row, got 4 at row 50"),
        ("1,x,red", r"features must be numbers, got 'red' at row 50, column 'b'"),
        ("1,x,nan", r"features must be finite in float32, got nan at row 50, column 'b': fill the cell"),
        ("-inf,x,2", r"features must be finite in float32, got -inf at row 50, column 'a'"),
        (f"1,x,{'9' * 60}", r"features must be finite in float32, got inf at row 50, column 'b'"),
        (f"1,{'x' * 65},2", r"labels must have at most 64 characters, got 'x{20}'\.\.\. at row 50"),
        ('1,"x,2', r"a quote must end in its line, got an open one in line 52: close it"),
        ('1,5"","x', r"a quote must end in its line, got an open one in line 52"),
        ("1,x\0,2", r"must be text, got a zero byte in line 52"),
    ],
)
def test_what_is_wrong_is_named_by_its_place_in_the_table(write, monkeypatch, block, line, message):
    monkeypatch.setattr(csv_table, "BLOCK", block)
    good = "".join(f"{row},x,2\n" for row in range(50))
    with pytest.raises(DataError, match=rf"mine\.csv.* {message}|mine\.csv: {message}"):
        read_csv(write(f"a,label,b\n{good}{line}\n{good}"), "label")


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ('"a, b"', "a, b"),
        ('"say ""no"""', 'say "no"'),
        ('5"', '5"'),
        ('a"b"c', 'a"b"c'),
        ('"x" ', "x"),
        ("' y'", "' y'"),
    ],
)
def test_quotes_that_end_in_their_line(write, cell, label):
    assert read_csv(write(f"a,label\n1,{cell}\n2,z\n"), "label")[1].tolist() == [label, "z"]


def test_a_line_without_end_is_not_read_whole(write):
    for start in ("", "a,label\n"):
        path = write(start.encode() + b"1," * 2**24)  # 32 MiB
        tracemalloc.start()
        try:
            with pytest.raises(
                DataError, match=f"line must have at most 4194304 characters, got more in line {bool(start) + 1}"
            ):
                read_csv(path, "label")
            assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
        finally:
            tracemalloc.stop()


def test_the_longest_line_is_read(write, monkeypatch):
    path = write("a,label\n1,x\n1234,y\n")
    monkeypatch.setattr(limits, "CSV_LINE", 8)
    assert read_csv(path, "label")[0].tolist() == [[1], [1234]]
    monkeypatch.setattr(limits, "CSV_LINE", 7)
    with pytest.raises(DataError, match="at most 7 characters, got more in line 1"):
        read_csv(path, "label")


def test_too_many_columns_are_refused(write, monkeypatch):
    path = write("a,label,b\n1,x,2\n3,y,4\n")
    monkeypatch.setattr(limits, "CSV_COLUMNS", 3)
    assert read_csv(path, "label")[0].shape == (2, 2)
    monkeypatch.setattr(limits, "CSV_COLUMNS", 2)
    with pytest.raises(DataError, match="must have at most 2 columns, got 3: leave some out"):
        read_csv(path, "label")
    with pytest.raises(DataError, match="must have at most 2 columns, got 2000001"):
        read_csv(write("," * 2_000_000), "label")


def test_too_much_text_is_refused(write, monkeypatch):
    path = write("a,label\n1,x\n2,y\n")
    monkeypatch.setattr(limits, "DATA_BYTES", path.stat().st_size)
    assert len(read_csv(path, "label")[0]) == 2
    monkeypatch.setattr(limits, "DATA_BYTES", path.stat().st_size - 1)
    with pytest.raises(DataError, match="has 16 bytes, more than the limit of 15: leave out rows"):
        read_csv(path, "label")


def test_a_table_that_grows_beyond_the_limit_is_refused_on_the_way(write, monkeypatch):
    """One long label makes all of them long, and one float all numbers."""
    long = "y" * 64
    path = write(f"a,label\n0.5,{long}\n" + "1,x\n" * 1000)
    monkeypatch.setattr(csv_table, "BLOCK", 100)
    size = 1001 * (4 + 4 * 64)
    monkeypatch.setattr(limits, "DATA_BYTES", size)
    assert read_csv(path, "label")[0].shape == (1001, 1)
    monkeypatch.setattr(limits, "DATA_BYTES", size - 1)
    with pytest.raises(DataError, match=rf"more than the limit of {size - 1} bytes of numbers in its first 1001 rows"):
        read_csv(path, "label")
    monkeypatch.setattr(limits, "DATA_BYTES", size // 2)
    with pytest.raises(DataError, match=r"in its first 5\d\d rows"):
        read_csv(path, "label")


def test_short_rows_take_little_memory(write):
    """Each could have the longest label; a table of a million rows would then need 264 MB."""
    path = write(b"a,label\n" + b"1,0\n2,1\n" * 100_000)
    tracemalloc.start()
    try:
        features, labels = read_csv(path, "label")
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()
    assert features.tolist() == [[1], [2]] * 100_000
    assert labels.tolist() == [0, 1] * 100_000


@pytest.mark.parametrize(
    "text", [b"\xff\xfea\0,\0", b"a,label\n1,\xff\n", b"a,label\n1,\xed\xa0\x80\n", b"\xc3", b"PK\3\4\xe9"]
)
def test_what_is_no_utf8_is_refused(write, text):
    with pytest.raises(DataError, match=r"mine\.csv cannot be read \(.*it must be a text file in UTF-8"):
        read_csv(write(text), "label")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_a_line_and_blank_lines(write, end):
    features, labels = read_csv(write(end.join(["a,label", "", "1,x", "  ", "2,y"])), "label")
    assert features.tolist() == [[1], [2]]
    assert labels.tolist() == ["x", "y"]

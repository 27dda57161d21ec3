"""Tables in files: every dialect of text, parquet, and what is refused, with its line."""

import datetime
import gzip
import io
import os
import sys
import zipfile

import polars as pl
import pytest
from xpnn.backends import ConfigError, DataError, MissingDependency
from xpnn.nn.datasets import parquet_frame
from xpnn.nn.datasets.table_file import SUFFIXES, TableOptions, is_table, read_table
from xpnn.nn.files import limits

PLAIN = b"a,b\n1,x\n2,y\n"


@pytest.fixture
def read(tmp_path):
    def read(content, name="mine.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, TableOptions(**options))

    return read


def gzipped(content):
    return gzip.compress(content, mtime=0)  # the same name of a test in every worker


def zipped(*members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def parquet(frame):
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "rows", "words"),
    [
        ("a,b\n1,x\n2.5,y\n", [(1.0, "x"), (2.5, "y")], ()),
        ("a;b\n1;x\n2.5;y\n", [(1.0, "x"), (2.5, "y")], ("separated by ';'",)),
        ("a\tb\n1\tx\n2.5\ty\n", [(1.0, "x"), (2.5, "y")], ("separated by tabs",)),
        ("a|b\n1|x\n2.5|y\n", [(1.0, "x"), (2.5, "y")], ("separated by '|'",)),
        ("a;b\n1,5;x\n-,5;y\n", [(1.5, "x"), (-0.5, "y")], ("separated by ';'", "decimal comma")),
        ("\ufeffa,b\r\n1,x\r\n2.5,y", [(1.0, "x"), (2.5, "y")], ()),
        ("\n\na,b\n\n1,x\n  \n2.5,y\n\n \n", [(1.0, "x"), (2.5, "y")], ()),
        ("a,b,\n1,x,\n2.5,y,\n", [(1.0, "x"), (2.5, "y")], ()),
        ("a,b\n1,x,\n2.5,y,\n", [(1.0, "x"), (2.5, "y")], ()),
        (' a , "b"\n 1 , "x"\n +2.5, "y"\n', [(1.0, "x"), (2.5, "y")], ()),
        ('a,b\n"1","x"\n"2.5",y\n', [(1.0, "x"), (2.5, "y")], ()),
    ],
)
def test_dialects(read, text, rows, words):
    table = read(text)
    assert table.frame.columns == ["a", "b"]
    assert table.frame.rows() == rows
    assert table.words == words


def test_what_is_named_is_not_detected(read):
    assert read("a;b,c;d\n1;2,5\n", delimiter=",").frame.columns == ["a;b", "c;d"]
    assert read("1,2\n3,4\n", header=True).frame.rows() == [(3, 4)]
    assert read("a,b\nx,y\n", header=False).frame.rows() == [("a", "b"), ("x", "y")]
    assert read("a;b\n1,234;x\n", decimal=".").frame.rows() == [("1,234", "x")]
    assert read("a;b\n1;2\n", delimiter=";", decimal=",").words == ()


@pytest.mark.parametrize("options", [{"delimiter": " "}, {"decimal": ";"}, {"delimiter": ",", "decimal": ","}])
def test_options_that_cannot_be(options):
    with pytest.raises(ConfigError, match=r"delimiter|decimal"):
        TableOptions(**options)


@pytest.mark.parametrize(
    ("text", "has_header"),
    [
        ("1,2\n3,4\n", False),
        ("1,2\n", False),
        ("5.1,Iris\n4.9,Iris\n", False),
        ("name,2019\nx,1\n", True),
        ("0,1,2,label\n5,6,7,x\n", True),
        (",a\n0,1\n", True),
        ("a,b\nx,y\n", True),
        ("x,s\nx,t\n", False),
        ("true,1\nfalse,2\n", False),
    ],
)
def test_header(read, text, has_header):
    table = read(text)
    assert table.frame.height == text.count("\n") - has_header
    assert table.origin.numbers[0] == 1 + has_header
    assert any("no header" in word for word in table.words) != has_header
    if not has_header:
        assert table.frame.columns == [f"column_{k + 1}" for k in range(table.frame.width)]


def test_a_column_without_a_name_is_told(read):
    table = read(",a\n0,5\n1,6\n")
    assert table.frame.columns == ["column_1", "a"]
    assert table.unnamed == ("column_1",)
    assert table.words == ("no name in the header for column_1",)


@pytest.mark.parametrize(
    ("cells", "dtype", "values"),
    [
        (("1", "-2", "+3"), pl.Int64, [1, -2, 3]),
        (("1", "2.5", "1e3"), pl.Float64, [1.0, 2.5, 1000.0]),
        (("1", "NA", "", "?", "NaN", "null", "None"), pl.Int64, [1, *[None] * 6]),
        (("1.5", "nan", "NaN", "inf"), pl.Float64, [1.5, None, None, float("inf")]),
        (("True", "false", "TRUE", ""), pl.Boolean, [True, False, True, None]),
        (("99999999999999999999", "1"), pl.Float64, [1e20, 1.0]),
        (("9" * 50, "1"), pl.Float64, [1e50, 1.0]),
        (("2026-01-31", "NA"), pl.Date, [datetime.date(2026, 1, 31), None]),
        (("2026-01-31 12:30", "2026-02-01 00:00"), pl.Datetime, None),
        (("2026-01-31T12:30:00.5", "2026-02-01T00:00:00"), pl.Datetime, None),
        (("31/01/2026", "01/02/2026"), pl.String, ["31/01/2026", "01/02/2026"]),
        ((" red", "blue ", "NA"), pl.String, ["red", "blue", None]),
        (("", "NA"), pl.String, [None, None]),
        (("*", "^x$"), pl.String, ["*", "^x$"]),
    ],
)
@pytest.mark.parametrize("lead", [0, 1200])  # rows before, which polars infers a type from
def test_types_are_those_of_all_rows(read, cells, dtype, values, lead):
    first = next((cell for cell in cells if cell.strip() not in ("", "NA")), "")
    text = "^a$,b\n" + f"{first},0\n" * lead + "".join(f"{cell},0\n" for cell in cells)
    column = read(text).frame["^a$"][lead:]
    assert column.dtype == dtype
    assert values is None or column.to_list() == values


def test_a_late_word_makes_text_and_is_told_with_its_line(read):
    table = read("a,b\n\n" + "1,2\n" * 5000 + "x,3\n4.5,3\n")
    assert table.frame["a"].dtype == pl.String
    assert table.frame["a"].null_count() == 0
    assert table.words == ("column 'a' is text: 'x' in line 5003 is not a number",)
    assert read("a;b\n" + "1,5;2\n" * 50 + "x;3\n").words[2:] == ("column 'a' is text: 'x' in line 52 is not a number",)
    assert read("a,b\n1,2\nx,3\n").words == ()  # a column of codes, as likely


def test_lines_are_those_of_the_file(read):
    text = '\na,b\n1,"x\n\ny, ""z"""\r\n\r\n2,u\n   \n3,\n'
    table = read(text)
    assert table.frame.rows() == [(1, 'x\n\ny, "z"'), (2, "u"), (3, None)]
    assert list(table.origin.numbers) == [3, 7, 9]
    assert read("a,b\n1,2\n3,\n").origin.numbers[1] == 3
    with pytest.raises(DataError, match="expected 2 cells in each row, got 3 in line 10: fix that line"):
        read(text + "4,5,6\n")


@pytest.mark.parametrize("lead", ["1,2\n", "1,\n", '"1","2"\n', '1,"2\n,3"\n'])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3", r"expected 2 cells in each row, got 1 in line {}: fix that line"),
        ("3,4,5", r"expected 2 cells in each row, got 3 in line {}: fix that line"),
        ('3,"4', r"a quote must be closed, got an open one in line {}: close it"),
        ('3,x"y', r"quotes must enclose whole cells, got one within a cell in line {}"),
        ('"3"x,4', r"quotes must enclose whole cells, got one within a cell in line {}"),
        ("3,\0", r"must be text, got a zero byte in line {}: is it UTF-16"),
        ("3,\udce9", r"must be text in UTF-8, got the byte 0xe9 in line {}: convert it with iconv -f cp1252 -t utf-8"),
        ("3," + "x" * 1000, r"a line must have at most 999 bytes, got more in line {}: is it a table"),
    ],
)
def test_bad_rows_are_named_by_their_lines(read, monkeypatch, lead, row, message):
    monkeypatch.setattr(limits, "CSV_LINE", 999)
    for count in (3, 600):  # within the first lines, from which the dialect is detected, and below
        text = "a,b\n" + lead * count + row + "\n5,6\n"
        line = 2 + (lead * count).count("\n")
        with pytest.raises(DataError, match=message.format(line)):
            read(text.encode(errors="surrogateescape"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold a table, got no text"),
        (b"\n \n", "must hold a table, got no text"),
        (b"a,b\n\n", "must hold rows below its header, got none"),
        ("a,b\n1,2\n".encode("utf-16"), "must be text in UTF-8, got UTF-16: convert it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\r", "must be text in UTF-8, got a PNG picture: pictures are for xpnn predict"),
        (b"PK\x03\x04\x14\0\x06\0", "got a zip archive or an Excel workbook: rename it to"),
        (b"PAR1\x15\x04\n\0\xff", "got a parquet file: rename it to .parquet"),
        (b"a,b,a\n1,2,3\n", "must name each column once in its header, got 'a' more than once"),
        (b"a\rb\r1\r", "end lines with a line feed"),
        (b"a;b\n1,5;2.5\n", r"must have one decimal sign, got '1,5' and '2\.5': name it, decimal=','"),
    ],
)
def test_what_is_no_table(read, content, message):
    with pytest.raises(DataError, match=message):
        read(content)


def test_text_that_polars_takes_for_zlib(read):
    assert read("x^,y\nx^,1\nx^,\n").frame.rows() == [("x^", 1), ("x^", None)]


def test_limits(read, monkeypatch):
    monkeypatch.setattr(limits, "CSV_COLUMNS", 3)
    with pytest.raises(DataError, match="must have at most 3 columns, got 4"):
        read("a,b,c,d\n1,2,3,4\n")
    monkeypatch.setattr(limits, "DATA_BYTES", 100)
    with pytest.raises(DataError, match="holds 7 rows of 2 cells, 8 bytes each, more than the limit of 100"):
        read("a,b\n" + "1,2\n" * 7)
    with pytest.raises(DataError, match="has 104 bytes, more than the limit of 100"):
        read("a,b\n" + "1,2\n" * 25)
    monkeypatch.setattr(limits, "DATA_BYTES", 100_000)
    monkeypatch.setattr(parquet_frame, "CELL_BYTES", 100_000 // 12)
    with pytest.raises(DataError, match="promises 7 rows of 2 columns, more than the limit of 12 cells"):
        read(parquet(pl.DataFrame({"a": [1] * 7, "b": [2] * 7})), "a.parquet")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PLAIN, "a.TSV"),
        (gzipped(PLAIN), "a.csv.gz"),
        (gzipped(PLAIN[:5]) + gzipped(PLAIN[5:]), "a.tsv.gz"),
        (zipped(("b/a.csv", PLAIN), ("__MACOSX/b/._a.csv", b"\0"), ("LICENSE", b"")), "a.zip"),
        (zipped(("a.tsv", PLAIN), compression=zipfile.ZIP_STORED), "a.csv.zip"),
        (parquet(pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})), "a.pq"),
    ],
)
def test_formats(read, content, name):
    assert read(content, name).frame.rows() == [(1, "x"), (2, "y")]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (PLAIN, "a.csv.gz", "is not gzip: expected its first bytes to be 1f 8b"),
        (gzipped(PLAIN)[:12] + bytes(4), "a.csv.gz", "is a damaged gzip file"),
        (gzipped(bytes(2**24 + 1)), "a.csv.gz", r"would grow from \d+ to 16777217 bytes, more than 100-fold"),
        (gzipped(bytes(2**25)) + gzipped(b""), "a.csv.gz", r"would grow from \d+ to 17\d+ bytes"),
        (zipped(("a.csv", bytes(2**24 + 1))), "a.zip", r"would grow from \d+ to 16777217 bytes"),
        (zipped(("a.csv", PLAIN), ("b.csv", PLAIN)), "a.zip", "must hold exactly one table .* got 'a.csv, b.csv'"),
        (zipped(("a.png", PLAIN)), "a.zip", "must hold exactly one table .* got 'a.png'"),
        (zipped(("../a.csv", PLAIN)), "a.zip", "must hold plain file names"),
        (zipped(("a.csv", PLAIN), compression=zipfile.ZIP_BZIP2), "a.zip", "is encrypted, or compressed by another"),
        (zipped(("a.csv", PLAIN))[:-4], "a.zip", "is not a readable zip"),
        (PLAIN, "a.parquet", "is not a whole parquet file"),
        (parquet(pl.DataFrame({"a": [1]}))[:-1], "a.parquet", "is not a whole parquet file"),
        (b"PAR1" + bytes(20) + b"PAR1", "a.parquet", "it is damaged"),
        (parquet(pl.DataFrame({"a": [[1]]})), "a.parquet", r"got List\(Int64\) in 'a': drop that column"),
        (parquet(pl.DataFrame({"a": [b"x"]})), "a.parquet", "got Binary in 'a': drop that column"),
        (parquet(pl.DataFrame({"a": [1]}).clear()), "a.parquet", "must hold rows, got 0"),
        (PLAIN, "a.xlsx", "must end in .csv, .tsv"),
    ],
)
def test_damaged_files_and_bombs(read, content, name, message):
    with pytest.raises(DataError, match=message):
        read(content, name)


def test_parquet_keeps_its_types(read):
    frame = pl.DataFrame({"a": [1, None], "b": [0.5, 1.5], "c": ["x", "y"]}).cast(
        {"a": pl.UInt8, "b": pl.Float32, "c": pl.Categorical}
    )
    table = read(parquet(frame), "a.parquet")
    assert table.frame.schema == frame.schema
    assert table.frame.equals(frame)
    assert (list(table.origin.numbers), table.words) == ([1, 2], ())


def test_a_file_that_ends_its_decoder_is_refused(read, tmp_path, monkeypatch):
    program = tmp_path / "decoder.py"
    program.write_text("import os; os.abort()")
    monkeypatch.setattr(parquet_frame.parquet_decoder, "__file__", str(program))
    with pytest.raises(DataError, match="it is damaged: its decoder ended with"):
        read(parquet(pl.DataFrame({"a": [1]})), "a.parquet")
    program.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(parquet_frame, "LONGEST_SECONDS", 0.01)
    with pytest.raises(DataError, match=r"decoding it takes more than 0\.01 s"):
        read(parquet(pl.DataFrame({"a": [1]})), "a.parquet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_and_folders_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError, match="it is a pipe"):
        read_table(tmp_path / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DataError, match="it is a folder"):
        read_table(tmp_path / "b.csv")


def test_names_of_tables(tmp_path):
    assert all(is_table(tmp_path / f"a{suffix}") for suffix in (*SUFFIXES, ".CSV", ".csv.zip"))
    assert not any(is_table(tmp_path / name) for name in ("a.npz", "a.gz", "csv", "a.png"))


def test_polars_is_asked_for_with_the_command_that_installs_it(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingDependency, match=r'pip install "xpnn\[tables\]"'):
        read(PLAIN)

"""The .npz reader: what an archive promises is checked before an array is read."""

import io
import re
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from xpnn.backends import DataError
from xpnn.nn.datasets.npz import read_npz
from xpnn.nn.files import limits

NAMES = (("a", "b"),)


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


GOOD = npy(np.arange(6))


def header(descr="'|u1'", shape="(4,)", order="False", version=1, text=None, content=bytes(4)):
    """An .npy written by hand."""
    text = text or f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"
    raw = text.encode("latin1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw)) + raw + content


def archive(path, *members, compression=zipfile.ZIP_STORED):
    """Write members, each a (name, content)."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as file:
        warnings.simplefilter("ignore")  # a name twice
        for name, content in members:
            file.writestr(name, content)
    return path


def refused(path, message):
    """The archive is refused in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message) as caught:
            read_npz(path, NAMES)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert "a.npz" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "values",
    [
        np.arange(24).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24, dtype=">i4").reshape(2, 3, 4).transpose(2, 0, 1),
        np.asfortranarray(np.arange(6, dtype=">f8").reshape(3, 2)),
        np.array([True, False]),
        np.array(["a", "日本"]),
        np.array(["a", "日本"], ">U2"),
        np.array([b"a", b"bc"]),
        np.float16([0.5, -2]),
        np.longdouble([0.5, -2]),
        np.empty((0, 3)),
        np.array(5),
        np.random.default_rng(0).integers(0, 256, 700_000).astype("u1"),
    ],
)
def test_arrays_arrive_as_numpy_reads_them(path, save, values):
    save(path, a=values, b=np.arange(3), c=np.ones(2))
    got, other = read_npz(path, NAMES)[1]
    with np.load(path) as archive:
        np.testing.assert_array_equal(got, archive["a"])
        assert got.dtype == archive["a"].dtype
    assert other.tolist() == [0, 1, 2]


def test_the_first_row_of_names_that_is_there_is_taken(path):
    np.savez(path, c=[1], a=[2], b=[3])
    assert [array.tolist() for array in read_npz(path, (("d", "a"), ("c", "b"), ("a", "b")))[1]] == [[1], [3]]


def test_version_2_and_a_header_of_python_2_are_read(path):
    old = header(text="{'descr': '|u1', 'fortran_order': False, 'shape': (4L,), }\n")
    archive(path, ("a.npy", header(version=2)), ("b.npy", old))
    assert [array.tolist() for array in read_npz(path, NAMES)[1]] == [[0] * 4] * 2


def test_too_many_members_are_refused(path, monkeypatch):
    archive(path, ("a.npy", GOOD), ("b.npy", GOOD), ("c.npy", GOOD))
    monkeypatch.setattr(limits, "DATA_FILES", 3)
    assert len(read_npz(path, NAMES)[1]) == 2
    monkeypatch.setattr(limits, "DATA_FILES", 2)
    refused(path, r"must hold at most 2 arrays, got 3: leave some out")


def test_a_huge_table_of_contents_is_refused_before_it_is_read(path):
    archive(path, *((f"{number:05}", b"") for number in range(30_000)))
    refused(path, r"table of contents must be at most 1048576 bytes, got 1530000")


@pytest.mark.parametrize("names", [("a.npy", "b.npy", "a.npy"), ("a.npy", "b.npy", "b")])
def test_an_array_twice_is_refused(path, names):
    refused(archive(path, *((name, GOOD) for name in names)), r"must hold each array once, got '(a|b)' twice")


def test_a_member_that_is_encrypted_or_packed_in_another_way_is_refused(path):
    archive(path, ("a.npy", GOOD), ("b.npy", GOOD))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1  # encrypted, says the table of contents
    path.write_bytes(content)
    refused(path, r"'b' is encrypted or compressed by another method than numpy's")
    archive(path, ("a.npy", GOOD), ("b.npy", GOOD), compression=zipfile.ZIP_BZIP2)
    refused(path, r"'a' is encrypted or compressed by another method")


def test_more_than_the_limit_is_refused(path, monkeypatch):
    archive(path, ("a.npy", GOOD), ("b.npy", GOOD), ("more", b"x" * 100))
    monkeypatch.setattr(limits, "DATA_BYTES", 2 * len(GOOD) + 100)
    assert len(read_npz(path, NAMES)[1]) == 2
    monkeypatch.setattr(limits, "DATA_BYTES", 2 * len(GOOD) + 99)
    refused(path, rf"promises {2 * len(GOOD) + 100} bytes of arrays, more than the limit of {2 * len(GOOD) + 99}")


def test_what_grows_too_much_is_refused(path, monkeypatch):
    np.savez_compressed(path, a=np.zeros(30_000, "u1"), b=np.arange(3))
    size = path.stat().st_size
    monkeypatch.setattr(limits, "ALWAYS_UNPACKED", 30_000)
    monkeypatch.setattr(limits, "COMPRESSION", 30_500 // size + 1)
    assert not read_npz(path, NAMES)[1][0].any()
    monkeypatch.setattr(limits, "COMPRESSION", 30_000 // size)
    refused(path, rf"would grow from {size} to 30\d\d\d bytes, more than \d+-fold: .* numpy\.savez")


def test_members_that_share_their_bytes_count_each_for_itself(path, monkeypatch):
    """An archive can name the same packed bytes many times over."""
    np.savez_compressed(path, a=np.zeros(30_000, "u1"), b=np.arange(3))
    with zipfile.ZipFile(path, "a") as file:
        for number in range(20):
            twin = zipfile.ZipInfo(f"twin{number}")
            first = file.getinfo("a.npy")
            for name in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(twin, name, getattr(first, name))
            file.filelist.append(twin)
        file._didModify = True
    monkeypatch.setattr(limits, "ALWAYS_UNPACKED", 100_000)
    refused(path, r"would grow from \d+ to 63\d\d\d\d bytes")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("'|O'"), r"a holds Python objects, which are never unpickled: save numbers"),
        (npy(np.array([None])), r"a holds Python objects"),
        (header("[('x', '|u1')]"), r"a must hold numbers or strings, got \[\('x', 'u1'\)\]: convert it"),
        (header("[('x', '|O')]", "(0,)", content=b""), r"a holds Python objects"),
        (header("('|u1', (4,))", "(1,)"), r"a must hold numbers or strings, got"),
        (header("'|V4'", "(1,)"), r"a must hold numbers or strings, got \|V4"),
        (header("'<M8[s]'", "(1,)", content=bytes(8)), r"a must hold numbers or strings, got datetime64"),
        (header("'T'", "(1,)", content=bytes(16)), r"Python objects|not a readable"),
        (header("'<U0'", f"({10**15},)", content=b""), r"a must hold numbers or strings, got"),
        (header("'|S0'", f"({10**15},)", content=b""), r"a must hold numbers or strings, got"),
        (header(shape="(5,)"), r"a: the header promises \(5,\) values of 1 bytes, got 4 bytes: it is damaged"),
        (header(shape="(3,)"), r"a: the header promises \(3,\) values of 1 bytes, got 4 bytes"),
        (header(shape=f"({2**31}, {2**31})"), r"a: the header promises \(2147483648, 2147483648\) values"),
        (header("'<f8'", f"({2**61},)", content=b""), r"a: the header promises"),  # eight times that is 0 in 64 bits
        (header(shape="(-2, -2)"), r"a: the header promises \(-2, -2\) values of 1 bytes, got 4"),
        (header(shape=f"(0, {2**63})", content=b""), r"not a readable \.npz"),
        (header(shape="(" + "1, " * 100 + "4)"), r"not a readable \.npz"),
        (header(shape=f"(0x{'f' * 6000},)"), r"not a readable \.npz"),
        (header(shape=f"({'9' * 5000},)"), r"not a readable \.npz"),
        (header(shape="4"), r"not a readable \.npz \(shape is not valid: 4\)"),
        (header(shape="(4.0,)"), r"not a readable \.npz \(shape is not valid"),
        (header(order="0"), r"not a readable \.npz \(fortran_order is not a valid bool"),
        (header(version=3), r"a must be in version 1 or 2 of the \.npy format, got \(3, 0\)"),
        (header(version=9), r"a must be in version 1 or 2 of the \.npy format, got \(9, 0\)"),
        (header(text="(" * 9000), r"not a readable \.npz \("),
        (header(text="[" * 150 + "]" * 150), r"not a readable \.npz \("),
        (header(text="-" * 9000 + "1"), r"not a readable \.npz \("),
        (header(text="1" + "+1j" * 3000), r"not a readable \.npz \("),
        (header(text="{}"), r"not a readable \.npz \(Header does not contain the correct keys"),
        (header(text=" " * 10_001), r"not a readable \.npz \(Header info length"),
        (header(text=" " * 2**20, version=2), r"not a readable \.npz \(EOF: reading array header"),
        (header(text="'\\d'"), r"not a readable \.npz \("),  # Python warns of it
        (header("'|b1'", content=b"\0\1\2\1"), r"a must hold booleans, got a byte above 1"),
        (b"\x93NUMPY", r"not a readable \.npz \(EOF"),
        (b"text", r"not a readable \.npz \("),
        (b"", r"not a readable \.npz \(EOF"),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_lies_or_is_none_is_refused_before_there_is_room_for_it(path, content, message, compression):
    refused(archive(path, ("a.npy", content), ("b.npy", GOOD), compression=compression), message)


def test_a_member_that_unpacks_to_less_than_the_table_of_contents_says_is_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", header(shape="(9,)"))
        file.writestr("b.npy", GOOD)
        file.getinfo("a.npy").file_size += 5  # the checksum is that of what is there
    refused(path, r"a: expected 9 bytes after the header, got 4: it is cut off")


def test_every_truncation_is_refused(path):
    np.savez_compressed(path, a=np.arange(5), b=np.arange(3))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.npz is not a readable \.npz"):
            read_npz(path, NAMES)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_flipped_bit_is_refused_or_changes_nothing(path, save):
    """The checksum is looked at, whatever the size; some bytes, such as dates, mean nothing."""
    save(path, a=np.arange(5), b=np.arange(3))
    content = path.read_bytes()
    refusals = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        try:
            arrays = read_npz(path, NAMES)[1]
        except DataError as error:
            assert re.search(r"a\.npz", str(error))  # noqa: PT017 - either outcome is right
            refusals += 1
        else:
            assert [array.tolist() for array in arrays] == [[0, 1, 2, 3, 4], [0, 1, 2]]
    assert refusals > len(content) / 2

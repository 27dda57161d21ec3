"""The IDX reader: good files of every type, and every way to be malformed."""

import errno
import gzip
import math
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from xpnn.backends.errors import DataError
from xpnn.nn.datasets import read_idx
from xpnn.nn.datasets.idx_folder import find_parts
from xpnn.nn.files import limits

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(values, code=None):
    values = np.asarray(values)
    code = CODES[values.dtype.str[1:]] if code is None else code
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", CODES)
def test_every_type_is_read_with_its_values(tmp_path, dtype, suffix):
    values = (np.arange(24) - (0 if dtype == "u1" else 7)).reshape(2, 3, 4).astype(dtype) * (1.5 if "f" in dtype else 1)
    values = values.astype(dtype)
    data = idx_bytes(values)
    path = write(tmp_path / f"a-idx3{suffix}", gzip.compress(data) if suffix else data)
    result = read_idx(path)
    assert result.dtype == np.dtype(dtype)
    assert result.dtype.isnative
    assert result.flags.writeable
    np.testing.assert_array_equal(result, values)


def test_bytes_written_by_hand(tmp_path):
    path = write(tmp_path / "labels", b"\0\0\x08\x01\0\0\0\x03\x05\x00\xff")
    np.testing.assert_array_equal(read_idx(str(path)), np.array([5, 0, 255], np.uint8))
    path = write(tmp_path / "shorts", b"\0\0\x0b\x02\0\0\0\x01\0\0\0\x02\x01\x00\xff\xfe")
    np.testing.assert_array_equal(read_idx(path), np.array([[256, -2]], np.int16))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_empty_array_keeps_its_shape(tmp_path, suffix):
    data = idx_bytes(np.empty((0, 28, 28), np.uint8))
    path = write(tmp_path / f"a{suffix}", gzip.compress(data) if suffix else data)
    assert read_idx(path).shape == (0, 28, 28)


def test_every_truncation_is_refused(tmp_path):
    data = idx_bytes(np.arange(6, dtype=np.int16).reshape(2, 3))
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"expected .* got") as caught:
            read_idx(write(tmp_path / "cut", data[:length]))
        assert "cut" in str(caught.value)


def test_every_truncation_inside_gzip_is_refused(tmp_path):
    data = idx_bytes(np.arange(6, dtype=np.int16).reshape(2, 3))
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"expected .* got"):
            read_idx(write(tmp_path / "cut.gz", gzip.compress(data[:length])))


def test_every_truncation_of_the_gzip_file_is_refused(tmp_path):
    data = gzip.compress(idx_bytes(np.arange(6, dtype=np.int16).reshape(2, 3)))
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"not gzip|damaged gzip|cut off"):
            read_idx(write(tmp_path / "cut.gz", data[:length]))


def test_the_numbers_of_a_truncation_are_named(tmp_path):
    path = write(tmp_path / "cut", idx_bytes(np.arange(40, dtype=np.uint8))[:-3])
    with pytest.raises(DataError, match="expected 40 bytes after the header, got 37"):
        read_idx(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("extra", [b"\0", b"x" * 5000])
def test_trailing_bytes_are_refused(tmp_path, suffix, extra):
    data = idx_bytes(np.arange(6, dtype=np.uint8)) + extra
    path = write(tmp_path / f"long{suffix}", gzip.compress(data) if suffix else data)
    with pytest.raises(DataError, match="expected the file to end after the 6 bytes"):
        read_idx(path)


def test_bytes_behind_the_gzip_member_are_refused(tmp_path):
    path = write(tmp_path / "a.gz", gzip.compress(idx_bytes(np.arange(6, dtype=np.uint8))) + b"junk")
    with pytest.raises(DataError, match="damaged gzip"):
        read_idx(path)


@pytest.mark.parametrize(
    "magic",
    [b"\x01\0\x08\x01", b"\0\x01\x08\x01", b"\0\0\x0a\x01", b"\0\0\0\x01", b"\0\0\x08\0", b"\0\0\x08\x09", b"\x89PNG"],
)
def test_a_wrong_magic_is_refused_with_its_bytes(tmp_path, magic):
    path = write(tmp_path / "a", magic + bytes(64))
    with pytest.raises(DataError, match=f"is not IDX: .* got {magic.hex(' ')}"):
        read_idx(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "shape", [(2**32 - 1,) * 3, (2**32 - 1,) * 8, (0, 2**32 - 1, 2**32 - 1), (2**32 - 1, 2), (2**31, 2, 1, 1, 2)]
)
def test_absurd_dimensions_are_refused_before_any_allocation(tmp_path, shape, suffix):
    data = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(100)
    path = write(tmp_path / f"a{suffix}", gzip.compress(data) if suffix else data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"promises .*more than the limit of 4294967296 bytes"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("", "expected 1073741824 bytes after the header, got at most 112"),
        (".gz", "would grow from [0-9]+ to 1073741824 bytes, more than 100-fold: unpack it yourself with gunzip"),
    ],
)
def test_a_promise_that_the_file_cannot_hold_is_refused_before_any_allocation(tmp_path, suffix, message):
    data = struct.pack(">BBBB2I", 0, 0, 8, 2, 2**15, 2**15) + bytes(100)  # a gigabyte, below the limit
    path = write(tmp_path / f"a{suffix}", gzip.compress(data) if suffix else data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_packed_promise_beyond_the_data_is_refused_by_its_numbers(tmp_path):
    path = write(tmp_path / "a.gz", gzip.compress(idx_bytes(np.zeros(2**24, np.uint8))[:-5]))
    with pytest.raises(DataError, match="expected 16777216 bytes after the header, got 16777211"):
        read_idx(path)


def test_what_is_always_unpacked_and_what_grows_too_much(tmp_path, monkeypatch):
    """In 60 bytes lie 1000."""
    path = write(tmp_path / "a.gz", gzip.compress(idx_bytes(np.zeros(1000, np.uint8)), 9))
    size = path.stat().st_size
    monkeypatch.setattr(limits, "ALWAYS_UNPACKED", 1000)
    monkeypatch.setattr(limits, "COMPRESSION", 1)
    assert read_idx(path).shape == (1000,)
    monkeypatch.setattr(limits, "ALWAYS_UNPACKED", 999)
    with pytest.raises(DataError, match=f"would grow from {size} to 1000 bytes, more than 1-fold"):
        read_idx(path)
    monkeypatch.setattr(limits, "COMPRESSION", 1000 // size + 1)
    assert read_idx(path).shape == (1000,)


def test_a_blank_set_of_pictures_is_no_bomb(tmp_path):
    """MNIST's test part without a stroke shrinks to a thousandth."""
    data = gzip.compress(idx_bytes(np.zeros((10_000, 28, 28), np.uint8)), 9)
    assert len(data) < 10_000
    assert not read_idx(write(tmp_path / "blank.gz", data)).any()


def test_several_gzip_members_are_one_file_and_zeros_may_follow(tmp_path):
    data = idx_bytes(np.arange(6, dtype=np.int16))
    members = b"".join(gzip.compress(data[start : start + 5]) for start in range(0, len(data), 5))
    for content in (members, gzip.compress(b"") * 3 + members, members + bytes(512)):  # tapes pad with zeros
        assert read_idx(write(tmp_path / "a.gz", content)).tolist() == [0, 1, 2, 3, 4, 5]


def test_the_limit_itself_is_allowed(tmp_path, monkeypatch):
    path = write(tmp_path / "a", idx_bytes(np.arange(8, dtype=np.int16).reshape(8, 1)))
    monkeypatch.setattr(limits, "DATA_BYTES", 16)
    assert read_idx(path).ravel().tolist() == list(range(8))
    monkeypatch.setattr(limits, "DATA_BYTES", 15)
    with pytest.raises(DataError, match="limit of 15 bytes"):
        read_idx(path)


def test_the_most_compressible_file_is_not_refused(tmp_path):
    data = gzip.compress(idx_bytes(np.zeros(2**24, np.uint8)), 9)
    assert len(data) < 2**24 / 1000
    result = read_idx(write(tmp_path / "zeros.gz", data))
    assert result.shape == (2**24,)
    assert not result.any()


def test_a_gzip_bomb_is_refused_in_little_memory(tmp_path):
    bomb = gzip.compress(idx_bytes(np.arange(6, dtype=np.uint8)) + bytes(2**26), 9)  # 64 MiB behind 6 bytes
    path = write(tmp_path / "bomb.gz", bomb)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="got more"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_plain_file_named_gz_is_refused(tmp_path):
    path = write(tmp_path / "a.gz", idx_bytes(np.arange(6, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"is not gzip.*take \.gz off its name"):
        read_idx(path)


@pytest.mark.parametrize("place", [-6, -2, 30])
def test_a_damaged_gzip_is_refused(tmp_path, place):
    rng = np.random.default_rng(0)
    data = bytearray(gzip.compress(idx_bytes(rng.integers(0, 256, 500).astype(np.uint8))))
    data[place] ^= 0xFF  # its checksum, its length, its body
    with pytest.raises(DataError, match="damaged gzip file"):
        read_idx(write(tmp_path / "a.gz", bytes(data)))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere cannot be read \(No such file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_random_damage_never_raises_anything_else(tmp_path):
    rng = np.random.default_rng(1)
    values = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    plain = idx_bytes(values)
    for name, data in (("a", plain), ("a.gz", gzip.compress(plain))):
        for _ in range(300):
            damaged = bytearray(data)
            damaged[rng.integers(len(data))] = rng.integers(256)
            try:
                result = read_idx(write(tmp_path / name, bytes(damaged)))
            except DataError:
                continue
            assert math.prod(result.shape) * result.itemsize == 60


def test_a_folder_that_may_not_be_searched_is_refused(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=rf"{tmp_path} cannot be read \(Permission denied\): check the path and its"):
        find_parts(tmp_path)


def test_the_memory_for_numbers_of_many_bytes_is_taken_once(tmp_path):
    path = write(tmp_path / "a", idx_bytes(np.arange(2**20, dtype=np.float64)))  # 8 MiB
    tracemalloc.start()
    try:
        assert read_idx(path)[-1] == 2**20 - 1
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()

"""Damaged data files of every kind, and bombs: each is refused by name, or loads as a valid data set."""

import gzip
import io
import struct
import zipfile
import zlib
from contextlib import suppress
from functools import partial

import numpy as np
import polars as pl
import pytest
from hypothesis import strategies as st
from xpnn import nn
from xpnn.backends import DataError, XpnnError
from xpnn.nn.datasets import read_idx
from xpnn.nn.datasets.idx_folder import PARTS
from xpnn.nn.files.text import is_plain
from xpnn.nn.pictures.digit_images import load_digit

from .conftest import MOST_MEMORY
from .mutations import mutated
from .valid_data import (
    ARCHIVES,
    CSV_TOKENS,
    GZIP_TOKENS,
    IDX_FOLDERS,
    IDX_TOKENS,
    NPY_TOKENS,
    PARQUET_TOKENS,
    TABLES,
    ZIP_TOKENS,
    npy_bytes,
    picture_bytes,
    zip_bytes,
)
from .watch import MIB, Watch


def assert_valid(data):
    """What training relies on."""
    assert data.name
    assert all(map(is_plain, data.notes))
    for split in (data.train, data.test):
        assert split.images.shape == (len(split), data.inputs.width)
        assert min(split.images.shape) > 0
        assert split.images.dtype in (np.uint8, np.float32, np.float64)
        assert split.images.dtype.isnative
        features = data.inputs.features(split.images, "float32")  # of tables, whose cells may be missing
        assert features.shape == (len(split), data.features)
        assert np.isfinite(features).all()
        if not data.class_names:  # the label of a table is a number
            assert split.labels.shape == (len(split), data.num_outputs)
            assert np.isfinite(split.labels).all()
            continue
        assert split.labels.shape == (len(split),)
        assert split.labels.dtype == np.int64
        assert split.labels.min() >= 0
        assert split.labels.max() < data.num_classes
    assert len(set(data.class_names)) == data.num_classes
    assert data.image_shape is None or np.prod(data.image_shape) == data.features


@st.composite
def one_of_four(draw, suffix):
    """Draw one damaged file of a folder's four; the folder `0-3` is the first, with its last file damaged."""
    folder, part = draw(st.integers(0, len(IDX_FOLDERS) - 1)), draw(st.integers(0, 3))
    content = IDX_FOLDERS[folder][part]
    if not suffix:
        content = draw(mutated(content, IDX_TOKENS))
    elif draw(st.booleans()):  # behind the checksum
        content = gzip.compress(draw(mutated(content, IDX_TOKENS)), mtime=0)
    else:
        content = draw(mutated(gzip.compress(content, mtime=0), GZIP_TOKENS))
    return f"{folder}-{part}/{PARTS[part]}{suffix}", content


@pytest.mark.parametrize(("suffix", "what"), [("", "IDX"), (".gz", "IDX in gzip")])
def test_idx(damage, show, tmp_path, suffix, what):
    for number, folder in enumerate(IDX_FOLDERS):
        for damaged in range(4):
            place = tmp_path / f"{number}-{damaged}"
            place.mkdir()
            for part, content in zip(PARTS, folder, strict=True):
                (place / f"{part}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
            assert_valid(nn.load_dataset(place))

    def load(path):
        with suppress(XpnnError):
            read_idx(path)
        return nn.load_dataset(path.parent)

    show(5, f"mutations of {what}", str(damage(15_000, one_of_four(suffix), load, assert_valid)))


@st.composite
def archives(draw, compression):
    members = draw(st.sampled_from(ARCHIVES))
    if draw(st.booleans()):
        return "a.npz", draw(mutated(zip_bytes(members, compression), ZIP_TOKENS))
    name = draw(st.sampled_from(sorted(members)))  # behind the checksum
    return "a.npz", zip_bytes(members | {name: draw(mutated(members[name], NPY_TOKENS))}, compression)


@pytest.mark.parametrize(
    ("compression", "what"), [(zipfile.ZIP_STORED, ".npz, stored"), (zipfile.ZIP_DEFLATED, ".npz, compressed")]
)
def test_npz(damage, show, compression, what):
    show(5, f"mutations of {what}", str(damage(10_000, archives(compression), nn.load_dataset, assert_valid)))


@st.composite
def tables(draw):
    """Draw a damaged text table, some of them packed."""
    name, content = (
        draw(st.sampled_from(("a.csv", "a.csv", "a.tsv", "a.csv.gz", "a.zip"))),
        draw(st.sampled_from(TABLES)),
    )
    if name.endswith(("csv", "tsv")):
        return name, draw(mutated(content, CSV_TOKENS))
    pack = partial(gzip.compress, mtime=0) if name.endswith(".gz") else lambda text: zip_bytes({"a.csv": text}, 8)
    if draw(st.booleans()):  # behind the checksum
        return name, pack(draw(mutated(content, CSV_TOKENS)))
    return name, draw(mutated(pack(content), GZIP_TOKENS if name.endswith(".gz") else ZIP_TOKENS))


def test_text_tables(damage, show):
    show(5, "mutations of .csv, .tsv, .gz and .zip", str(damage(15_000, tables(), nn.load_dataset, assert_valid)))


def test_parquet(damage, show):
    """Few of them: each starts a process, which decodes it."""
    frame = pl.DataFrame({"a": [0.5 * k for k in range(9)], "b": ["x", "y", None] * 3, "label": [0, 1, 2] * 3})
    file = io.BytesIO()
    frame.write_parquet(file, compression="uncompressed")
    files = mutated(file.getvalue(), PARQUET_TOKENS).map(lambda content: ("a.parquet", content))
    show(5, "mutations of .parquet", str(damage(300, files, nn.load_dataset, assert_valid, slice=12)))


def test_pictures(damage, show):
    def check(row):
        assert row.shape == (64,)
        assert row.dtype == np.uint8
        assert row.max() <= 16

    files = st.sampled_from(picture_bytes()).flatmap(mutated).map(lambda content: ("digit", content))
    seen = damage(5_000, files, lambda path: load_digit(path, image_shape=(8, 8), largest=16), check)
    show(5, "mutations of pictures", str(seen))


def deflated(start, length):
    """Deflate `start` and that many MiB of zeros, one MiB a thousand times: content, checksum, and size of all that."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = [packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)]
    pieces += [packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)] * length
    checksum = zlib.crc32(start)
    for _ in range(length):
        checksum = zlib.crc32(bytes(MIB), checksum)
    return b"".join(pieces) + packer.flush(), checksum, len(start) + length * MIB


def idx_bomb(path, length):
    content, checksum, size = deflated(struct.pack(">BBBB2I", 0, 0, 8, 2, length, MIB), length)
    path.write_bytes(b"\x1f\x8b\x08" + bytes(7) + content + struct.pack("<II", checksum, size % 2**32))


def npz_bomb(path, length):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (length, MIB)})
    content, checksum, size = deflated(header.getvalue(), length)
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("images.npy")
        archive.writestr(info, content)
        info.compress_type, info.CRC, info.file_size = zipfile.ZIP_DEFLATED, checksum, size  # for the closing table
        archive.writestr("labels.npy", npy_bytes(np.arange(length) % 2))


@pytest.fixture
def unpacked(monkeypatch):
    """How many bytes came out of compressed files, one number for each time that some were asked for."""
    counts = []
    for kind in (gzip.GzipFile, zipfile.ZipExtFile):

        def read(self, *args, original=kind.read):
            content = original(self, *args)
            counts.append(len(content))
            return content

        monkeypatch.setattr(kind, "read", read)
    return counts


@pytest.mark.parametrize(
    ("name", "make", "load", "most"),
    [("a.gz", idx_bomb, read_idx, 12), ("a.npz", npz_bomb, nn.load_dataset, 0)],  # 12 bytes are IDX's header
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, show, unpacked, name, make, load, most):
    path = tmp_path / name
    make(path, 8)  # a small one, which is always unpacked, is well made
    load(path)
    assert sum(unpacked) > 8 * MIB
    unpacked.clear()

    make(path, 1024)
    assert path.stat().st_size < 1.2 * MIB
    watch = Watch()
    watch.load(load, path, lambda _: pytest.fail("it was loaded"))
    assert sum(unpacked) == most
    assert watch.memory < MOST_MEMORY
    with pytest.raises(DataError, match=r"would grow from \d+ to 10737\d+ bytes, more than 100-fold"):
        load(path)
    show(5, f"bomb of 1 GiB, {path.suffix}", f"refused, {most} bytes unpacked, at most {watch.memory / MIB:.0f} MiB")

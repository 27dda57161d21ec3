"""Damaged data files of every kind, and bombs: each is refused by name, or loads as a valid data set."""

import gzip
import io
import json
import struct
import zipfile
import zlib
from contextlib import suppress
from functools import partial

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st
from xpnn import nn
from xpnn.backends import DataError, XpnnError
from xpnn.nn.cli.app import xpnn
from xpnn.nn.datasets import read_idx
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
    NIST_FOLDERS,
    NPY_FOLDERS,
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
def packed(draw, content, tokens, pack, pack_tokens):
    """Draw a damaged file within a packed one; half of the damage is behind the checksum."""
    if draw(st.booleans()):
        return pack(draw(mutated(content, tokens)))
    return draw(mutated(pack(content), pack_tokens))


gzipped = partial(gzip.compress, mtime=0)


@st.composite
def one_file(draw, folders, damaged):
    """Draw one damaged file of a folder; the folder `0-labels.npy` is the first, of which that file is damaged."""
    number = draw(st.integers(0, len(folders) - 1))
    name = draw(st.sampled_from(sorted(folders[number])))
    return f"{number}-{name}/{name}", draw(damaged(folders[number][name]))


def write_folders(place, folders, pack=bytes):
    """Write each folder as many times as it has files, and check that it can be loaded."""
    for number, files in enumerate(folders):
        for damaged in files:
            folder = place / f"{number}-{damaged}"
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(pack(content))
            assert_valid(nn.load_dataset(folder))


def load_folder(path):
    return nn.load_dataset(path.parent)


def load_idx(path):
    with suppress(XpnnError):
        read_idx(path)
    return load_folder(path)


@pytest.mark.parametrize(
    ("what", "folders"), [("IDX", IDX_FOLDERS), ("IDX of EMNIST and QMNIST", NIST_FOLDERS)], ids=["MNIST", "others"]
)
def test_idx(damage, tmp_path, what, folders):
    write_folders(tmp_path, folders)
    damage(what, one_file(folders, lambda content: mutated(content, IDX_TOKENS)), load_idx, assert_valid)


def test_idx_in_gzip(damage, tmp_path):
    folders = [{f"{name}.gz": content for name, content in files.items()} for files in IDX_FOLDERS]
    write_folders(tmp_path, folders, gzipped)
    files = one_file(folders, lambda content: packed(content, IDX_TOKENS, gzipped, GZIP_TOKENS))
    damage("IDX in gzip", files, load_idx, assert_valid)


def test_folders_of_npy(damage, tmp_path):
    write_folders(tmp_path, NPY_FOLDERS)
    files = one_file(NPY_FOLDERS, lambda content: mutated(content, NPY_TOKENS))
    damage("folders of .npy", files, load_folder, assert_valid)


@st.composite
def archives(draw, compression):
    members = draw(st.sampled_from(ARCHIVES))
    name = draw(st.sampled_from(sorted(members)))
    pack = lambda content: zip_bytes(members | {name: content}, compression)  # noqa: E731
    return "a.npz", draw(packed(members[name], NPY_TOKENS, pack, ZIP_TOKENS))


@pytest.mark.parametrize(
    ("compression", "what"), [(zipfile.ZIP_STORED, ".npz, stored"), (zipfile.ZIP_DEFLATED, ".npz, compressed")]
)
def test_npz(damage, compression, what):
    damage(what, archives(compression), nn.load_dataset, assert_valid)


def text_tables(name):
    return st.sampled_from(TABLES).flatmap(lambda text: mutated(text, CSV_TOKENS)).map(lambda text: (name, text))


def test_text_tables(damage):
    files = st.one_of(text_tables("a.csv"), text_tables("a.tsv"))
    damage(".csv and .tsv", files, nn.load_dataset, assert_valid)


@pytest.mark.parametrize(
    ("name", "pack", "tokens"),
    [("a.csv.gz", gzipped, GZIP_TOKENS), ("a.zip", lambda text: zip_bytes({"a.csv": text}, 8), ZIP_TOKENS)],
    ids=["gz", "zip"],
)
def test_packed_tables(damage, name, pack, tokens):
    files = st.sampled_from(TABLES).flatmap(lambda text: packed(text, CSV_TOKENS, pack, tokens))
    damage(
        f".csv in {name[name.rindex('.') :]}", files.map(lambda content: (name, content)), nn.load_dataset, assert_valid
    )


def test_rows_to_predict(damage, tmp_path):
    """Of a network that was trained on a number and a category."""
    data = tmp_path / "training.csv"
    data.write_text("size,hue,label\n" + "".join(f"{k},{['red', 'blue'][k % 2]},{k % 3}\n" for k in range(12)))
    trained = nn.load_dataset(data)
    net = nn.MLP([trained.features, 4, 3], backend="numpy")
    nn.train(net, trained, epochs=1)
    model = tmp_path / "model.safetensors"
    nn.save(net, model)

    def predict(path):
        result = CliRunner().invoke(xpnn, ["predict", str(model), str(path), "--backend", "numpy", "--proba", "--json"])
        if result.exit_code == 2:
            raise DataError(result.stderr.removesuffix("\n"))
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["predictions"]

    def check(answers):
        assert answers
        for answer in answers:
            (*probabilities,) = (value for name, value in answer.items() if name.startswith("probability of "))
            assert sum(probabilities) == pytest.approx(1, abs=1e-6)
            assert answer["label"] in (0, 1, 2, "0", "1", "2")

    rows = b"hue,Id,size\n" + b"".join(
        b"%s,%d,%d.5\n" % (hue, k, k) for k, hue in enumerate([b"red", b"blue", b""] * 2)
    )
    files = mutated(rows, [*CSV_TOKENS, b"size", b"hue", b"red"]).map(lambda content: ("rows.csv", content))
    damage("rows for xpnn predict", files, predict, check)


def test_parquet(damage):
    frame = pl.DataFrame({"a": [0.5 * k for k in range(9)], "b": ["x", "y", None] * 3, "label": [0, 1, 2] * 3})
    file = io.BytesIO()
    frame.write_parquet(file, compression="uncompressed")
    files = mutated(file.getvalue(), PARQUET_TOKENS).map(lambda content: ("a.parquet", content))
    damage(".parquet", files, nn.load_dataset, assert_valid)


def test_pictures(damage):
    def check(row):
        assert row.shape == (64,)
        assert row.dtype == np.uint8
        assert row.max() <= 16

    files = st.sampled_from(picture_bytes()).flatmap(mutated).map(lambda content: ("digit", content))
    damage("pictures", files, lambda path: load_digit(path, image_shape=(8, 8), largest=16), check)


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

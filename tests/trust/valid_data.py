"""Small valid data files of every kind, and what means something in them: what damage is done to."""

import gzip
import io
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from xpnn.nn.datasets.idx_folder import PARTS

IMAGES = np.arange(6 * 12, dtype=np.uint8).reshape(6, 3, 4)
FLOATS = (IMAGES / 8).astype(">f4")
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)
CODES = {"u1": 0x08, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D}


def idx_bytes(values):
    """Write an array as IDX."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, CODES[values.dtype.str[1:]], values.ndim, *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


IDX_FOLDERS = [
    dict(zip(PARTS, map(idx_bytes, arrays), strict=True))
    for arrays in (
        (IMAGES, LABELS, IMAGES[:2], LABELS[:2]),
        (FLOATS, LABELS.astype("i4"), FLOATS[:2], LABELS[:2].astype("i2")),
    )
]
NIST_LABELS = np.stack([LABELS, *[LABELS + k for k in range(7)]], axis=1).astype("i4")
NIST_FOLDERS = [
    {
        f"emnist-letters-{part}-{name}": idx_bytes(values)
        for part, rows in (("train", slice(6)), ("test", slice(2)))
        for name, values in (("images-idx3-ubyte", IMAGES[rows]), ("labels-idx1-ubyte", LABELS[rows] + np.uint8(1)))
    },
    {
        f"qmnist-{part}-{name}": idx_bytes(values)
        for part, rows in (("train", slice(6)), ("test", slice(2)))
        for name, values in (("images-idx3-ubyte", IMAGES[rows]), ("labels-idx2-int", NIST_LABELS[rows]))
    },
]
IDX_TOKENS = [b"\0\0\x08\1", b"\0\0\x08\3", b"\0\0\x0d\3", b"\0\0\x0e\1", b"\0\0\0\6", b"\0\0\x0b\x08"]
GZIP_TOKENS = [b"\x1f\x8b\x08", b"\x1f\x8b\x08\x1c", gzip.compress(b""), gzip.compress(bytes(1000)), bytes(8)]


def npy_bytes(values):
    """Write an array as .npy."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def zip_bytes(members, compression):
    """Write contents by their names as a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


ARCHIVES = [  # the members of each
    {"images.npy": npy_bytes(IMAGES), "labels.npy": npy_bytes(LABELS)},
    {"X.npy": npy_bytes(np.asfortranarray(IMAGES.reshape(6, 12) / 8)), "y.npy": npy_bytes(np.array(list("abcabc")))},
    {
        "x_train.npy": npy_bytes(IMAGES),
        "y_train.npy": npy_bytes(np.array([b"a", b"b", b"c"] * 2)),
        "x_test.npy": npy_bytes(IMAGES[:3].astype(">i8")),
        "y_test.npy": npy_bytes(np.array([b"a", b"b", b"c"])),
    },
]
NPY_FOLDERS = [  # whose last rows are held out
    {"images.npy": npy_bytes(np.tile(IMAGES, (2, 1, 1))), "labels.npy": npy_bytes(np.tile(LABELS, 2))},
    {
        "X.npy": npy_bytes(np.asfortranarray(np.arange(48).reshape(12, 4) / 8)),
        "y.npy": npy_bytes(np.array(list("abc" * 4))),
    },
    ARCHIVES[2],
]
NPY_TOKENS = [
    *(b"\x93NUMPY\1\0", b"\x93NUMPY\2\0", b"\x93NUMPY\3\0", b"'descr': '|O'", b"'shape': (", b"True", b"False"),
    *(b"'|b1'", b"'<U9'", b"'<f4'", b"'S0'", b"'T'", b"'V8'", b"'M8[s]'", b"[('a', '<i4')]", b"('<i4', (3,))"),
    *(b"(" * 90, b"-" * 500, b"9" * 30, b"0x" + b"f" * 9000, b"-1, ", b"6, ", b"0, ", b"}", b"\\", b"L, ", b"#"),
]
ZIP_TOKENS = [
    *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"images", b"labels", b".npy", b"y", b"\x08\0", b"\x0e\0"),
    b"\1\0\x10\0" + b"\xff" * 16,  # two sizes of 64 bits
]

TABLES = [
    b"label,a,b\n" + b"".join(b"%d,%d,%d\n" % (row % 3, row, 2 * row) for row in range(9)),
    b'\xef\xbb\xbfsize,"label",hue\r\n1.5,"a, b",-2\r\n2.5, dog ,1e3\r\n\r\n3.5,"a, b",0\r\n4.5,dog,7.\r\n',
    "a,label\n1,é\n2,日本\n3,é\n4,日本\n".encode(),
    b"Id;day;on;price\n"
    + b"".join(b"%d;2026-01-%02d;%s;%d,5\n" % (k, k, [b"True", b""][k % 2], k * k) for k in range(1, 9)),
]
CSV_TOKENS = [
    *(
        b",",
        b'"',
        b'""',
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b" ",
    ),
    *(b"nan", b"inf", b"-", b"1e999", b"0x1p3", b"1_0", b"9" * 400, b"," * 300, b"x" * 140_000, b"\x1b[2J", b"label"),
]
PARQUET_TOKENS = [
    b"PAR1",
    b"schema",
    b"ARROW:schema",
    b"label",
    b"\xff\xff\xff\x7f",
    b"\x15\x00",
    b"\x19\x4c",
    b"\x28\xb5\x2f\xfd",
]


def picture_bytes():
    """Write a bright stroke on black, and a dark one on white, in every format that is read, as far as it can."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    levels = np.zeros((20, 14), np.uint8)
    levels[3:17, 6:8] = np.arange(200, 228).reshape(14, 2)
    found = []
    for kind in ("png", "jpeg", "gif", "bmp", "ppm", "tiff", "webp"):
        for mode in ("L", "RGB", "P"):
            file = io.BytesIO()
            with suppress(OSError):
                image.fromarray(levels if mode == "L" else 255 - levels).convert(mode).save(file, kind)
                found.append(file.getvalue())
    return found

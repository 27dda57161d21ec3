"""What is opened: an ordinary file and nothing else."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from xpnn.backends import DataError
from xpnn.nn import load_dataset
from xpnn.nn.datasets import read_idx
from xpnn.nn.files.data_file import fill, opened, refuse_growth
from xpnn.nn.pictures.digit_images import load_digit

READERS = {
    "a": read_idx,
    "a.gz": read_idx,
    "a.npz": load_dataset,
    "a.csv": load_dataset,
    "a.png": lambda path: load_digit(path, image_shape=(8, 8)),
}


@pytest.fixture(params=READERS)
def reader(request, tmp_path):
    """A reader of files, and the path of one that is not there."""
    if request.param == "a.png":
        pytest.importorskip("PIL", reason="Pillow is not installed")
    return READERS[request.param], tmp_path / request.param


def test_content_and_size(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    with opened(tmp_path / "a") as (file, size):
        assert (file.read(), size) == (b"four", 4)
    assert file.closed


def test_a_missing_file_is_refused(tmp_path):
    with (
        pytest.raises(DataError, match=r"a cannot be read \(No such file or directory\): check the path"),
        opened(tmp_path / "a"),
    ):
        pytest.fail("it was opened")
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\)"), opened(tmp_path / ("a" * 300)):
        pytest.fail("it was opened")
    with pytest.raises(DataError, match=r"cannot be read \(.*embedded null.*\)"), opened(Path("a\0b")):
        pytest.fail("it was opened")


def test_a_folder_is_refused(reader, monkeypatch):
    load, path = reader
    path.mkdir()
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(DataError, match=r"cannot be read \(it is a folder\): name an|must hold the four IDX files"):
        load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_before_it_is_opened(reader, monkeypatch):
    """Opening it would wait for somebody to write."""
    load, path = reader
    os.mkfifo(path)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(DataError, match=r"cannot be read \(it is a pipe, a socket or a device\)"):
        load(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_an_endless_device_is_refused_even_by_another_name(reader):
    load, path = reader
    path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"cannot be read \(it is a pipe, a socket or a device\)"):
        load(path)


@pytest.mark.parametrize("reason", [errno.EACCES, errno.ENOENT, errno.ELOOP])
def test_a_file_that_may_not_be_read_or_has_just_vanished_is_refused(reader, monkeypatch, reason):
    load, path = reader
    path.write_bytes(b"something")

    def refuse(*_, **__):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=rf"cannot be read \({os.strerror(reason)}\): check the path and its rights"):
        load(path)


def test_what_the_system_says_while_a_file_is_read_names_the_file(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match=r"a cannot be read \(Input/output error\)"), opened(tmp_path / "a"):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(DataError, match=r"a is too much for this machine's memory \(64 GiB\)"), opened(tmp_path / "a"):
        raise MemoryError("64 GiB")


def test_how_much_a_file_may_become():
    for size, most in ((0, 2**24), (160_000, 2**24), (200_000, 20_000_000)):
        refuse_growth(Path("a.gz"), size, most, remedy="unpack it")
        with pytest.raises(DataError, match=f"grow from {size} to {most + 1} bytes, more than 100-fold: unpack it"):
            refuse_growth(Path("a.gz"), size, most + 1, remedy="unpack it")


@pytest.mark.parametrize("length", [0, 1, 2**18 // 4, 2**18 // 4 + 1, 200_000])
def test_an_array_is_filled_as_far_as_the_file_reaches(tmp_path, length):
    written = np.arange(100_000, dtype="<u4")
    (tmp_path / "a").write_bytes(written.tobytes())
    values = np.full(length, 7, "<u4")
    with opened(tmp_path / "a") as (file, _):
        assert fill(values, file) == 4 * min(length, 100_000)
    np.testing.assert_array_equal(values[:100_000], written[:length])
    assert (values[100_000:] == 7).all()

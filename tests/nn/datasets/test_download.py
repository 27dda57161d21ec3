"""Downloads, from mirrors played by a server on this machine."""

import errno
import gzip
import hashlib
import os
import re
import struct
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import trustme
from xpnn.backends.errors import DataError, MissingDependency, StorageError
from xpnn.nn.datasets import download, mnist
from xpnn.nn.datasets.download import cache_folder, fetch
from xpnn.nn.datasets.mnist import MNIST, load_source

from ...trust.mirrors import FAR, REASONS, Mirrors

pytest.importorskip("pooch", reason="pooch is not installed")


def idx_gz(values):
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes())


RNG = np.random.default_rng(0)
ARRAYS = [
    RNG.integers(0, 256, (20, 4, 4)).astype(np.uint8),
    (np.arange(20) % 10).astype(np.uint8),
    RNG.integers(0, 256, (10, 4, 4)).astype(np.uint8),
    np.arange(10, dtype=np.uint8),
]
FILES = {name: idx_gz(values) for name, values in zip(MNIST.sha256, ARRAYS, strict=True)}
SUMS = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
FIRST = next(iter(FILES))


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server(authority, monkeypatch, tmp_path_factory):
    """A server whose certificate is trusted; no proxy, and no local files."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("XPNN_DATA", raising=False)
    certificate = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setattr(download, "DOWNLOAD_BYTES", 2**20)
    with Mirrors(FILES, authority) as running:
        yield running


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def test_files_are_fetched_in_order_and_only_once(server, tmp_path):
    for _ in range(2):
        paths = fetch(SUMS, mirrors=(server.url("good"), server.url("wrong")), folder=tmp_path / "cache")
        assert paths == [tmp_path / "cache" / name for name in FILES]
        assert contents(tmp_path / "cache") == FILES
    assert server.requests == [("good", name) for name in FILES]


@pytest.mark.parametrize("kind", REASONS)
def test_a_bad_file_is_refused_with_its_reason_and_not_kept(server, tmp_path, monkeypatch, kind):
    (tmp_path / FIRST).write_bytes(b"damaged")
    if kind == "hanging":
        monkeypatch.setattr(download, "TIMEOUT_SECONDS", (30.0, 0.2))
    with pytest.raises(DataError) as caught:
        fetch(SUMS, mirrors=(server.url(kind),), folder=tmp_path)
    url = re.escape(server.url(kind) + FIRST)
    assert re.match(rf"{FIRST} could not be downloaded \({url}: {REASONS[kind]}", str(caught.value))
    assert str(caught.value).isprintable()
    assert contents(tmp_path) == {FIRST: b"damaged"}


@pytest.mark.parametrize("kind", ["wrong", "cut", "missing", "to-http"])
def test_the_next_mirror_is_taken_and_the_log_says_why(server, tmp_path, caplog, kind):
    caplog.set_level("INFO", logger="xpnn")
    (tmp_path / FIRST).write_bytes(b"damaged")
    mirrors = server.url(kind), server.url("moved")
    assert fetch({FIRST: SUMS[FIRST]}, mirrors=mirrors, folder=tmp_path) == [tmp_path / FIRST]
    assert contents(tmp_path) == {FIRST: FILES[FIRST]}
    assert server.requests == [(each, FIRST) for each in (kind, "moved", "good")]
    first, second = [record.getMessage() for record in caplog.records if record.name == "xpnn"]
    assert first == f"downloading {mirrors[0]}{FIRST}"
    assert re.match(rf"downloading {re.escape(mirrors[1] + FIRST)} \(.*: {REASONS[kind]}", second)


def test_an_address_that_is_not_https_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: pytest.fail("asked"))
    for address in (FAR, "ftp://127.0.0.1/", "file:///etc/", ""):
        with pytest.raises(DataError, match=re.escape(f"must be https, got {address + FIRST!r}")):
            fetch(SUMS, mirrors=(address,), folder=tmp_path)
    assert contents(tmp_path) == {}


def test_a_certificate_that_is_not_trusted(server, tmp_path, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch(SUMS, mirrors=(server.url(),), folder=tmp_path)
    assert server.requests == []
    assert contents(tmp_path) == {}


def test_a_mirror_that_is_not_there(authority, tmp_path):
    with Mirrors(FILES, authority) as gone:
        pass
    with pytest.raises(DataError, match="Connection refused"):
        fetch(SUMS, mirrors=(gone.url(),), folder=tmp_path)


def test_a_cache_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=f"{FIRST} cannot be kept: .*Not a directory"):
        fetch(SUMS, mirrors=(server.url(),), folder=tmp_path / "file" / "cache")


def test_a_full_disk(server, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / FIRST).write_bytes(b"half")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError) as caught:
        fetch(SUMS, mirrors=(server.url(),) * 2, folder=tmp_path)
    assert str(caught.value) == f"{FIRST} cannot be kept: cannot write {tmp_path / FIRST}: No space left on device"
    assert server.requests == [("good", FIRST)]  # no other mirror can help
    assert contents(tmp_path) == {FIRST: b"half"}


def test_the_file_of_another_process_is_as_good(server, tmp_path, monkeypatch):
    def too_late(path, content):
        path.write_bytes(content)
        raise StorageError("another process has it open")

    monkeypatch.setattr(download, "write_atomically", too_late)
    fetch(SUMS, mirrors=(server.url(),), folder=tmp_path)
    assert contents(tmp_path) == FILES


def test_what_a_killed_process_left_is_removed_an_hour_later(server, tmp_path):
    long_ago = time.time() - download.LEFTOVER_SECONDS - 1
    for name, age in {f".{FIRST}.0123abcd.tmp": long_ago, f".{FIRST}.4567cdef.tmp": None, "mine.tmp": long_ago}.items():
        (tmp_path / name).write_bytes(b"half")
        if age is not None:
            os.utime(tmp_path / name, (age, age))
    fetch(SUMS, mirrors=(server.url(),), folder=tmp_path)
    assert contents(tmp_path) == {**FILES, f".{FIRST}.4567cdef.tmp": b"half", "mine.tmp": b"half"}


@pytest.mark.parametrize(("terminal", "level"), [(True, "INFO"), (True, "WARNING"), (False, "INFO")])
def test_progress_is_shown_on_a_terminal_unless_the_log_is_silenced(
    server, tmp_path, monkeypatch, caplog, capsys, terminal, level
):
    caplog.set_level(level, logger="xpnn")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    fetch({FIRST: SUMS[FIRST]}, mirrors=(server.url(),), folder=tmp_path)
    assert ("100%" in capsys.readouterr().err) == (terminal and level == "INFO")


def test_a_named_data_set_is_downloaded_into_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path)
    data = load_source(replace(MNIST, mirrors=(server.url(),), sha256=SUMS))
    assert contents(tmp_path / "mnist") == FILES
    np.testing.assert_array_equal(data.train.images, ARRAYS[0].reshape(20, 16))
    np.testing.assert_array_equal(data.train.labels, ARRAYS[1])
    np.testing.assert_array_equal(data.test.images, ARRAYS[2].reshape(10, 16))
    np.testing.assert_array_equal(data.test.labels, ARRAYS[3])
    assert (data.name, data.class_names) == ("mnist", tuple("0123456789"))


def test_without_files_and_good_mirrors_the_way_out_is_named(server, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path)
    with pytest.raises(DataError) as caught:
        load_source(replace(MNIST, mirrors=(server.url("missing"),)))
    text = str(caught.value)
    assert text.startswith(f"mnist is in no local folder, and {FIRST} could not be downloaded ({server.url('missing')}")
    assert text.endswith("into a folder mnist, and name that folder or its parent by XPNN_DATA or --data")


def test_the_cache_is_that_of_the_operating_system(tmp_path, monkeypatch):
    assert "xpnn" in cache_folder().parts
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "xpnn"


def test_without_pooch_the_install_line_is_named(monkeypatch):
    monkeypatch.delenv("XPNN_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingDependency, match=r'pip install "xpnn\[cli\]"$'):
        load_source(MNIST)

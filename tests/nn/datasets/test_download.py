"""Downloads, from mirrors played by servers on this machine."""

import errno
import gzip
import hashlib
import multiprocessing
import os
import struct
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from xpnn.backends.errors import DataError, MissingDependency, StorageError
from xpnn.nn.datasets import download, mirror, mnist
from xpnn.nn.datasets.download import cache_folder, fetch
from xpnn.nn.datasets.mnist import MNIST, load_source

from ...trust.mirrors import Mirrors


class Mirror:
    """A server that gives out `files`, counts requests, and can hold the first ones until all of them are there."""

    def __init__(self, files, barrier=None):
        self.files, self.barrier, self.requests = files, barrier, []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, mirror, *args):
        self.mirror = mirror
        super().__init__(*args)

    def do_GET(self):
        name = self.path.removeprefix("/")
        self.mirror.requests.append(name)
        if self.mirror.barrier is not None and name == next(iter(self.mirror.files)):
            self.mirror.barrier.wait(timeout=60)
        body = self.mirror.files.get(name)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


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


@pytest.fixture(autouse=True)
def no_local_files(monkeypatch):
    monkeypatch.delenv("XPNN_DATA", raising=False)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def test_files_are_fetched_in_order_and_only_once(tmp_path):
    with Mirror(FILES) as first, Mirror(FILES) as second:
        for _ in range(2):
            paths = fetch(SUMS, mirrors=(first.url, second.url), folder=tmp_path / "cache")
            assert paths == [tmp_path / "cache" / name for name in FILES]
            assert contents(tmp_path / "cache") == FILES
    assert first.requests == list(FILES)
    assert second.requests == []


@pytest.mark.parametrize("wrong", [{FIRST: b"something else"}, {FIRST: FILES[FIRST][:-1]}, {FIRST: None}])
def test_a_bad_file_on_the_first_mirror_falls_to_the_second(tmp_path, wrong):
    with Mirror(FILES | wrong) as first, Mirror(FILES) as second:
        fetch(SUMS, mirrors=(first.url, second.url), folder=tmp_path)
    assert contents(tmp_path) == FILES
    assert first.requests == list(FILES)
    assert second.requests == [FIRST]


def test_a_download_is_logged_with_the_reason_for_the_next_mirror(tmp_path, caplog):
    caplog.set_level("INFO", logger="xpnn")
    (tmp_path / FIRST).write_bytes(b"half")
    with Mirror(FILES | {FIRST: None}) as first, Mirror(FILES) as second:
        for _ in range(2):  # nothing is downloaded, and nothing said, the second time
            fetch(SUMS, mirrors=(first.url, second.url), folder=tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        f"downloading {first.url}{FIRST} ({tmp_path / FIRST} is damaged)",
        f"downloading {second.url}{FIRST} ({first.url}: 404 Not Found)",
        *(f"downloading {first.url}{name}" for name in list(FILES)[1:]),
    ]


def test_a_mirror_that_does_not_answer_falls_to_the_second(tmp_path):
    with Mirror(FILES) as gone:
        pass
    with Mirror(FILES) as second:
        fetch(SUMS, mirrors=(gone.url, second.url), folder=tmp_path)
    assert contents(tmp_path) == FILES


def test_a_mirror_that_hangs_falls_to_the_second(tmp_path, monkeypatch):
    def patient_with_the_second(url, sha256):
        monkeypatch.setattr(mirror, "TIMEOUT_SECONDS", 0.1 if url.startswith(first.root) else 30)
        return get(url, sha256)

    get = mirror.download
    monkeypatch.setattr(mirror, "download", patient_with_the_second)
    with Mirrors(FILES[FIRST]) as first, Mirror(FILES) as second:
        fetch(SUMS, mirrors=(first.url("hanging-in-body"), second.url), folder=tmp_path)
    assert len(first.requests) == len(FILES)
    assert second.requests == list(FILES)
    assert contents(tmp_path) == FILES


@pytest.mark.parametrize("damaged", [b"half", b"", FILES[FIRST] + b"\0"])
def test_a_damaged_file_in_the_cache_is_replaced_by_a_verified_one_only(tmp_path, damaged):
    (tmp_path / FIRST).write_bytes(damaged)
    with Mirror({FIRST: b"wrong"}) as bad:
        with pytest.raises(DataError) as caught:
            fetch(SUMS, mirrors=(bad.url,), folder=tmp_path)
        assert f"({tmp_path / FIRST} is damaged; {bad.url}: got another file of 5 bytes" in str(caught.value)
        assert contents(tmp_path) == {FIRST: damaged}
        with Mirror(FILES) as good:
            fetch(SUMS, mirrors=(bad.url, good.url), folder=tmp_path)
    assert contents(tmp_path) == FILES


def test_when_all_mirrors_fail_the_cache_stays_clean(tmp_path):
    with Mirror(FILES) as gone:
        pass
    with Mirror({FIRST: b"wrong"}) as first, Mirror({}) as second:
        mirrors = (first.url, second.url, gone.url, "http://example.com/")
        with pytest.raises(DataError) as caught:
            fetch(SUMS, mirrors=mirrors, folder=tmp_path)
    digest = hashlib.sha256(b"wrong").hexdigest()
    assert str(caught.value) == (
        f"{FIRST} could not be downloaded ({first.url}: got another file of 5 bytes, with the SHA-256 {digest}; "
        f"{second.url}: 404 Not Found; {gone.url}: no connection (Connection refused); "
        f"http://example.com/: must be https, got 'http://example.com/{FIRST}')"
    )
    assert contents(tmp_path) == {}


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with Mirror(FILES) as server, pytest.raises(DataError) as caught:
        fetch(SUMS, mirrors=(server.url,), folder=tmp_path / "file" / "cache")
    folder = tmp_path / "file" / "cache"
    assert str(caught.value) == f"{FIRST} cannot be kept: cannot make {folder}: Not a directory"
    assert server.requests == []


def test_a_full_disk(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / FIRST).write_bytes(b"half")
    monkeypatch.setattr(os, "fsync", full)
    with Mirror(FILES) as server, pytest.raises(DataError) as caught:
        fetch(SUMS, mirrors=(server.url,) * 2, folder=tmp_path)
    assert str(caught.value) == f"{FIRST} cannot be kept: cannot write {tmp_path / FIRST}: No space left on device"
    assert server.requests == [FIRST]  # no other mirror can help
    assert contents(tmp_path) == {FIRST: b"half"}


def test_what_is_no_file_is_left_in_its_place(tmp_path):
    (tmp_path / FIRST).mkdir()
    with Mirror(FILES) as server, pytest.raises(DataError, match=f"{FIRST} cannot be kept: cannot write .*directory"):
        fetch(SUMS, mirrors=(server.url,), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FIRST]
    with pytest.raises(DataError, match=f"{FIRST} is no file"):
        fetch(SUMS, mirrors=("http://example.com/",), folder=tmp_path)


def test_the_file_of_another_process_is_as_good(tmp_path, monkeypatch):
    def too_late(path, content):
        path.write_bytes(content)
        raise StorageError("another process has it open")

    monkeypatch.setattr(download, "write_atomically", too_late)
    with Mirror(FILES) as server:
        fetch(SUMS, mirrors=(server.url,), folder=tmp_path)
    assert contents(tmp_path) == FILES


def test_what_a_killed_process_left_is_removed_an_hour_later(tmp_path):
    long_ago = time.time() - download.LEFTOVER_SECONDS - 1
    for name, age in {f".{FIRST}.0123abcd.tmp": long_ago, f".{FIRST}.4567cdef.tmp": None, "mine.tmp": long_ago}.items():
        (tmp_path / name).write_bytes(b"half")
        if age is not None:
            os.utime(tmp_path / name, (age, age))
    with Mirror(FILES) as server:
        fetch(SUMS, mirrors=(server.url,), folder=tmp_path)
    assert contents(tmp_path) == {**FILES, f".{FIRST}.4567cdef.tmp": b"half", "mine.tmp": b"half"}


def test_several_processes_at_once_leave_one_good_file_each(tmp_path):
    processes = 4
    # The first file is given out when all processes have asked for it, so that they really write at once.
    spawn = multiprocessing.get_context("spawn")
    with Mirror(FILES, threading.Barrier(processes)) as server, spawn.Pool(processes) as pool:
        call = partial(fetch, mirrors=(server.url,), folder=tmp_path)
        results = pool.map(call, [SUMS] * processes, chunksize=1)
        pool.close()
        pool.join()
    assert results == [[tmp_path / name for name in FILES]] * processes
    assert server.requests.count(FIRST) == processes
    assert contents(tmp_path) == FILES


def test_a_named_data_set_is_downloaded_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path)
    with Mirror(FILES) as server:
        source = replace(MNIST, mirrors=(server.url,), sha256=SUMS)
        data = load_source(source)
    assert contents(tmp_path / "mnist") == FILES
    np.testing.assert_array_equal(data.train.images, ARRAYS[0].reshape(20, 16))
    np.testing.assert_array_equal(data.train.labels, ARRAYS[1])
    np.testing.assert_array_equal(data.test.images, ARRAYS[2].reshape(10, 16))
    np.testing.assert_array_equal(data.test.labels, ARRAYS[3])
    assert (data.name, data.class_names) == ("mnist", tuple("0123456789"))


def test_without_files_and_good_mirrors_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path)
    with Mirror({}) as server, pytest.raises(DataError) as caught:
        load_source(replace(MNIST, mirrors=(server.url,)))
    text = str(caught.value)
    assert text.startswith(f"mnist is in no local folder, and {FIRST} could not be downloaded ({server.url}: 404 Not")
    assert text.endswith("into a folder mnist, and name that folder or its parent by XPNN_DATA or --data")


def test_the_cache_is_that_of_the_operating_system(tmp_path, monkeypatch):
    assert "xpnn" in cache_folder().parts
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "xpnn"


def test_without_platformdirs_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(MissingDependency, match=r'pip install "xpnn\[cli\]"$'):
        load_source(MNIST)

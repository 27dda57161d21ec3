"""Downloads, from mirrors played by servers on this machine."""

import gzip
import hashlib
import multiprocessing
import struct
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from xpnn.backends.errors import DataError, MissingDependency
from xpnn.nn.datasets import download, mnist
from xpnn.nn.datasets.download import cache_folder, fetch
from xpnn.nn.datasets.mnist import MNIST, load_source

pytest.importorskip("pooch", reason="needs pooch")


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
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
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


def test_a_download_is_logged_by_xpnn_and_not_by_pooch(tmp_path, caplog):
    import pooch

    caplog.set_level("INFO", logger="xpnn")
    logger, level = pooch.get_logger(), pooch.get_logger().level
    logger.addHandler(caplog.handler)
    logger.setLevel("INFO")  # as pooch has it by itself
    try:
        with Mirror(FILES) as mirror:
            for _ in range(2):  # nothing is downloaded, and nothing said, the second time
                fetch(SUMS, mirrors=(mirror.url,), folder=tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)
    assert [record.getMessage() for record in caplog.records] == [f"downloading {mirror.url}{name}" for name in FILES]
    assert {record.name for record in caplog.records} == {"xpnn"}


def test_a_mirror_that_does_not_answer_falls_to_the_second(tmp_path):
    with Mirror(FILES) as gone:
        pass
    with Mirror(FILES) as second:
        fetch(SUMS, mirrors=(gone.url, second.url), folder=tmp_path)
    assert contents(tmp_path) == FILES


def test_a_damaged_file_in_the_cache_is_replaced(tmp_path):
    (tmp_path / FIRST).write_bytes(b"half")
    with Mirror(FILES) as mirror:
        fetch(SUMS, mirrors=(mirror.url,), folder=tmp_path)
    assert contents(tmp_path) == FILES


def test_when_all_mirrors_fail_the_cache_stays_clean(tmp_path):
    with Mirror(FILES) as gone:
        pass
    with Mirror({FIRST: b"wrong"}) as first, Mirror({}) as second:
        mirrors = (first.url, second.url, gone.url)
        with pytest.raises(DataError) as caught:
            fetch(SUMS, mirrors=mirrors, folder=tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{FIRST} could not be downloaded ({first.url}: SHA256 hash")
    assert f"; {second.url}: 404 Client Error" in text
    assert text.endswith(f"; {gone.url}: no connection)")
    assert "\n" not in text
    assert contents(tmp_path) == {}


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with Mirror(FILES) as mirror, pytest.raises(DataError, match="could not be downloaded"):
        fetch(SUMS, mirrors=(mirror.url,), folder=tmp_path / "file" / "cache")


def test_several_processes_at_once_leave_one_good_file_each(tmp_path):
    processes = 4
    # The first file is given out when all processes have asked for it, so that they really write at once.
    spawn = multiprocessing.get_context("spawn")
    with Mirror(FILES, threading.Barrier(processes)) as mirror, spawn.Pool(processes) as pool:
        call = partial(fetch, mirrors=(mirror.url,), folder=tmp_path)
        results = pool.map(call, [SUMS] * processes, chunksize=1)
        pool.close()
        pool.join()
    assert results == [[tmp_path / name for name in FILES]] * processes
    assert mirror.requests.count(FIRST) == processes
    assert contents(tmp_path) == FILES


def test_a_timeout_is_set_on_every_request(tmp_path, monkeypatch):
    import requests

    timeouts = []
    get = requests.get

    def recording(*args, **options):
        timeouts.append(options["timeout"])
        return get(*args, **options)

    monkeypatch.setattr(requests, "get", recording)
    with Mirror(FILES) as mirror:
        fetch(SUMS, mirrors=(mirror.url,), folder=tmp_path)
    assert timeouts == [download.TIMEOUT_SECONDS] * 4


def test_a_named_data_set_is_downloaded_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path)
    with Mirror(FILES) as mirror:
        source = replace(MNIST, mirrors=(mirror.url,), sha256=SUMS)
        data = load_source(source)
    assert contents(tmp_path / "mnist") == FILES
    np.testing.assert_array_equal(data.train.images, ARRAYS[0].reshape(20, 16))
    np.testing.assert_array_equal(data.train.labels, ARRAYS[1])
    np.testing.assert_array_equal(data.test.images, ARRAYS[2].reshape(10, 16))
    np.testing.assert_array_equal(data.test.labels, ARRAYS[3])
    assert (data.name, data.class_names) == ("mnist", tuple("0123456789"))


def test_the_cache_is_that_of_the_operating_system():
    import pooch

    assert cache_folder() == pooch.os_cache("xpnn")
    assert "xpnn" in cache_folder().parts


def test_without_pooch_the_install_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingDependency, match=r'pip install "xpnn\[cli\]"$'):
        load_source(MNIST)
    with pytest.raises(MissingDependency, match=r'pip install "xpnn\[cli\]"$'):
        fetch(SUMS, mirrors=(), folder=tmp_path)

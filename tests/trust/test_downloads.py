"""Whatever the mirrors do, and whoever is killed, the cache holds verified files and nothing else."""

import hashlib
import multiprocessing
import os
import random
import re
import signal
import threading
from functools import partial

import pytest
import trustme
from xpnn.backends.errors import DataError
from xpnn.nn.datasets import download
from xpnn.nn.datasets.download import fetch

from .mirrors import REASONS, Mirrors

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")

RNG = random.Random(9)
NAME, BODY, DAMAGED = "file.gz", RNG.randbytes(200_000), RNG.randbytes(200_000)
SUMS = {NAME: hashlib.sha256(BODY).hexdigest()}
LOOK_SECONDS = 0.002
SPAWN = multiprocessing.get_context("spawn")
LIMITS = """
from xpnn.nn.datasets import download
download.DOWNLOAD_BYTES = 2**20
"""
KILL_BEFORE_RENAMING = """
import os, signal
from pathlib import Path
from xpnn.nn.datasets.download import fetch
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
fetch(sums, mirrors=mirrors, folder=folder)
"""


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """Whose certificates the downloads trust, here and in the processes that are started."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return made


class Watcher:
    """Looks again and again at what stands under a file's final name while it is downloaded."""

    def __init__(self, path, allowed):
        self.path, self.allowed, self.looks, self.bad = path, allowed, 0, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self.over.wait(LOOK_SECONDS):
            self.looks += 1
            self.bad += (self.path.read_bytes() if self.path.exists() else None) not in self.allowed

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_processes_at_once_with_mirrors_that_misbehave(tmp_path, authority, amount, show):
    processes, rounds, looks = amount(8, slice=2), amount(10, slice=1), 0
    kinds = [kind for kind in REASONS if kind != "hanging"]  # which takes its time
    # A file is given out when all processes have asked for it, so that they really write at once.
    barrier = threading.Barrier(processes)
    with Mirrors({NAME: BODY}, authority, barrier) as server, SPAWN.Pool(processes, exec, (LIMITS, {})) as pool:
        for k, kind in enumerate(kinds * rounds):
            for then_good in (False, True):
                folder = tmp_path / f"{k}-{then_good}"
                folder.mkdir()
                before = {NAME: DAMAGED} if k % 2 else {}
                for name, content in before.items():
                    (folder / name).write_bytes(content)
                mirrors = [server.url(kind), server.url()][: 1 + then_good]
                with Watcher(folder / NAME, {before.get(NAME), BODY} if then_good else {before.get(NAME)}) as watcher:
                    call = partial(pool.apply_async, fetch, (SUMS,), {"mirrors": mirrors, "folder": folder})
                    for each in [call() for _ in range(processes)]:
                        if then_good:
                            assert each.get(120) == [folder / NAME]
                        else:
                            with pytest.raises(DataError, match=REASONS[kind]):
                                each.get(120)
                assert watcher.bad == 0
                assert contents(folder) == ({NAME: BODY} if then_good else before)
                looks += watcher.looks
        pool.close()
        pool.join()
    assert looks > len(kinds)
    show(
        9,
        f"wrong sum, cut off, endless, missing, sent on to http; {processes} processes at once",
        f"{2 * len(kinds) * rounds * processes:,} downloads from {len(kinds)} kinds of bad mirror, 0 bad files in the "
        f"cache in {looks:,} looks, 0 temporary files; every refusal with its reason",
        section="downloads",
    )


def test_a_process_that_is_killed(tmp_path, authority, amount, show):
    times = amount(20, slice=1)
    with Mirrors({NAME: BODY}, authority) as server:
        for k in range(times):
            folder = tmp_path / str(k)
            folder.mkdir()
            (folder / NAME).write_bytes(DAMAGED)
            if amount(1, slice=0):
                call = partial(fetch, SUMS, mirrors=(server.url("hanging"),), folder=folder)
                killed(SPAWN.Process(target=call), server.hanging)
                assert contents(folder) == {NAME: DAMAGED}  # nothing is written before all is there and checked

            variables = {"sums": SUMS, "mirrors": (server.url(),), "folder": folder}
            killed(SPAWN.Process(target=exec, args=(KILL_BEFORE_RENAMING, variables)))
            (temporary,) = contents(folder).keys() - {NAME}
            assert re.fullmatch(rf"\.{NAME}\.[0-9a-f]{{8}}\.tmp", temporary)
            assert contents(folder)[NAME] == DAMAGED

            age = (folder / temporary).stat().st_mtime - download.LEFTOVER_SECONDS - 1
            os.utime(folder / temporary, (age, age))
            fetch(SUMS, mirrors=(server.url(),), folder=folder)
            assert contents(folder) == {NAME: BODY}
    show(
        9,
        "kill -9 in the middle of a file, and before it gets its name",
        f"{2 * times} killed, 0 bad files in the cache, 0 temporary files after a download an hour later",
        section="downloads",
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed(process, moment=None):
    """Let a process end by kill -9: its own, or ours at a moment."""
    process.start()
    if moment is not None:
        assert moment.acquire(timeout=60)
        process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    process.close()

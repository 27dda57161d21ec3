"""Whatever the mirrors do, and whoever is killed, the cache holds verified files and nothing else."""

import hashlib
import multiprocessing
import os
import random
import re
import signal
import threading
from functools import partial
from pathlib import Path

import pytest
from xpnn.backends.errors import DataError
from xpnn.nn.datasets import download
from xpnn.nn.datasets.download import fetch

from .mirrors import FAR, KINDS, Mirrors, make_certificate

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9 and POSIX sockets")

PROCESSES = 8
RNG = random.Random(9)
NAME, BODY, DAMAGED = "file.gz", RNG.randbytes(200_000), RNG.randbytes(200_000)
SUMS = {NAME: hashlib.sha256(BODY).hexdigest()}
LOOK_SECONDS = 0.002
SPAWN = multiprocessing.get_context("spawn")
REASONS = {name: kind.reason for name, kind in KINDS.items()} | {
    "http": "must be https, got 'http://192.0.2.1/",
    "https-to-http": "must be https, got a redirect to 'http://127.0.0.1:",
}
# In each process: little time for the mirrors that are to run into a limit, and plenty for the others.
LIMITS = f"""
from xpnn.nn.datasets import mirror
get, mirror.DOWNLOAD_BYTES = mirror.download, 2**20
def download(url, sha256):
    slow = any(f"/{{name}}/" in url for name in {[name for name, kind in KINDS.items() if kind.slow]})
    mirror.TIMEOUT_SECONDS = 0.25 if slow and "dripping" not in url else 60
    mirror.FILE_SECONDS = 0.5 if slow and "dripping" in url else 600
    return get(url, sha256)
mirror.download = download
"""
KILL_BEFORE_RENAMING = """
import os, signal
from pathlib import Path
from xpnn.nn.datasets.download import fetch
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
fetch(sums, mirrors=mirrors, folder=folder)
"""


class Watcher:
    """Looks again and again at what stands under a file's final name while a download is going on."""

    def __init__(self, path: Path, allowed: set[bytes | None]) -> None:
        self.path, self.allowed, self.looks, self.bad = path, allowed, 0, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self.over.wait(LOOK_SECONDS):
            try:
                seen = self.path.read_bytes()
            except FileNotFoundError:
                seen = None
            self.looks += 1
            self.bad += seen not in self.allowed

    def __enter__(self) -> "Watcher":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


class Experiment:
    """Eight processes at once, each with a bad mirror, and with a good one after it or not."""

    def __init__(self, folder: Path, plain: Mirrors, servers: dict[str, Mirrors], pool) -> None:
        self.folder, self.plain, self.servers, self.pool = folder, plain, servers, pool
        self.kinds = [*KINDS, "http", *servers]
        self.rounds = self.looks = 0

    def mirror(self, kind: str) -> str:
        if kind == "http":
            return FAR
        return self.servers.get(kind, self.plain).url(kind, RNG.random())

    def run(self, kinds: list[str], *, then_good: bool, damaged: bool) -> None:
        """Do one round in a cache of its own, which holds nothing or a damaged file."""
        folder = self.folder / str(self.rounds)
        path = folder / NAME
        folder.mkdir()
        before = {NAME: DAMAGED} if damaged else {}
        for name, content in before.items():
            (folder / name).write_bytes(content)
        # Requests are answered when those of all processes are there, so far as they come to this server.
        self.plain.expect(sum(kind in KINDS for kind in kinds))
        with Watcher(path, {before.get(NAME), BODY} if then_good else {before.get(NAME)}) as watcher:
            calls = []
            for kind in kinds:
                mirrors = (self.mirror(kind), *([self.plain.url("good")] if then_good else []))
                calls.append(self.pool.apply_async(fetch, (SUMS,), {"mirrors": mirrors, "folder": folder}))
            for kind, call in zip(kinds, calls, strict=True):
                if then_good:
                    assert call.get(120) == [path]
                else:
                    with pytest.raises(DataError) as caught:
                        call.get(120)
                    self.check(str(caught.value), kind, path, damaged)
        assert watcher.bad == 0
        after = {each.name: each.read_bytes() for each in folder.iterdir()}
        assert after == ({NAME: BODY} if then_good else before)
        self.rounds, self.looks = self.rounds + 1, self.looks + watcher.looks

    @staticmethod
    def check(text: str, kind: str, path: Path, damaged: bool) -> None:
        found = f"{re.escape(str(path))} is damaged; " if damaged else ""
        form = rf"{NAME} could not be downloaded \({found}https?://[^ ]+/: {REASONS[kind]}.*\)"
        assert re.fullmatch(form, text), text


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    path = make_certificate(tmp_path)
    if path is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


@pytest.fixture
def experiment(tmp_path, certificate):
    with (
        Mirrors(BODY) as plain,
        Mirrors(BODY, certificate=certificate, others={"https-to-http": lambda talk: talk.redirect(there)}) as safe,
        SPAWN.Pool(PROCESSES, exec, (LIMITS, {})) as pool,
    ):
        there = f"{plain.url('good')}{NAME}"
        servers = {} if certificate is None else {"https-to-http": safe}
        yield Experiment(tmp_path, plain, servers, pool)
        pool.close()
        pool.join()


def test_mirrors_that_misbehave(experiment, amount, show):
    kinds = experiment.kinds
    for _ in range(amount(6, slice=1)):
        for then_good in (False, True):
            drawn = RNG.sample(kinds, len(kinds))
            for first in range(0, len(drawn), PROCESSES):
                eight = (drawn[first:] + drawn)[:PROCESSES]  # each process has another kind
                experiment.run(eight, then_good=then_good, damaged=RNG.random() < 0.5)
    alike = [(then_good, damaged) for then_good in (False, True) for damaged in (False, True)]
    for kind in kinds * amount(2, slice=0):
        for then_good, damaged in alike:
            experiment.run([kind] * PROCESSES, then_good=then_good, damaged=damaged)
    downloads = experiment.rounds * PROCESSES
    assert experiment.looks > experiment.rounds
    show(
        9,
        "downloads: wrong hash, cut off, http for https, hanging, dripping, endless, eight processes at once",
        f"{downloads:,} downloads from {len(kinds)} kinds of bad mirror, 0 bad files in the cache in "
        f"{experiment.looks:,} looks, 0 temporary files; every refusal with its reason",
    )


def test_a_process_that_is_killed(tmp_path, amount, show):
    times = amount(20, slice=2)
    waiting = threading.Event()

    def half(talk):
        talk.answer(talk.body[: talk.cut], length=len(talk.body))
        waiting.set()
        talk.hang()

    with Mirrors(BODY, others={"half": half}) as server:
        for k in range(times):
            folder, good = tmp_path / str(k), (server.url("good"),)
            folder.mkdir()
            if k % 2:
                (folder / NAME).write_bytes(DAMAGED)
            before = contents(folder)
            waiting.clear()
            mirrors = (server.url("half", RNG.random()),)
            killed(SPAWN.Process(target=partial(fetch, SUMS, mirrors=mirrors, folder=folder)), waiting)
            assert contents(folder) == before  # nothing is written before all is there and checked

            variables = {"sums": SUMS, "mirrors": good, "folder": folder}
            killed(SPAWN.Process(target=exec, args=(KILL_BEFORE_RENAMING, variables)))
            left = contents(folder)
            (temporary,) = left.keys() - before.keys()
            assert re.fullmatch(rf"\.{NAME}\.[0-9a-f]{{8}}\.tmp", temporary)
            assert {name: left[name] for name in before} == before

            age = (folder / temporary).stat().st_mtime - download.LEFTOVER_SECONDS - 1
            os.utime(folder / temporary, (age, age))
            fetch(SUMS, mirrors=good, folder=folder)
            assert contents(folder) == {NAME: BODY}
    show(
        9,
        "downloads: kill -9 at a random byte, and before the file gets its name",
        f"{2 * times} killed, 0 bad files in the cache, 0 temporary files after the next download",
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed(process, moment=None):
    """Let a process end by kill -9: its own, or ours at a moment."""
    process.start()
    if moment is not None:
        assert moment.wait(60)
        process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    process.close()

"""The processes behind `trainings.py`, as programs.

start CASE ...  fork a training for each line of JSON that comes on stdin; none of them pays for Python's start
train ORDER     be one training
save STEP       save a checkpoint under limits of a file's length
soak TIMES      train often in one process, and say each time what it holds of the system
"""

import builtins
import ctypes
import dataclasses
import gc
import io
import json
import mmap
import os
import resource
import select
import signal
import stat
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
from trainings import CASES, INSIDE, MOMENTS, PAGE, Ended


class Watched:
    """A file open for writing; the moments of its writes are counted."""

    def __init__(self, file: Any, moment: str, watch: "Watch") -> None:
        self._file, self._moment, self._watch = file, moment, watch

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, content: Any) -> int:
        """Write it, or a part of it if the moment has come."""

        def write_part(part: float) -> None:
            self._file.write(content[: int(part * len(content))])
            self._file.flush()

        self._watch.come(self._moment, before=write_part)
        return self._file.write(content)


class Watch:
    """Counts the moments at which a training changes files, and does a deed at one of them."""

    def __init__(self, page: Any, order: dict[str, Any]) -> None:
        self._page, self._order = page, order
        for name in ("fsync", "replace", "rename", "mkdir"):
            setattr(os, name, getattr(self, name)(getattr(os, name)))
        builtins.open = io.open = self.open(io.open)

    def come(self, moment: str, before: Any = None) -> None:
        """Count a moment; do the deed if it is the one, `before` first if that is a kill."""
        at = MOMENTS.index(moment)
        self._page[at] += 1
        if (moment, self._page[at]) != (self._order.get("moment"), self._order.get("number")):
            return
        if self._order["deed"] == "kill":
            if before is not None:
                before(self._order["part"])
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            fill(Path("filler"), room=self._order["room"])

    def open(self, real: Any) -> Any:
        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if "x" in mode:  # a save begins
                self._page[INSIDE] = 1
                return Watched(real(file, mode, *args, **options), "while writing", self)
            opened = real(file, mode, *args, **options)
            return Watched(opened, "while appending", self) if "a" in mode else opened

        return opened

    def fsync(self, real: Any) -> Any:
        def fsync(descriptor: int) -> None:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            of = " of the folder" * is_folder
            self.come(f"before fsync{of}")
            real(descriptor)
            self.come(f"after fsync{of}")
            self._page[INSIDE] &= not is_folder

        return fsync

    def replace(self, real: Any) -> Any:
        return self._between("rename", real)

    rename = replace

    def mkdir(self, real: Any) -> Any:
        return self._between("mkdir", real)

    def _between(self, name: str, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> None:
            self.come(f"before {name}")
            real(*args, **options)
            self.come(f"after {name}")

        return call


def fill(path: Path, *, room: int) -> None:
    """Write a file until there is no more room than so many bytes."""
    with path.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(max(0, file.tell() - room))


def train(page: Any, order: dict[str, Any], *, watched: bool = True) -> int:
    """Do as ordered, and return the exit code."""
    from xpnn.nn.cli import main
    from xpnn.nn.runs import folder as run_folder
    from xpnn.nn.training import loop as training_loop

    for module, name in ((training_loop, "CHUNK_SECONDS"), (run_folder, "CHECKPOINT_SECONDS")):
        own = getattr(module, name)  # fails if there is no such constant any more
        setattr(module, name, order.get(name.lower(), own))
    if watched:
        Watch(page, order)
    if "limit" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], resource.RLIM_INFINITY))
    sys.argv = ["xpnn", *order["arguments"]]
    try:
        main()
    except SystemExit as ending:
        return int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def warm_up(cases: Sequence[str]) -> None:
    """Bring all that a training needs into memory; no thread is left, since a fork would lose it."""
    with TemporaryDirectory() as folder:
        for case in cases:
            arguments = ["train", "--quiet", "--out", f"{folder}/{case}", *CASES[case]]
            assert train(memoryview(bytearray(PAGE)).cast("q"), {"arguments": arguments}, watched=False) == 0
    gc.collect()  # a backend lets go of its threads
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()


def fork_one(page: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Run a training in a child, and return how it ended, as in `Ended`."""
    page[: INSIDE + 1] = memoryview(bytes(8 * (INSIDE + 1))).cast("q")
    pipes = os.pipe(), os.pipe()  # of its stdout and stderr
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        for number, (_, end) in enumerate(pipes, start=1):
            os.dup2(end, number)
        code = train(page, order)
        sys.stdout.flush()
        os._exit(code)
    watched, after = os.pidfd_open(pid), order.get("after")
    if after is not None and not select.select([watched], [], [], after)[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - started
    os.close(watched)
    texts = []
    for start, end in pipes:
        os.close(end)
        with os.fdopen(start, encoding="utf-8") as file:
            texts.append(file.read())
    came = dict(zip(MOMENTS, page.tolist(), strict=False))
    return dict(zip(Ended._fields, (code, *texts, seconds, came, bool(page[INSIDE])), strict=True))


def save_under_limits(step: str) -> None:
    """Save over a checkpoint with every `step` bytes as the limit of a file; print its size and what came of each."""
    from xpnn import nn

    class Keep(nn.Callback):
        def on_train_end(self, run: Any) -> None:
            run.checkpoint().save(path)

    path, generator = Path("checkpoint.safetensors"), np.random.default_rng(0)
    rows = nn.Split(generator.random((32, 64), dtype=np.float32), generator.integers(0, 10, 32))
    nn.train(nn.MLP((64, 256, 10), backend="numpy"), rows, epochs=1, batch_size=32, callbacks=[Keep()])
    before, old, seen = path.read_bytes(), nn.Checkpoint.load(path), []
    for limit in range(0, len(before) + 2 * int(step), int(step)):
        outcome = "saved"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            dataclasses.replace(old, step=old.step + 1).save(path)
        except nn.XpnnError as error:
            outcome = f"{error.__class__.__name__}: {error}"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        files = sorted(file.name for file in Path().iterdir())
        seen.append((limit, outcome, path.read_bytes() == before, nn.Checkpoint.load(path).step - old.step, files))
        path.write_bytes(before)
    print(json.dumps({"size": len(before), "seen": seen}))  # noqa: T201


def threads_listed(reading: int) -> int:  # noqa: ARG001
    """Count this process's threads; one that has just ended may be listed yet, so that the least of many counts."""
    os.sched_yield()
    return len(list(Path("/proc/self/task").iterdir()))


def soak(times: str) -> None:
    """Train often; print bytes in memory, open files, threads and temporary files after each training."""
    from xpnn import nn

    generator = np.random.default_rng(0)
    rows = nn.Split(generator.random((1000, 32), dtype=np.float32), generator.integers(0, 4, 1000))
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)  # gives free memory back, where the C library can
    for number in range(int(times)):
        backend = ("numpy", "numba")[number % 2]
        if number % 5 == 0:  # a tenth is on each backend
            name = next(name for name in CASES if backend in name)
            arguments = ["train", "--quiet", "--out", f"run{number}", *CASES[name]]
            assert train(memoryview(bytearray(PAGE)).cast("q"), {"arguments": arguments}, watched=False) == 0
        else:
            batch_size = (None, 100)[number // 2 % 2]
            nn.train(nn.MLP((32, 64, 4), backend=backend), rows, epochs=3, batch_size=batch_size)
        gc.collect()
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                thread.join(timeout=2)  # those of a team that nobody needs any more are about to end
                if thread.is_alive():
                    break
        trim(0)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        open_files, threads = len(list(Path("/proc/self/fd").iterdir())), min(map(threads_listed, range(300)))
        temporary = [*Path().rglob("*.tmp"), *Path(gettempdir()).iterdir()]
        print(json.dumps((pages * mmap.PAGESIZE, open_files, threads, len(temporary))))  # noqa: T201


def start_trainings(*cases: str) -> None:
    """Fork a training for each order that comes on stdin, and answer on stdout how it ended."""
    warm_up(cases)
    page = memoryview(mmap.mmap(-1, PAGE)).cast("q")  # shared with the children
    for line in sys.stdin:
        print(json.dumps(fork_one(page, json.loads(line))), flush=True)  # noqa: T201


def be_training(order: str) -> None:
    """Be one training."""
    sys.exit(train(memoryview(bytearray(PAGE)).cast("q"), json.loads(order)))


if __name__ == "__main__":
    programs = {"start": start_trainings, "train": be_training, "save": save_under_limits, "soak": soak}
    programs[sys.argv[1]](*sys.argv[2:])

"""What a save asks of the system, and in what order: content to disk, rename over the old file, folder to disk."""

import json
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from .trainings import CASES, PROGRAM

CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,"
    "unlink,unlinkat,truncate,ftruncate,link,linkat,symlink,symlinkat"
)
STRACE = ("strace", "-f", "-y", "-s", "0", "-e", f"trace={CALLS}", "-o")
NAME = re.compile(r"(\w+)\(")
DESCRIPTOR = re.compile(r"\(\d+<([^>]*)>")  # an open file as the first argument
RESULT = re.compile(r" = (\d+)(?:<([^>]*)>)?")
TEMPORARY = re.compile(r"\.(.+)\.\w+\.tmp")  # the file that a save writes before it renames it
SAVE_OVER = """
import sys
from xpnn import nn
path = sys.argv[1]
checkpoint = nn.Checkpoint.load(path)
for _ in range(int(sys.argv[2])):
    checkpoint.save(path)
"""


class Call(NamedTuple):
    """What was asked of the system that changes a file of the run's folder, or forces one to the disk."""

    name: str  # "open", "write", "fsync", "rename" or what else it was
    file: str  # its name, "" for the folder itself
    flags: str = ""  # it was opened with
    count: int = 0  # bytes written
    to: str = ""  # new name


@pytest.fixture
def traced(tmp_path):
    """Run a program under strace and return its calls for a folder, whatever thread made them."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    tried = subprocess.run([*STRACE, tmp_path / "trace", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"nothing can be traced here: {tried.stderr.strip()}")

    def run(folder, *command):
        trace = tmp_path / "trace"
        subprocess.run([*STRACE, trace, sys.executable, *command], capture_output=True, check=True, cwd=tmp_path)
        return calls_of(trace.read_text(encoding="utf-8").splitlines(), str(folder))

    return run


def calls_of(lines, folder):
    """Return the calls out of strace's lines that succeeded, those that only read left out."""
    begun, calls = {}, []
    for line in lines:
        thread, text = line.split(maxsplit=1)
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>")
            continue
        if text.startswith("<... "):
            text = begun.pop(thread) + text.split("resumed>", 1)[1]
        name, result = NAME.match(text), RESULT.search(text)
        if name is None or result is None or folder not in text:
            continue
        call = call_of(name[1], text, int(result[1]), result[2] or "", folder)
        if call is not None:
            calls.append(call)
    return calls


def call_of(name, text, count, opened, folder):
    """Return one call, or None if it changes nothing in the folder."""

    def within(path):
        return path.removeprefix(folder).removeprefix("/") if path == folder or path.startswith(f"{folder}/") else None

    if name in ("open", "openat", "creat"):
        flags = re.search(r'", (\w+(?:\|\w+)*)', text)
        is_read = flags is not None and "O_WRONLY" not in flags[1] and "O_RDWR" not in flags[1]
        file = within(opened)
        return None if file is None or is_read else Call("open", file, flags="" if flags is None else flags[1])
    if descriptor := DESCRIPTOR.search(text):
        file = within(descriptor[1])
        kind = "fsync" if name == "fdatasync" else "write" if "write" in name else name
        return None if file is None else Call(kind, file, count=count)
    files = [within(path) for path in re.findall(r'"([^"]*)"', text)]
    if all(file is None for file in files):
        return None
    return Call("rename" if name.startswith("rename") else name, str(files[0]), to=str(files[-1]))


def is_of(files, call):
    """Whether a call concerns one of the files or its temporary one, or forces the folder to the disk."""
    names = {match[1] if (match := TEMPORARY.fullmatch(name)) else name for name in (call.file, call.to)}
    return call == Call("fsync", "") or not names.isdisjoint(files)


def check_order(calls, files):
    """Hold every change of these files to its form; return how often each was replaced, and its length at last.

    What else happens in the folder is not looked at: a library locks it in a way of its own.
    """
    calls = [call for call in calls if is_of(files, call)]
    replaced, sizes, k = {}, {}, 0
    while k < len(calls):
        call = calls[k]
        assert call.name == "open", calls[k - 1 : k + 2]  # nothing is changed, renamed or removed by itself
        if call.file == "metrics.jsonl":
            assert "O_APPEND" in call.flags
            assert "O_TRUNC" not in call.flags
            assert calls[k + 1].name == "write"
            assert calls[k + 1].file == call.file
            k += 2
            continue
        temporary = TEMPORARY.fullmatch(call.file)
        assert temporary, f"{call.file} is changed in place"
        assert {"O_CREAT", "O_EXCL"} <= set(call.flags.split("|"))
        end = k + 1
        while calls[end].name == "write" and calls[end].file == call.file:
            end += 1
        name, writes = temporary[1], calls[k + 1 : end]
        assert calls[end : end + 3] == [
            Call("fsync", call.file),
            Call("rename", call.file, to=name),
            Call("fsync", ""),
        ], calls[k : end + 4]
        replaced[name] = replaced.get(name, 0) + 1
        sizes[name] = sum(write.count for write in writes)
        k = end + 3
    return replaced, sizes


def test_every_save_is_forced_to_the_disk_before_and_after_its_rename(traced, tmp_path, amount, show):
    folder = tmp_path / "run"
    order = {
        "arguments": ["train", "--quiet", "--out", str(folder), *CASES["numpy, batches of 64"]],
        "chunk_seconds": amount(0, slice=5e-3),
        "checkpoint_seconds": 0,
    }
    calls = traced(folder, PROGRAM, "train", json.dumps(order))
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != ".lock"}
    replaced, sizes = check_order(calls, files)
    assert replaced.keys() == files.keys()
    assert {name: size for name, size in sizes.items() if name != "metrics.jsonl"} == {
        name: size for name, size in files.items() if name != "metrics.jsonl"
    }
    assert replaced["checkpoint.safetensors"] > 2

    times = amount(200, slice=20)
    checkpoint = folder / "checkpoint.safetensors"
    again, sizes = check_order(traced(folder, "-c", SAVE_OVER, str(checkpoint), str(times)), files)
    assert again == {"checkpoint.safetensors": times}
    assert sizes == {"checkpoint.safetensors": checkpoint.stat().st_size}
    saves = times + sum(replaced.values())
    show(4, "strace of a run and of saves", f"write, fsync, rename, fsync of the folder, {saves} times of {saves}")


OPENED = (
    '7 openat(AT_FDCWD</>, "/run/.a.json.0f.tmp", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0666) = 4</run/.a.json.0f.tmp>'
)
SAVE = [
    OPENED,
    '7 write(4</run/.a.json.0f.tmp>, ""..., 9) = 9',
    "7 fsync(4</run/.a.json.0f.tmp>) = 0",
    '7 rename("/run/.a.json.0f.tmp", "/run/a.json") = 0',
    "7 fsync(5</run>) = 0",
]


FILES = {"a.json", "b.json"}


def test_a_trace_is_read_as_it_is():
    assert check_order(calls_of(SAVE, "/run"), FILES) == ({"a.json": 1}, {"a.json": 9})
    parted = [
        "7 fsync(4</run/.a.json.0f.tmp> <unfinished ...>",
        '8 write(1</dev/null>, ""..., 9) = 9',
        "7 <... fsync resumed>) = 0",
    ]
    assert check_order(calls_of([*SAVE[:2], *parted, *SAVE[3:]], "/run"), FILES)[0] == {"a.json": 1}


def test_what_a_library_does_beside_them_is_its_own_affair():
    beside = [
        '7 openat(AT_FDCWD</>, "/run", O_RDWR|O_CLOEXEC|O_TMPFILE, 0600) = 5</run/#17 (deleted)>',
        '7 write(5</run/#17 (deleted)>, ""..., 4) = 4',
        '7 openat(AT_FDCWD</>, "/run/.lock", O_RDWR|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 6</run/.lock>',
        '7 unlink("/run/.lock") = 0',
    ]
    lines = [line for each in SAVE for line in (*beside, each)]
    assert check_order(calls_of(lines, "/run"), FILES) == ({"a.json": 1}, {"a.json": 9})


@pytest.mark.parametrize(
    "lines",
    [
        [*SAVE[:2], *SAVE[3:]],
        [*SAVE[:2], SAVE[3], SAVE[2], SAVE[4]],
        [*SAVE[:4], OPENED],
        [*SAVE[:3], SAVE[1], *SAVE[3:]],
        [*SAVE[:4], '7 write(6</run/b.json>, ""..., 9) = 9', SAVE[4]],
        [SAVE[0].replace("O_EXCL", "O_TRUNC"), *SAVE[1:]],
        [line.replace(".a.json.0f.tmp", "a.json") for line in SAVE[:3]],
        [*SAVE, '7 unlink("/run/a.json") = 0'],
        [*SAVE, '7 link("/run/.lock", "/run/a.json") = 0'],
    ],
    ids=[
        "no fsync", "fsync after rename", "no fsync of the folder", "write after fsync",
        "write after rename", "not a new file", "in place", "removed", "put there by a link",
    ],
)  # fmt: skip
def test_another_order_is_noticed(lines):
    with pytest.raises((AssertionError, IndexError)):
        check_order(calls_of(lines, "/run"), FILES)

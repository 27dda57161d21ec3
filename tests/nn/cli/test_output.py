"""Commands whose standard streams are closed, full, or read by nobody: the work is done, and the exit code tells."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from xpnn import nn
from xpnn.nn.cli import mapped_files, streams

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full"),
]

PROGRAM = [sys.executable, "-m", "xpnn.nn"]
STATES = ("open", "closed", "full", "broken")
COMMANDS = {  # name -> its arguments, and the streams that it writes to
    "train": (["train", "--backend", "numpy", "--epochs", "1", "--out", "new"], {"stdout", "stderr"}),
    "quiet": (["train", "--backend", "numpy", "--epochs", "1", "--out", "new", "--quiet"], set()),
    "evaluate": (["evaluate", "run", "--backend", "numpy", "--out", "new", "--json"], {"stdout"}),
    "predict": (["predict", "run", "four.png", "--backend", "numpy"], {"stdout"}),
    "export": (["export", "run", "--npz", "new.npz"], {"stdout"}),
    "wrong": (["predict", "nowhere", "four.png"], {"stderr"}),
}
# Runs each of the jobs in a process of its own, forked when everything is imported: a tenth of the time of a new one.
SERVER = """
import json, os, sys
import matplotlib.figure, matplotlib.style, matplotlib.backends.backend_agg, rich.progress, sklearn.datasets
import xpnn.nn.cli.train, xpnn.nn.cli.evaluate, xpnn.nn.cli.predict, xpnn.nn.cli.export
from xpnn.nn.cli import main

def become(descriptor, name, state):
    if state == "closed":  # as it was when the process began
        os.close(descriptor)
        setattr(sys, name, None)
        setattr(sys, f"__{name}__", None)
        return
    if state == "broken":
        ends = os.pipe()
        os.dup2(ends[min(descriptor, 1)], descriptor)
    else:
        ends = (os.open("/dev/full" if state == "full" else name, os.O_RDWR | os.O_CREAT),)
        os.dup2(ends[0], descriptor)
    for end in ends:
        os.close(end)

for job in json.loads(sys.argv[1]):
    if os.fork() == 0:
        os.chdir(job["folder"])
        for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
            become(descriptor, name, job["states"][descriptor])
        sys.argv[1:] = job["arguments"]
        main()
        sys.exit()
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, **options)


# Every state of the streams


def check(command: str, states: tuple[str, ...], code: int) -> None:
    """Hold what a command left in the current folder to what it should leave, whatever its streams are."""
    _, used = COMMANDS[command]
    lost = {name: state for name, state in zip(("stdout", "stderr"), states[1:], strict=True) if state != "open"}
    lost = {name: state for name, state in lost.items() if name in used}
    assert code == (2 if command == "wrong" else 1 if lost else 0)
    output, errors = (Path(name).read_text() if Path(name).exists() else "" for name in ("stdout", "stderr"))
    if lost and code == 1 and set(lost.values()) != {"broken"}:
        name = next(iter(lost))
        place = errors if states[2] == "open" else output if states[1] == "open" else None
        assert place is None or f"its output is incomplete: {name} cannot be written (" in place
    elif command != "train":
        assert bool(errors) is (command == "wrong" and states[2] == "open")
    if command in ("train", "quiet"):
        net, checkpoint = (
            nn.load("new/model.safetensors", backend="numpy"),
            nn.Checkpoint.load("new/checkpoint.safetensors"),
        )
        for name, array in net.parameters().items():
            np.testing.assert_array_equal(array, checkpoint.parameters[name])
        assert json.loads(Path("new/summary.json").read_text())["epochs"] == 1
        with Image.open("new/curves.png") as picture:
            assert picture.width > 100
    elif command == "evaluate":
        result = json.loads(Path("new/evaluation.json").read_text())
        assert states[1] != "open" or json.loads(output) == result
    elif command == "predict":
        assert states[1] != "open" or output.startswith("four.png: ")
    elif command == "export":
        with np.load("new.npz") as arrays:
            assert (64, 32) in [arrays[name].shape for name in arrays]


def try_all(cases: list[tuple[str, tuple[str, ...]]]) -> None:
    """Run commands, each in a folder of its own with the given states of stdin, stdout and stderr."""
    result = run("train", "--backend", "numpy", "--epochs", "1", "--quiet", "--out", "run")
    assert result.returncode == 0, result.stderr
    Image.fromarray(np.repeat(np.uint8([[255, 0, 255]]), [9, 6, 9], axis=1).repeat(24, axis=0)).save("four.png")
    home, jobs = Path.cwd(), []
    for number, (command, states) in enumerate(cases):
        folder = home / str(number)
        folder.mkdir()
        for name in ("run", "four.png"):
            (folder / name).symlink_to(home / name)
        jobs.append({"folder": str(folder), "states": states, "arguments": COMMANDS[command][0]})
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    server = [sys.executable, "-W", "ignore", "-c", SERVER, json.dumps(jobs)]
    result = subprocess.run(server, capture_output=True, text=True, check=True, env=environment)
    codes = [int(line) for line in result.stdout.split()]
    wrong = []
    for number, ((command, states), code) in enumerate(zip(cases, codes, strict=True)):
        os.chdir(str(number))
        try:
            check(command, states, code)
        except (AssertionError, OSError, nn.XpnnError) as error:
            wrong.append(f"{command} {states}, exit code {code}: {error!r:.300}")
        os.chdir(home)
    assert not wrong, "\n".join(wrong)


def test_what_cannot_be_printed_costs_no_work() -> None:
    lost = {"train": ("closed", "full", "broken"), "evaluate": ("full",), "predict": ("closed",), "export": ("broken",)}
    cases = [(name, ("open", state, "open")) for name, states in lost.items() for state in states]
    cases += [("train", ("open", "open", state)) for state in ("closed", "full")]
    try_all([*cases, *((name, ("closed",) * 3) for name in ("train", "quiet", "wrong"))])


@pytest.mark.thorough
def test_every_state_of_the_streams() -> None:
    try_all(list(itertools.product(COMMANDS, itertools.product(STATES, repeat=3))))


def test_a_closed_stderr_is_no_file_of_the_run_and_ctrl_c_still_saves() -> None:
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *PROGRAM]
    options = ["train", "--backend", "numpy", "--epochs", "1000000", "--quiet", "--out", "run"]
    with subprocess.Popen([*command, *options]) as process:
        while not Path("run/metrics.jsonl").exists() or not Path("run/metrics.jsonl").read_text():
            assert process.poll() is None
        assert Path(f"/proc/{process.pid}/fd/2").readlink() == Path(os.devnull)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert Path("run/.lock").read_bytes() == b""
    assert nn.load("run/model.safetensors", backend="numpy").features == 64


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("where", ["training", "another command"])
def test_a_second_ctrl_c_ends_at_once(where: str, closed: bool) -> None:
    code = """
import os, signal, sys
from types import SimpleNamespace
from xpnn.nn.cli import signals, streams
streams.open_streams()
signals.end_on_second_interrupt()
if sys.argv[1] == "training":
    stop = signals.StopOnSignal().__enter__()
    stop.on_train_begin(SimpleNamespace(stop=lambda: None))
    os.kill(os.getpid(), signal.SIGINT)
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)
"""
    program = [sys.executable, "-c", code, where]
    program = ["sh", "-c", 'exec "$@" 2>&-', "sh", *program] if closed else program
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.returncode == 130
    assert bool(result.stderr) is not closed


def test_last_words_wait_for_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 65536)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(fileno=lambda: writer))
    streams.write_last_words("nobody reads this")
    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other bus errors")
def test_a_bus_error_names_the_file() -> None:
    np.save("rows.npy", np.ones((4096, 16)))
    code = """
import faulthandler, os, numpy as np
from xpnn.nn.cli.mapped_files import with_files_named
faulthandler.enable()
rows = np.load("rows.npy", mmap_mode="r")
assert with_files_named((rows[1:], np.ones(3)), lambda: rows.sum()) == 65536
os.truncate("rows.npy", 4096)
with_files_named((rows[1:], np.ones(3)), lambda: rows.sum())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGBUS
    assert '/rows.npy (mapped)", line' in result.stderr
    assert f"in {mapped_files.NAME}" in result.stderr

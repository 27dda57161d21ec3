"""Commands whose standard streams are closed, full, or read by nobody: the work is done, and the exit code tells."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from xpnn import nn
from xpnn.nn.cli import streams
from xpnn.nn.cli.app import xpnn
from xpnn.nn.files import mapped_files
from xpnn.nn.files.atomic import is_temporary

pytestmark = [
    pytest.mark.usefixtures("empty_folder"),
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full"),
]

PROGRAM = [sys.executable, "-m", "xpnn.nn"]
STATES = ("open", "closed", "full", "broken")
TRAIN = ["train", "--backend", "numpy", "--epochs", "1", "--hidden", "4", "--out"]
COMMANDS = {  # name -> its arguments, and the streams that it writes to
    "train": ([*TRAIN, "new"], {"stdout", "stderr"}),
    "quiet": ([*TRAIN, "new", "--quiet"], set()),
    "evaluate": (["evaluate", "run", "--backend", "numpy", "--json"], {"stdout"}),
    "predict": (["predict", "run", "four.png", "--backend", "numpy"], {"stdout"}),
    "export": (["export", "run", "--npz", "new.npz"], {"stdout"}),
    "wrong": (["predict", "nowhere", "four.png"], {"stderr"}),
}
# Runs each of the jobs in a process of its own, forked when everything has been used: a tenth of the time of a new one.
SERVER = """
import atexit, gc, json, os, sys
from click.testing import CliRunner
from xpnn.nn.cli import main, output
from xpnn.nn.cli.app import xpnn

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

for arguments in json.loads(sys.argv[1]):
    CliRunner().invoke(xpnn, arguments)
output._has_answered = False
gc.freeze()
def end(command):  # as Python does, without its clearing of all modules, which takes ten times as long as a command
    code = 0
    try:
        command()
    except SystemExit as error:
        code = error.code or 0
    try:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        code = 120
    os._exit(code)

while line := sys.stdin.readline():
    job = json.loads(line)
    if os.fork() == 0:
        os.chdir(job["folder"])
        exec(job["before"])
        for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
            become(descriptor, name, job["states"][descriptor])
        sys.argv[1:] = job["arguments"]
        end(main)
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


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
        assert states[1] != "open" or json.loads(output)["rows"] > 100
    elif command == "predict":
        assert states[1] != "open" or output.startswith("four.png: ")
    elif command == "export":
        with np.load("new.npz") as arrays:
            assert (64, 4) in [arrays[name].shape for name in arrays]


@pytest.fixture(scope="module")
def exit_codes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[dict[str, object]]], list[int]]]:
    """Run each job's `arguments` in the folder of its number, with a run and a picture in it; return their exit codes.

    A job may have the states of stdin, stdout and stderr, and what is executed `before`.
    """
    home = tmp_path_factory.mktemp("home")
    Image.fromarray(np.repeat(np.uint8([[255, 0, 255]]), [9, 6, 9], axis=1).repeat(24, axis=0)).save(home / "four.png")
    first = [[*TRAIN, "run"], *(COMMANDS[name][0] for name in ("evaluate", "predict", "export"))]
    command = [sys.executable, "-W", "ignore", "-c", SERVER, json.dumps(first)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=home, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, **pipes) as server:

        def do(jobs: list[dict[str, object]]) -> list[int]:
            for number, job in enumerate(jobs):
                folder = Path.cwd() / str(number)
                folder.mkdir()
                for name in ("run", "four.png"):
                    (folder / name).symlink_to(home / name)
                everything = {"folder": str(folder), "states": ["open"] * 3, "before": "", **job}
                server.stdin.write(json.dumps(everything) + "\n")
                server.stdin.flush()
            return [int(server.stdout.readline()) for _ in jobs]

        yield do
        server.stdin.close()


def try_all(exit_codes: Callable[..., list[int]], cases: list[tuple[str, tuple[str, ...]]]) -> None:
    """Run commands, each in a folder of its own with the given states of stdin, stdout and stderr."""
    codes = exit_codes([{"arguments": COMMANDS[command][0], "states": states} for command, states in cases])
    home, wrong = Path.cwd(), []
    for number, ((command, states), code) in enumerate(zip(cases, codes, strict=True)):
        os.chdir(str(number))
        try:
            check(command, states, code)
        except (AssertionError, OSError, nn.XpnnError) as error:
            wrong.append(f"{command} {states}, exit code {code}: {error!r:.300}")
        os.chdir(home)
    assert not wrong, "\n".join(wrong)


def test_what_cannot_be_printed_costs_no_work(exit_codes: Callable[..., list[int]]) -> None:
    """Every pair of a command and the states of two streams: an orthogonal array over the field of four elements."""
    doubled = (0, 2, 3, 1)
    cases = [
        (name, (STATES[b], STATES[a % 4 ^ b], STATES[doubled[a % 4] ^ b]))
        for a, name in enumerate(COMMANDS)
        for b in range(4)
    ]
    try_all(exit_codes, [*cases, *(("train", ("open", "open", state)) for state in ("closed", "full"))])


@pytest.mark.thorough
def test_every_state_of_the_streams(exit_codes: Callable[..., list[int]]) -> None:
    try_all(exit_codes, list(itertools.product(COMMANDS, itertools.product(STATES, repeat=3))))


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
signals.end_on_signals()
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


def test_a_ctrl_c_after_the_end_changes_nothing() -> None:
    code = "import atexit, os, signal, sys; from xpnn.nn.cli import main; sys.argv = ['xpnn', '--version']\n"
    code += "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


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


# Ends in the middle of the work


WRITERS = (
    ["evaluate", "run", "--backend", "numpy", "--out", "new"],
    ["predict", "run", "../rows.csv", "--backend", "numpy", "--out", "new.csv"],
    ["export", "run", "--npz", "new.npz"],
    ["export", "run", "--c", "new"],
    [*TRAIN, "new"],
)


def test_a_signal_leaves_no_temporary_file(exit_codes: Callable[..., list[int]]) -> None:
    Path("rows.csv").write_text(",".join(f"p{k}" for k in range(64)) + "\n" + ",".join("0" * 64) + "\n")
    cases = [(arguments, signal.SIGTERM) for arguments in WRITERS]
    cases += [(WRITERS[0], signal.SIGINT), (WRITERS[1], signal.SIGHUP)]
    jobs = [
        {"arguments": arguments, "before": f"os.replace = lambda *_: os.kill(os.getpid(), {int(number)})"}
        for arguments, number in cases
    ]  # it comes when the temporary file is complete
    assert exit_codes(jobs) == [128 + number for _, number in cases]
    files = {path.name for folder in map(Path, map(str, range(len(jobs)))) for path in folder.glob("new*/**/*")}
    assert files <= {".lock"}
    assert not [path for path in Path.cwd().rglob("*") if is_temporary(path) or path.name.startswith("new.")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other bus errors")
def test_a_bus_error_names_the_file(exit_codes: Callable[..., list[int]]) -> None:
    data = ["--data", "."]
    places = {
        "xpnn.nn.datasets.npy_folder.with_files_named": ("labels", ["evaluate", "run", "--backend", "numpy", *data]),
        "xpnn.nn.datasets.arrays.read_rows": ("images", [*TRAIN, "new", *data]),
        "xpnn.nn.cli.evaluate.held_rows": ("images", ["evaluate", "run", "--backend", "numpy", *data]),
        "xpnn.nn.cli.train.Recipe.train": ("images", [*TRAIN, "new", *data]),
    }  # where a file is cut short
    jobs = []
    for place, (name, arguments) in places.items():
        owner, _, function = place.rpartition(".")
        make = "import numpy as np\n" + "".join(
            f"np.save('{each}.npy', np.arange({count}, dtype='{dtype}').reshape{shape} % 10)\n"
            for each, count, dtype, shape in (
                ("images", 4096 * 64, "uint8", (4096, 8, 8)),
                ("labels", 4096, "int64", (4096,)),
            )
        )
        cut = f"""
from pkgutil import resolve_name
owner = resolve_name({owner!r})
before = owner.{function}
def cut(*arguments, **options):
    os.truncate("{name}.npy", 0)
    return before(*arguments, **options)
owner.{function} = cut
"""
        jobs.append({"arguments": arguments, "before": make + cut})
    assert exit_codes(jobs) == [-signal.SIGBUS] * len(jobs)
    for number, (place, (name, _)) in enumerate(places.items()):
        report = Path(str(number), "stderr").read_text()
        assert f'/{number}/{name}.npy (mapped)", line' in report, (place, report)
        assert f"in {mapped_files.NAME}" in report


# A result on standard output


@pytest.mark.parametrize("arguments", [["--npz", "/dev/stdout"], ["--npz", "/dev/fd/1"], ["--onnx", "link"]])
def test_words_stay_out_of_a_result_on_stdout(arguments: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Path("link").symlink_to("/dev/stdout")
    nn.save(nn.MLP([64, 10], backend="numpy"), "model")
    os.write(1, b"before ")
    result = CliRunner().invoke(xpnn, ["export", "model", *arguments])
    os.write(1, b" after")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"saved {arguments[1]}, " in result.stderr
    result = CliRunner().invoke(xpnn, ["export", "model", arguments[0], "file"])
    assert "saved file, " in result.stdout
    assert capfdbinary.readouterr().out == b"before " + Path("file").read_bytes() + b" after"
    result = CliRunner().invoke(xpnn, ["export", "model", *arguments, "--json"])
    assert (result.exit_code, capfdbinary.readouterr().out) == (2, b"")
    assert "name another file" in result.stderr


def test_predictions_on_stdout_are_without_words(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    nn.save(nn.MLP([2, 3], backend="numpy"), "model")
    Path("rows.csv").write_text("a,b\n1,2\n")
    Path("new.csv").symlink_to("/dev/stdout")
    result = CliRunner().invoke(xpnn, ["predict", "model", "rows.csv", "--out", "new.csv", "--backend", "numpy"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith("saved new.csv, 1 predictions\n")
    assert capfdbinary.readouterr().out.startswith(b"row,prediction\n1,")


# Pictures


def test_broken_settings_of_matplotlib_cost_a_picture_alone() -> None:
    for name in ("mine", "matplotlibrc"):
        Path(name).write_bytes("font.family: \u00e9\n".encode("latin-1"))
    result = run(*TRAIN, "new", "--json", env=os.environ | {"MATPLOTLIBRC": str(Path("mine").absolute())})
    assert (result.returncode, json.loads(result.stdout)["epochs"]) == (0, 1)
    assert "without curves.png: matplotlib cannot be imported: 'utf-8' codec" in result.stderr
    assert not Path("new/curves.png").exists()

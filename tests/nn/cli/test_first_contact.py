"""A newcomer's first commands: help, completion, suggestions, what to do next, colours; and other systems."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result
from xpnn import nn
from xpnn.backends import Backend
from xpnn.backends.threads import thread_limit
from xpnn.nn.cli import app, progress, signals, train_report
from xpnn.nn.cli.app import COMMANDS, xpnn
from xpnn.nn.cli.options import shell_words
from xpnn.nn.network.evaluation import Evaluation
from xpnn.nn.runs.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("elsewhere")

ESCAPE = "\x1b["
PROGRAM = [sys.executable, "-m", "xpnn.nn"]
SHORT = ["train", "--backend", "numpy", "--epochs", "2"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder, with no wishes about colours."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "NO_COLOR",
        "FORCE_COLOR",
        "PY_COLORS",
        "TTY_COMPATIBLE",
        "RICH_CLICK_THEME",
        "TERMINAL_WIDTH",
        "XPNN_DATA",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def run(*arguments: str, **options: object) -> Result:
    return CliRunner().invoke(xpnn, arguments, **options)


def make_run(path: str, age: int) -> None:
    Path(path).mkdir(parents=True)
    config = Path(path, "config.json")
    config.write_text("{}")
    os.utime(config, (1e9 - age, 1e9 - age))


# Help


@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_keeps_to_the_width_of_the_terminal_and_ends_with_examples(width: int) -> None:
    for command in ([], *([name] for name in COMMANDS)):
        result = run(*command, "--help", terminal_width=width)
        assert result.exit_code == 0, result.output
        assert max(len(line.rstrip()) for line in result.output.splitlines()) <= width
        assert " ".join(["xpnn", *command]) in result.output.partition("\nExample")[2]


def test_options_stand_in_sections_and_say_no_ranges() -> None:
    text = run("train", "--help").output
    assert re.findall(r"^(\w+):", text, re.MULTILINE) == [
        "Usage", "Recipes", "Data", "Tables", "Training", "Network", "Regularization", "Speed", "Output", "Options",
        "Examples",
    ]  # fmt: skip
    assert "--stratify/--no-stratify" in text
    assert not re.search(r"RANGE|TEXT|x>=1", text)


def test_a_console_without_unicode_gets_help_in_ascii() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    piped = subprocess.run([*PROGRAM, "train", "--help"], capture_output=True, check=True, env=environment)
    assert "--label-column <NAME>" in piped.stdout.decode("ascii")


def test_help_imports_nothing_heavy_and_no_command() -> None:
    heavy = ("numba", "matplotlib", "sklearn", "torch", "scipy", "xpnn.nn.cli.train")
    code = (
        "import atexit, sys\nfrom xpnn.nn.cli import main\n"
        f"atexit.register(lambda: print([name for name in {heavy!r} if name in sys.modules]))\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "xpnn.nn", "trian"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: xpnn [OPTIONS]")
    assert "Did you mean 'train'?" in result.stderr


# Completion


def complete(words: str, shell: str = "bash") -> list[str]:
    count = len(words.split(" ")) - 1
    environment = {"_XPNN_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    return run(env=environment, prog_name="xpnn").stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("xpnn tr", ["plain,train"]),
        ("xpnn train gd", ["plain,gd-10", "plain,gd-10-long"]),
        ("xpnn train --stra", ["plain,--stratify"]),
        ("xpnn train --backend nump", ["plain,numpy"]),
        ("xpnn train --data fa", ["plain,fashion-mnist", "file,fa"]),
        ("xpnn evaluate runs/", ["plain,runs/b", "plain,runs/a", "file,runs/"]),
        ("xpnn train --resume runs/a", ["plain,runs/a", "file,runs/a"]),
        ("xpnn explain deep", ["plain,deep-32", "file,deep"]),
    ],
)
def test_completion_offers_names(words: str, offered: list[str]) -> None:
    for age, name in enumerate(("b", "a", "with space")):
        make_run(f"runs/{name}", age)
    Path("runs/no run").mkdir()
    assert [item for item in complete(words) if item] == offered


def test_completing_a_command_imports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "import_module", None)
    assert complete("xpnn ")[: len(COMMANDS)] == [f"plain,{name}" for name in COMMANDS]


def test_zsh_shows_what_a_command_does() -> None:
    assert complete("xpnn tr", "zsh")[:3] == ["plain", "train", COMMANDS["train"]]


def test_bash_takes_the_script() -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    Path("xpnn").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xpnn.nn "$@"\n')
    Path("xpnn").chmod(0o755)
    script = (
        'eval "$(_XPNN_COMPLETE=bash_source xpnn)"; COMP_WORDS=(xpnn train mn); COMP_CWORD=2; _xpnn_completion xpnn; '
        'echo "${COMPREPLY[@]}"; complete -p xpnn'
    )
    environment = os.environ | {"PATH": f"{Path.cwd()}{os.pathsep}{os.environ['PATH']}", "HOME": str(Path.cwd())}
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert "mnist-98" in result.stdout
    assert "_xpnn_completion" in result.stdout
    assert result.stderr == ""


# Suggestions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "quickstrat"], "did you mean 'quickstart'?"),
        (["train", "--data", "fasion-mnist"], "did you mean 'fashion-mnist'?"),
        (["train", "--data", "row.csv"], "'row.csv' is neither a file nor a folder: check the path"),
        (["train", "--epoch", "3"], "Did you mean '--epochs'?"),
        (["evaluate"], "Missing argument 'RUN|MODEL'"),
    ],
)
def test_what_is_mistyped_is_answered_with_the_nearest(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


# Before and after the training


def next_commands(output: str) -> list[str]:
    return [line.strip() for line in output.partition("\nnext\n")[2].splitlines()]


def test_train_says_where_things_are_and_commands_that_work() -> None:
    output = run(*SHORT, "--out", "my run").stdout
    saved = output.partition("saved in 'my run'\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in saved.splitlines()] == [
        "model.safetensors", "curves.png", "metrics.jsonl", "summary.json",
    ]  # fmt: skip
    evaluate, predict, *_ = next_commands(output)
    assert evaluate == "xpnn evaluate 'my run' --out pictures"
    assert predict == "xpnn predict 'my run' picture.png"
    assert run("evaluate", "my run", "--out", "pictures").exit_code == 0


def test_what_comes_next_is_what_the_rows_allow() -> None:
    images = np.random.default_rng(0).random((40, 5))  # (rows, features)
    np.savez("rows.npz", images=images, labels=np.arange(40) % 2)
    commands = next_commands(run(*SHORT, "--data", "rows.npz", "--out", "run").stdout)
    data = shell_words("--data", Path("rows.npz").resolve())
    assert commands == [
        f"xpnn evaluate run {data} --out pictures", "xpnn predict run new.csv --out predictions.csv",
        "xpnn export run --onnx net.onnx",
    ]  # fmt: skip
    assert "xpnn export digits --html digit.html" in next_commands(run(*SHORT, "--out", "digits").stdout)
    images = np.random.default_rng(0).random((40, 4, 4))  # (rows, height, width), scaled already
    np.savez("pictures.npz", images=images, labels=np.arange(40) % 2)
    commands = next_commands(run(*SHORT, "--data", "pictures.npz", "--out", "floats").stdout)
    assert "xpnn predict floats picture.png" in commands


@pytest.mark.parametrize(
    ("high", "dtype", "said"),
    [
        (255, "uint8", "pixels from 0 to 255, scaled to [0, 1]"),
        (16, "uint8", "pixels from 0 to 16, scaled to [0, 1]"),
        (255, "int64", "4 columns, standardized by the training rows"),
        (0.5, "float64", "4 columns, standardized by the training rows"),
    ],
)
def test_train_says_how_the_numbers_are_read(high: float, dtype: str, said: str) -> None:
    images = np.tile([0, 1, 2, high], (40, 1)).astype(dtype)  # (rows, features)
    np.savez("rows.npz", images=images, labels=np.arange(40) % 2)
    assert f"features: {said}\n" in run(*SHORT, "--data", "rows.npz").stdout


def reported(make_data, *losses: float, classes: bool = True) -> tuple[SimpleNamespace, list[nn.EpochResult]]:
    """A start and a history with these training losses, enough for what is said of them."""
    accuracy = 0.9 if classes else None
    history = [nn.EpochResult(k, loss, accuracy, 0.5, accuracy, 1.5) for k, loss in enumerate(losses, start=1)]
    config = SimpleNamespace(recipe=RECIPES["quickstart"])
    return SimpleNamespace(data=make_data(train=24, test=9), config=config), history


def test_rows_without_classes_are_reported_by_their_loss(make_data) -> None:
    start, history = reported(make_data, 0.25, classes=False)
    text = train_report._result(start, history, None)
    assert text == "loss 0.25 on the training rows, 0.5 on the 9 test rows, in 1.50 s"
    judged = Evaluation(0.5, None, float("nan"), 12.34)
    assert train_report._result(start, history, judged) == (
        "R2 not defined, mean absolute error 12.34 on the 9 test rows\n" + text
    )
    assert progress._figures(0.25, None, history[0]) == "loss 0.2500"
    judged = nn.EpochResult(3, 0.25, 0.9, 0.5, 0.7, 1.5, 0.4, 0.8)
    assert progress._figures(0.25, 0.9, judged) == "loss 0.2500  train 90.00%  validation 80.00%  test 70.00%"


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((2.0, 9.0), "its loss, 9, is above that of guessing, 1.1: lower --lr"),  # of three classes: log 3
        ((9.0, 2.0), "its loss, 2, is above that of guessing, 1.1: take more --epochs, or scale the features"),
        ((1.5,), "its loss, 1.5, is above that of guessing, 1.1: lower --lr"),
        ((1.5, 1.0), ""),
    ],
)
def test_a_run_that_is_worse_than_guessing_says_so(make_data, losses: tuple[float, ...], said: str) -> None:
    warning = train_report.worse_than_guessing(*reported(make_data, *losses))
    assert warning.startswith(said)
    assert bool(warning) is bool(said)


def test_guessing_numbers_is_to_say_their_mean(make_data) -> None:
    start, history = reported(make_data, 0.75, 0.6, classes=False)
    start.data = nn.from_arrays(np.eye(6), np.arange(6) / 4)
    assert train_report.worse_than_guessing(start, history).startswith("its loss, 0.6, is above that of guessing, 0.5:")
    assert train_report.worse_than_guessing(*reported(make_data, 0.4, classes=False)) == ""


def test_threads_are_limited_while_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    from threadpoolctl import threadpool_info

    seen, compile_plan = [], Backend.compile

    def compile_and_look(self: Backend, job: object) -> object:
        counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        seen.append((thread_limit(8), *counts))
        return compile_plan(self, job)

    monkeypatch.setattr(Backend, "compile", compile_and_look)
    result = run("train", "--backend", "array-api-strict", "--epochs", "1", "--threads", "1", "--out", "run")
    assert result.exit_code == 0, result.output
    assert seen
    assert set(seen[0]) == {1}
    assert thread_limit(8) == 8


# Colours


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a process writes that has a terminal of 80 columns."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    environment = os.environ | {"COLUMNS": "80"} | environment
    with subprocess.Popen([*PROGRAM, *arguments], stdin=follower, stdout=follower, stderr=follower, env=environment):
        os.close(follower)
        text = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # Linux says so where the others read nothing
                break
            if not piece:
                break
            text += piece
    os.close(leader)
    return text.decode()


@pytest.mark.parametrize(
    ("arguments", "coloured", "plain"),
    [
        (["--help"], "\x1b[1;36mtrain", "train "),
        (["evaluate", "nowhere"], "\x1b[31m\x1b[1mxpnn:\x1b[0m there is no file", "xpnn: there is no file"),
    ],
)
def test_colours_are_for_terminals_and_for_who_wants_them(arguments: list[str], coloured: str, plain: str) -> None:
    assert coloured in on_a_terminal(*arguments)
    assert not re.search(r"\x1b\[[\d;]*3\d", on_a_terminal(*arguments, NO_COLOR="1"))  # bold is no colour
    assert ESCAPE not in on_a_terminal(*arguments, TERM="dumb")
    for environment in ({}, {"GITHUB_ACTIONS": "true"}):
        piped = subprocess.run(
            [*PROGRAM, *arguments], capture_output=True, text=True, check=False, env=os.environ | environment
        )
        assert ESCAPE not in piped.stdout + piped.stderr
        assert plain in piped.stdout + piped.stderr


def test_a_terminal_that_cannot_move_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert type(progress.progress_callback(quiet=False, environ={"TERM": "dumb"})) is progress.ProgressLines
    assert type(progress.progress_callback(quiet=False, environ={})) is progress.ProgressBar


# Other systems


def test_a_name_that_the_console_lacks_is_shown_by_its_number() -> None:
    images = np.arange(160, dtype=np.uint8).reshape(40, 4)  # (rows, features)
    np.savez("rows.npz", images=images, labels=np.array(["\u4e00", "b"] * 20))
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    assert run(*SHORT, "--data", "rows.npz", "--quiet", "--out", "run").exit_code == 0
    command = [*PROGRAM, "evaluate", "run", "--data", "rows.npz", "--backend", "numpy"]
    result = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    assert b"\\u4e00" in result.stdout


@pytest.mark.parametrize("name", ["with space", "größe 数", "a'b"])
def test_a_run_folder_of_any_name_can_be_used_again(name: str) -> None:
    evaluate = next(line for line in next_commands(run(*SHORT, "--out", name).stdout) if "evaluate" in line)
    if os.name != "nt":
        assert shlex.split(evaluate) == ["xpnn", "evaluate", name, "--out", "pictures"]
    assert json.loads(run("evaluate", name, "--json").stdout)["rows"] == 359


def test_home_is_found_where_no_shell_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("USERPROFILE", str(Path.cwd()))
    assert run(*SHORT, "--quiet", "--out=~/run").exit_code == 0
    assert Path("run/model.safetensors").exists()
    assert not Path("~").exists()
    assert run("evaluate", "~/run", "--json").exit_code == 0
    assert run("train", "--resume", "~/run").stdout.endswith("all of its 2 epochs are done\n")


def test_the_signals_are_those_that_the_system_has() -> None:
    windows = SimpleNamespace(SIGINT=2, SIGTERM=15, SIGBREAK=21)
    posix = SimpleNamespace(SIGINT=2, SIGTERM=15, SIGHUP=1)
    assert (signals.numbers(windows), signals.numbers(posix)) == ([2, 15, 21], [2, 15, 1])


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.StopOnSignal():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with signals.StopOnSignal():
            assert signal.getsignal(signal.SIGHUP) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_closed_leaves_a_run_to_go_on_with() -> None:
    pty = pytest.importorskip("pty")
    child, terminal = pty.fork()
    if child == 0:  # its controlling terminal is the new one
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests were started by
        os.execv(sys.executable, [*PROGRAM, "train", "--backend", "numpy", "--epochs", "1000000", "--out", "run"])
    text = b""
    while b"epoch 2" not in text and b"epoch 3" not in text:  # the bar is drawn while it trains
        text += os.read(terminal, 4096)
        text = text[-8192:]
    os.close(terminal)  # as by closing the window: the system sends SIGHUP
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    checkpoint = nn.Checkpoint.load("run/checkpoint.safetensors")
    net = nn.load("run/model.safetensors", backend="numpy")
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, checkpoint.parameters[name])

"""What a newcomer meets: help, completion, suggestions, what to do next, colours; and what other systems want."""

import errno
import json
import os
import re
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
from xpnn.backends import Backend, StorageError
from xpnn.backends.threads import at_most_threads
from xpnn.nn.cli import app, progress, recent_runs, signals, train_report
from xpnn.nn.cli.app import COMMANDS, xpnn
from xpnn.nn.cli.help_page import allowed_colour
from xpnn.nn.files import atomic as files
from xpnn.nn.files.near_paths import nearest_path
from xpnn.nn.files.quoting import quoted

pytestmark = pytest.mark.usefixtures("elsewhere")

ESCAPE = "\x1b["
PROGRAM = [sys.executable, "-m", "xpnn.nn"]
SHORT = ["train", "--backend", "numpy", "--epochs", "2"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder, with no wishes about colours."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "XPNN_DATA"):
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
@pytest.mark.parametrize("command", ["", *COMMANDS, "bench"])
def test_help_keeps_to_the_width_of_the_terminal(command: str, width: int) -> None:
    result = run(*([command] if command else []), "--help", terminal_width=width)
    assert result.exit_code == 0
    text, _, examples = result.output.partition("\nExample")
    verbatim = text[text.find("Recipes:") : text.find("\nData:")] if command == "train" else ""
    lines = [line for line in text.replace(verbatim, "").splitlines() if "xpnn completion" not in line]
    assert max(map(len, lines)) <= width
    assert max(map(len, (verbatim + examples).splitlines() or [""])) <= 80


def test_options_stand_in_sections_and_say_no_ranges() -> None:
    text = run("train", "--help").output
    assert re.findall(r"^(\w+):", text, re.MULTILINE) == [
        "Usage", "Data", "Training", "Regularization", "Speed", "Output", "Options", "Examples",
    ]  # fmt: skip
    assert "--[no-]stratify" in text
    assert not re.search(r"RANGE|TEXT|x>=1", text)
    found = [re.search(rf"^ .*(?={words})", text, re.MULTILINE) for words in ("A .csv", "Passes over", "Run folder")]
    assert len({left and len(left.group()) for left in found}) == 1


def test_help_imports_nothing_heavy_and_no_command() -> None:
    heavy = ("numba", "matplotlib", "sklearn", "torch", "scipy", "xpnn.nn.cli.train")
    code = (
        "import atexit, sys\nfrom xpnn.nn.cli import main\n"
        f"atexit.register(lambda: print([name for name in {heavy!r} if name in sys.modules]))\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("module", ["xpnn.nn", "xpnn.nn.cli"])
def test_the_module_is_the_command(module: str) -> None:
    result = subprocess.run([sys.executable, "-m", module, "trian"], capture_output=True, text=True, check=False)
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
        ("xpnn parity --backends numpy,num", ["plain,numpy,numba"]),
        ("xpnn train --data fa", ["file,fa", "plain,fashion-mnist"]),
        ("xpnn evaluate runs/", ["plain,runs/b", "plain,runs/a"]),
        ("xpnn evaluate ru", ["file,ru"]),
        ("xpnn train --resume runs/a", ["plain,runs/a"]),
        ("xpnn explain deep", ["file,deep", "plain,deep-32"]),
        ("xpnn completion z", ["plain,zsh"]),
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


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        (
            "bash",
            'eval "$(xpnn completion bash)"; COMP_WORDS=(xpnn train mn); COMP_CWORD=2; _xpnn_completion xpnn; '
            'echo "${COMPREPLY[@]}"; complete -p xpnn',
        ),
        ("fish", "xpnn completion fish | source; complete -C 'xpnn train mn'"),
        ("zsh", 'compdef() { echo $@ }; eval "$(xpnn completion zsh)"; xpnn train --help | grep mnist-98'),
    ],
)
def test_a_real_shell_takes_its_script(shell: str, script: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    Path("xpnn").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xpnn.nn "$@"\n')
    Path("xpnn").chmod(0o755)
    environment = os.environ | {"PATH": f"{Path.cwd()}{os.pathsep}{os.environ['PATH']}", "HOME": str(Path.cwd())}
    result = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert "mnist-98" in result.stdout
    assert "_xpnn_completion" in result.stdout or shell == "fish"
    assert result.stderr == ""


# Suggestions


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("runs/quickstrat", "runs/quickstart-20261121"),  # of several the newest
        ("runs/quickstart", "runs/quickstart-20261121"),
        ("run/mnist-98", "runs/mnist-98"),
        ("run/mist-98/model.safetensors", "runs/mnist-98/model.safetensors"),
        ("Runs/MNIST-98", "runs/mnist-98"),
        ("runs/else", None),
        ("runs/mnist-98", None),
        ("runs/mnist-98\0", "runs/mnist-98"),
        ("x" * 5000, None),
        ("", None),
    ],
)
def test_the_nearest_path(typed: str, near: str | None) -> None:
    for name in ("quickstart-20261120", "quickstart-20261121", "mnist-98", "\x1b[31m-else"):
        Path("runs", name).mkdir(parents=True)
    Path("runs/mnist-98/model.safetensors").touch()
    if sys.platform != "linux" and typed.startswith("Runs"):
        pytest.skip("upper and lower case may be the same here")
    assert nearest_path(Path(typed)) == (near and Path(near))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "runs/quickstrat"], "there is no file runs/quickstrat; did you mean runs/quickstart?"),
        (["explain", "runs/quickstrat"], "did you mean runs/quickstart?"),
        (["train", "--resume", "run/quickstart"], "there is no such folder; did you mean runs/quickstart?"),
        (["train", "--data", "row.csv"], "'row.csv' is neither a file nor a folder; did you mean rows.csv?"),
        (["train", "--data", "fasion-mnist"], "nearest: 'fashion-mnist'"),
        (["train", "--epoch", "3"], "--epochs"),
    ],
)
def test_what_is_mistyped_is_answered_with_the_nearest(arguments: list[str], message: str) -> None:
    make_run("runs/quickstart", 0)
    Path("rows.csv").touch()
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_picture_that_is_not_there_is_answered_with_the_nearest() -> None:
    assert run(*SHORT, "--quiet", "--out", "run").exit_code == 0
    Path("seven.png").touch()
    assert "did you mean seven.png?" in run("predict", "run", "sevn.png").stderr


def test_without_a_model_the_newest_run_is_named() -> None:
    assert "Train a network first: xpnn train\n" in run("evaluate").stderr
    for age, name in enumerate(("b b", "a")):
        make_run(f"runs/{name}", age)
    assert recent_runs.recent_runs() == [Path("runs/b b"), Path("runs/a")]
    result = run("evaluate", prog_name="xpnn")
    assert result.exit_code == 2
    assert f"For the newest run here: xpnn evaluate {quoted(Path('runs/b b'))}\n" in result.stderr
    assert result.stderr.count("Missing argument") == 1
    assert f"xpnn predict {quoted(Path('runs/b b'))} IMAGE" in run("predict", prog_name="xpnn").stderr


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
    data = quoted("--data", Path("rows.npz").resolve())
    assert commands == [f"xpnn evaluate run {data} --out pictures", "xpnn explain run"]
    assert "xpnn export digits --html digit.html" in next_commands(run(*SHORT, "--out", "digits").stdout)
    images = np.random.default_rng(0).random((40, 4, 4))  # (rows, height, width): which number is full ink?
    np.savez("pictures.npz", images=images, labels=np.arange(40) % 2)
    commands = next_commands(run(*SHORT, "--data", "pictures.npz", "--out", "floats").stdout)
    assert not any("export" in command or "predict" in command for command in commands)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0, 255, "whole numbers from 0 to 255, divided by 255"),
        (0, 300, "numbers from 0 to 300, taken as they are"),
        (-5, 255, "numbers from -5 to 255, taken as they are"),
        (0, 16, "whole numbers from 0 to 16, divided by 16"),
    ],
)
def test_train_says_how_the_numbers_are_read(low: int, high: int, said: str) -> None:
    images = np.tile([low, 1, 2, high], (40, 1))  # (rows, features): a cell out of range decides for all
    np.savez("rows.npz", images=images, labels=np.arange(40) % 2)
    assert f"features: {said}\n" in run(*SHORT, "--data", "rows.npz").stdout


def test_rows_without_classes_are_reported_by_their_loss(make_data) -> None:
    result = nn.EpochResult(3, 0.25, None, 0.5, None, 1.5)
    recipe = SimpleNamespace(early_stopping=None)
    start = SimpleNamespace(data=make_data(train=24, test=9), config=SimpleNamespace(recipe=recipe))
    text = train_report._result(start, [result])
    assert text == "loss 0.25 on the training rows, 0.5 on the 9 test rows, in 1.50 s"
    assert progress._figures(0.25, None, result) == "loss 0.2500"
    judged = nn.EpochResult(3, 0.25, 0.9, 0.5, 0.7, 1.5, 0.4, 0.8)
    assert progress._figures(0.25, 0.9, judged) == "loss 0.2500  train 90.00%  validation 80.00%  test 70.00%"


def test_threads_are_limited_while_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    from threadpoolctl import threadpool_info

    seen, compile_plan = [], Backend.compile

    def compile_and_look(self: Backend, job: object) -> object:
        counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        seen.append((os.environ.get("NUMBA_NUM_THREADS"), *counts))
        return compile_plan(self, job)

    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(Backend, "compile", compile_and_look)
    result = run("train", "--backend", "array-api-strict", "--epochs", "1", "--threads", "1", "--out", "run")
    assert result.exit_code == 0, result.output
    assert seen
    assert set(seen[0]) == {"1", 1}
    assert "NUMBA_NUM_THREADS" not in os.environ


def test_numba_that_is_there_already_is_limited_for_the_block() -> None:
    numba = pytest.importorskip("numba")
    before = numba.config.NUMBA_NUM_THREADS
    with at_most_threads(1):
        assert numba.config.NUMBA_NUM_THREADS == 1
    assert before == numba.config.NUMBA_NUM_THREADS
    with at_most_threads(None):
        assert before == numba.config.NUMBA_NUM_THREADS


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
    ("arguments", "coloured"),
    [
        (["--help"], "\x1b[1mCommands\x1b[0m:"),
        (["evaluate", "nowhere"], "\x1b[31m\x1b[1mxpnn:\x1b[0m there is no file"),
        ([*SHORT, "--out", "run"], "\x1b[36mxpnn evaluate run --out pictures\x1b[0m"),
    ],
)
def test_colours_are_for_terminals_and_for_who_wants_them(arguments: list[str], coloured: str) -> None:
    def fresh() -> None:
        shutil.rmtree("run", ignore_errors=True)

    assert coloured in on_a_terminal(*arguments)
    for wish in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        fresh()
        plain = on_a_terminal(*arguments, **wish)
        assert not re.search(r"\x1b\[[\d;]*[1-9][\d;]*m", plain)  # the bar may move the cursor
        assert "TERM" not in wish or ESCAPE not in plain
    fresh()
    piped = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert ESCAPE not in piped.stdout + piped.stderr
    assert re.sub(r"\x1b\[\d*m", "", coloured) in piped.stdout + piped.stderr


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [({}, None), ({"NO_COLOR": ""}, None), ({"NO_COLOR": "0"}, False), ({"TERM": "dumb"}, False)],
)
def test_what_the_environment_says_about_colours(environment: dict[str, str], allowed: bool | None) -> None:
    assert allowed_colour(environment) is allowed


def test_a_terminal_that_cannot_move_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert type(progress.progress_callback(quiet=False, environ={"TERM": "dumb"})) is progress.ProgressLines
    assert type(progress.progress_callback(quiet=False, environ={})) is progress.ProgressBar


# Other systems


@pytest.mark.parametrize(
    ("words", "posix", "windows"),
    [
        (["--out", Path("runs/a")], "--out runs/a", f"--out {Path('runs/a')}"),
        ([Path("a b")], "'a b'", '"a b"'),
        (["C:\\my runs\\"], "'C:\\my runs\\'", '"C:\\my runs\\\\"'),
        (["C:\\runs\\a"], "'C:\\runs\\a'", "C:\\runs\\a"),
        (["a&b"], "'a&b'", '"a&b"'),
        (['a "b"'], "'a \"b\"'", '"a \\"b\\""'),
        ([Path("-x")], "./-x", ".\\-x"),
        (["-x"], "-x", "-x"),
        (["größe"], "'größe'", "größe"),
        ([""], "''", '""'),
    ],
)
def test_words_are_quoted_for_each_system_s_shell(words: list, posix: str, windows: str) -> None:
    assert quoted(*words, windows=False) == posix
    assert quoted(*words, windows=True) == windows
    texts = [word for word in words if isinstance(word, str)]
    if " " in "".join(texts):
        assert subprocess.list2cmdline(texts) == windows


def test_a_name_that_the_console_lacks_is_shown_by_its_number() -> None:
    images = np.arange(160, dtype=np.uint8).reshape(40, 4)  # (rows, features)
    np.savez("rows.npz", images=images, labels=np.array(["\u4e00", "b"] * 20))
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    assert run(*SHORT, "--data", "rows.npz", "--quiet", "--out", "run").exit_code == 0
    command = [*PROGRAM, "evaluate", "run", "--data", "rows.npz", "--backend", "numpy"]
    result = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    assert b"\\u4e00" in result.stdout


@pytest.mark.parametrize("name", ["with space", "größe 数", "a'b", "-dash", "x" * 200])
def test_a_run_folder_of_any_name_can_be_used_again(name: str) -> None:
    assert run(*SHORT, "--quiet", "--out", name).exit_code == 0
    (line,) = [line for line in next_commands(run(*SHORT, "--out", f"{name} 2"[-200:]).stdout) if "evaluate" in line]
    assert "pictures" in line
    result = run("evaluate", f"./{name}" if name.startswith("-") else name, "--json")
    assert json.loads(result.stdout)["rows"] == 359


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


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_sync_a_folder(number: int, raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:  # noqa: ARG001
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", refuse)
    if raises:
        with pytest.raises(OSError, match=os.strerror(number)):
            files.sync_folder(Path())
    else:
        files.sync_folder(Path())


def test_a_file_that_is_held_for_a_moment_is_renamed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, while a scanner looks at it."""
    replace, refusals, pauses = Path.replace, [2], []

    def held(self: Path, target: Path) -> Path:
        if refusals[0]:
            refusals[0] -= 1
            raise PermissionError(errno.EACCES, "held")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", held)
    monkeypatch.setattr(files.time, "sleep", pauses.append)
    Path("new").write_text("new")
    files._rename(Path("new"), Path("old"), attempts=3)
    assert (Path("old").read_text(), len(pauses)) == ("new", 2)
    refusals[0] = 1
    with pytest.raises(StorageError, match="cannot write old: held"):
        files.write_atomically(Path("old"), b"newer")  # elsewhere it is tried once
    assert Path("old").read_text() == "new"

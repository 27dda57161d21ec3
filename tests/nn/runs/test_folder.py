"""The run folder: who may work in it, what is swept up, and what its configuration may say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock
from xpnn import nn
from xpnn.backends import ConfigError, ModelFileError, RunFolderInUse, StorageError
from xpnn.nn.cli.app import xpnn
from xpnn.nn.files.atomic import append
from xpnn.nn.files.limits import CONFIG_BYTES
from xpnn.nn.runs.config import RunConfig
from xpnn.nn.runs.data_choice import DataChoice
from xpnn.nn.runs.folder import RunFolder
from xpnn.nn.runs.recipes import RECIPES

CONFIG = RunConfig(RECIPES["quickstart"], DataChoice(), "numpy", 0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a new run, which nobody claims."""
    monkeypatch.chdir(tmp_path)
    with RunFolder(tmp_path / "run") as folder:
        folder.create(CONFIG)
    return folder


def run(*arguments):
    return CliRunner().invoke(xpnn, arguments)


def one_line(result, code=2):
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("xpnn: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


# Who may work in it


def test_a_claimed_folder_is_refused_to_others(folder):
    with folder:
        folder.claim()
        with pytest.raises(RunFolderInUse, match=r"another process is using .*run: wait until it ends"):
            RunFolder(folder.path).claim()
        assert "another process is using run" in one_line(run("train", "--resume", "run"))
    RunFolder(folder.path).claim()


def test_two_processes_at_once(folder):
    """The other one is a real process, killed without a chance to clean up: its claim is gone with it."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom xpnn.nn.runs.folder import RunFolder\n"
        "folder = RunFolder(Path('run'))\nfolder.claim()\nprint('claimed', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        with pytest.raises(RunFolderInUse):
            folder.claim()
        other.kill()
    with folder:
        folder.claim()


def test_a_new_run_does_not_come_into_one_that_just_began(folder, monkeypatch):
    """As when two runs find the same empty folder."""
    late = RunFolder(folder.path)
    checks = []
    refuse = RunFolder.refuse_existing
    monkeypatch.setattr(RunFolder, "refuse_existing", lambda self: checks.append(self) or (checks[1:] and refuse(self)))
    with late, pytest.raises(ConfigError, match="exists and is not empty"):
        late.create(CONFIG)
    assert len(checks) == 2


def test_an_empty_folder_and_one_with_nothing_but_traces_are_new(tmp_path):
    (tmp_path / "run").mkdir()
    for name in (".lock", ".config.json.1234abcd.tmp"):
        (tmp_path / "run" / name).touch()
    with RunFolder(tmp_path / "run") as folder:
        folder.create(CONFIG)
    assert {path.name for path in folder.path.iterdir()} - {".lock"} == {"config.json"}


def test_what_a_killed_process_left_half_written_is_swept_up(folder):
    for name in (".checkpoint.safetensors.1234abcd.tmp", ".metrics.jsonl.00000000.tmp"):
        (folder.path / name).write_bytes(b"half")
    (folder.path / "notes.tmp").write_bytes(b"the user's own")
    with folder:
        folder.claim()
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "config.json", "notes.tmp"]


def test_a_lock_that_is_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "precious").write_text("as it was")
    (folder.path / ".lock").unlink()
    (folder.path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="cannot write into the run folder"):
        folder.claim()
    assert (tmp_path / "precious").read_text() == "as it was"
    assert ".lock is a symbolic link: replace it by its target" in one_line(run("train", "--resume", "run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(folder):
    folder.path.chmod(0o500)
    (folder.path / ".lock").unlink(missing_ok=True)
    with pytest.raises(StorageError, match="cannot write into the run folder"):
        folder.claim()
    folder.path.chmod(0o700)


def test_what_is_no_run_folder_is_left_alone(tmp_path):
    (tmp_path / "other").mkdir()
    assert "is no run folder: it has no config.json" in one_line(run("train", "--resume", str(tmp_path / "other")))
    assert list((tmp_path / "other").iterdir()) == []


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(folder):
    config = json.loads(folder.config.read_text())
    config["recipe"]["training"]["epochs"] = 2
    folder.config.write_text(json.dumps(config))
    assert run("train", "--resume", "run", "--quiet").exit_code == 0
    assert run("train", "--backend", "numpy", "--epochs", "2", "--quiet", "--out", "whole").exit_code == 0
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


def test_a_run_that_lost_its_checkpoint_does_not_begin_anew(folder):
    run("train", "--resume", "run", "--quiet")
    folder.checkpoint.unlink()
    before = folder.metrics.read_text()
    assert "there is no file run/checkpoint.safetensors" in one_line(run("train", "--resume", "run"))
    assert folder.metrics.read_text() == before


def test_a_run_without_a_model_yet_is_said_to_be_unfinished(folder):
    run("train", "--resume", "run", "--quiet")
    folder.model.unlink()
    for command in ("evaluate", "explain"):
        message = one_line(run(command, "run"))
        assert message.strip() == "xpnn: run is unfinished: complete it with xpnn train --resume run"


def test_hidden_files_of_the_user_are_left_alone(tmp_path):
    (tmp_path / ".draft.tmp").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not empty"):
        RunFolder(tmp_path).refuse_existing()
    with RunFolder(tmp_path) as folder:
        folder.claim()
    assert (tmp_path / ".draft.tmp").read_text() == "mine"


def test_a_name_that_no_file_can_have():
    for arguments in (["train", "--out"], ["train", "--resume"], ["evaluate"], ["explain"]):
        one_line(run(*arguments, "a" * 300))
    with pytest.raises(ConfigError, match="cannot be a run folder"):
        RunFolder(Path("zero\0byte"))


@pytest.mark.parametrize("path", ["kind\u00a0x.csv", "日本\u3000語.csv", "família 👨‍👩‍👧.csv"])
def test_any_text_that_a_file_can_hold_can_be_read_again(folder, path):
    config = RunConfig(RECIPES["quickstart"], DataChoice(path, "kind\u00a0x"), "numpy", 0)
    folder.config.write_text(json.dumps(config.to_json()))
    assert folder.read_config() == config
    with pytest.raises(ConfigError, match="without control characters"):
        RunConfig(RECIPES["quickstart"], DataChoice(path, "a\x1bb"), "numpy", 0)


def test_evaluating_needs_no_claim(folder):
    run("train", "--resume", "run", "--quiet")
    with FileLock(folder.path / ".lock"):
        assert run("evaluate", "run", "--json").exit_code == 0


# Its files


def test_a_line_that_does_not_fit_is_not_there_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    append(path, b"whole\n")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.open", lambda path, mode, buffering: FullDisk(path))  # noqa: ARG005
        with pytest.raises(StorageError, match=r"cannot write .*metrics.jsonl: No space left on device"):
            append(path, b"does not fit\n")
    assert path.read_bytes() == b"whole\n"


@pytest.mark.parametrize("room", [1, 3, 5])
def test_a_line_that_is_taken_in_parts_is_whole(tmp_path, monkeypatch, room):
    path = tmp_path / "metrics.jsonl"
    append(path, b"whole\n")

    class Slow(FullDisk):
        def write(self, content):
            return os.write(self.descriptor, content[:room])

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.open", lambda path, mode, buffering: Slow(path))  # noqa: ARG005
        append(path, b"in parts\n")
    assert path.read_bytes() == b"whole\nin parts\n"


class FullDisk:
    """A file on a disk with room for three bytes."""

    def __init__(self, path):
        self.descriptor, self.room = os.open(path, os.O_RDWR), 3
        os.lseek(self.descriptor, 0, os.SEEK_END)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.descriptor)

    def tell(self):
        return os.lseek(self.descriptor, 0, os.SEEK_CUR)

    def write(self, content):
        if not self.room:
            raise OSError(28, "No space left on device")
        content, self.room = content[: self.room], 0
        return os.write(self.descriptor, content)

    def truncate(self, size):
        os.ftruncate(self.descriptor, size)


# Its configuration


def test_a_configuration_comes_back():
    named = DataChoice("rows.csv", "kind", "Id", ("a", "b"), ("c",), "\t", ",", False, 0.3, True)
    weights = RECIPES["table"].with_options(class_weight={"fraud": 10.0, "other": 1})
    for recipe in (*RECIPES.values(), weights, RECIPES["table"].with_options(class_weight="balanced")):
        config = RunConfig(recipe, named, "numba", 7)
        assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def changed(**changes):
    """Return the configuration with a value replaced: `recipe__epochs=0`; `...` takes it out."""
    config = json.loads(json.dumps(CONFIG.to_json()))
    for path, value in changes.items():
        *inner, last = path.split("__")
        place = config
        for key in inner:
            place = place[key]
        place[last] = value
        if value is ...:
            del place[last]
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe__training__epochs": "30"}, "epochs cannot be '30'"),
        ({"recipe__training__epochs": 3.5}, "epochs cannot be 3.5"),
        ({"recipe__training__epochs": True}, "epochs cannot be True"),
        ({"recipe__sizes": [64, "32", 10]}, "sizes cannot be"),
        ({"recipe__sizes": 64}, "sizes cannot be 64"),
        ({"recipe__sizes": []}, "sizes of a recipe must be two or more"),
        ({"recipe__sizes": [64, 0, 10]}, "sizes of a recipe must be two or more"),
        ({"recipe__training__batch_size": 0}, "batch_size must be a whole number >= 1"),
        ({"recipe__activation": "foo"}, "unknown activation 'foo'"),
        ({"recipe__dtype": "int8"}, "unknown dtype 'int8'"),
        ({"recipe__training__schedule": "x"}, "unknown schedule 'x'"),
        ({"recipe__initializer": "x"}, "unknown initializer 'x'"),
        ({"recipe__training__l2": [0]}, "l2 cannot be"),
        ({"recipe__training__batch_size": "full"}, "batch_size cannot be 'full'"),
        ({"recipe__training__class_weight": {"fraud": "10"}}, "class_weight cannot be"),
        ({"recipe__training__class_weight": {"fraud": True}}, "class_weight cannot be"),
        ({"recipe__training__class_weight": {"fraud": {"a": 1}}}, "class_weight cannot be"),
        ({"recipe__training__class_weight": {"\x1b[2J": 1}}, "class_weight cannot be"),
        ({"recipe__training__class_weight": [1, 2]}, "class_weight cannot be"),
        ({"data__drop": "a"}, "drop cannot be 'a'"),
        ({"data__drop": ["a", 1]}, "drop cannot be"),
        ({"data__categorical": ["\x1b[2J"]}, "categorical cannot be"),
        ({"data__id_column": "\t"}, "names and paths must be without control characters"),
        ({"data__delimiter": "\n"}, "delimiter cannot be"),
        ({"data__header": "yes"}, "header cannot be 'yes'"),
        ({"recipe__training__optimizer__learning_rate": "fast"}, "learning_rate cannot be 'fast'"),
        ({"recipe__training__optimizer__learning_rate": -1}, "learning_rate of adam must be a finite number > 0"),
        ({"recipe__training__optimizer__name": "adm"}, r"unknown optimizer 'adm' \(did you mean 'adam'"),
        ({"recipe__training__optimizer__slots": ["x"]}, "slots cannot be"),
        ({"recipe__dataset": "/etc"}, "unknown data set '/etc'"),
        ({"recipe__extra": 1}, "Recipe has no 'extra'"),
        ({"recipe__name": "\x1b[2Jclear"}, "name cannot be"),
        ({"recipe__name": ...}, "name"),
        ({"recipe": []}, "."),
        ({"data__source": 5}, "source cannot be 5"),
        ({"data": ...}, "it lacks 'data'"),
        ({"backend": None}, "backend cannot be None"),
        ({"seed": 0.5}, "seed cannot be 0.5"),
    ],
)
def test_a_configuration_that_cannot_be(folder, changes, message):
    folder.config.write_text(json.dumps(changed(**changes)))
    with pytest.raises(ModelFileError, match=f"config.json is damaged or was written by another version: .*{message}"):
        folder.read_config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "it must be a JSON object, got list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"seed": 1, "seed": 2}', "duplicate key 'seed'"),
        ('{"seed": NaN}', "NaN is not a JSON number"),
        ('{"seed": 1' + "0" * 5000 + "}", "integer string conversion"),
        (b"\xff\xfe", "decode"),
    ],
)
def test_a_configuration_that_is_no_json(folder, text, message):
    folder.config.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ModelFileError, match=f"config.json is damaged or was written by another version: .*{message}"):
        folder.read_config()


def test_a_configuration_that_is_too_large(folder):
    folder.config.write_bytes(b" " * (CONFIG_BYTES + 1))
    with pytest.raises(ModelFileError, match=r"config.json has 1,048,577 bytes, more than the limit of 1,048,576"):
        folder.read_config()


def test_a_network_of_another_size_is_refused_before_it_is_made(folder, monkeypatch):
    run("train", "--resume", "run", "--quiet")
    folder.config.write_text(json.dumps(changed(recipe__sizes=[64, 100_000_000, 10])))
    monkeypatch.setattr(nn.MLP, "__init__", lambda *_, **__: pytest.fail("a network was made"))
    assert "to a run with sizes [64, 32, 10], this one has [64, 100000000, 10]" in one_line(
        run("train", "--resume", "run")
    )


# The command line around it


@pytest.mark.usefixtures("folder")
def test_an_error_that_nobody_expected_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("xpnn.nn.cli.train.get_backend", fail)
    text = one_line(run("train", "--resume", "run"), code=1)
    assert text == "xpnn: unexpected ZeroDivisionError: of all things; `xpnn --debug ...` shows where\n"
    assert isinstance(run("--debug", "train", "--resume", "run").exception, ZeroDivisionError)


@pytest.mark.usefixtures("folder")
def test_a_full_memory_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise MemoryError("Unable to allocate 5 GiB")

    monkeypatch.setattr("xpnn.nn.cli.train.get_backend", fail)
    assert one_line(run("train", "--resume", "run"), code=1).startswith("xpnn: the memory is full: Unable to allocate")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_signal_before_the_first_step_ends_at_once(tmp_path):
    """In a callback of a compiler, where an exception would be swallowed."""
    program = (
        "import ctypes, os, signal, xpnn.nn.cli.train as train\nfrom xpnn.nn.cli import main\n"
        "def compile(*_, **__): os.kill(os.getpid(), signal.SIGTERM)\n"
        "train.get_backend = lambda *_, **__: ctypes.CFUNCTYPE(None)(compile)()\nmain()"
    )
    command = [sys.executable, "-c", program, "train", "--out", "run"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (143, "xpnn: interrupted before the first step\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_signal_after_the_last_step_leaves_a_whole_run(tmp_path, monkeypatch):
    import signal

    monkeypatch.setattr("xpnn.nn.cli.train.save_curves", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    result = run("train", "--backend", "numpy", "--epochs", "1", "--out", str(tmp_path / "run"))
    assert result.exit_code == 143
    assert (tmp_path / "run" / "summary.json").exists()

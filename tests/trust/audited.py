"""Opens hostile files in this process, and reports what Python's audit events tell of it.

`python audited.py FOLDER`: FOLDER has a sound run `sound`, hostile runs `hostile-*` and hostile model files `*.model`.
"""

import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from types import CodeType

from click.testing import CliRunner
from xpnn import nn
from xpnn.backends import XpnnError
from xpnn.nn.cli.app import xpnn

# What runs code, loads it, or leaves the process, and what makes or reads files, with the argument that is the path.
CODE = ("import", "exec", "compile", "pickle.", "marshal.", "subprocess.", "os.system", "os.exec", "os.fork",
        "os.spawn", "os.posix_spawn", "ctypes.", "socket.", "urllib.", "shutil.", "webbrowser.")  # fmt: skip
FILES = {"open": 0, "os.remove": 0, "os.rename": 1, "os.mkdir": 0, "os.listdir": 0, "os.link": 1, "os.symlink": 1}
COMMANDS = (["evaluate"], ["explain"], ["predict", "IMAGE"], ["train", "--quiet", "--resume"])


def commands(run, folder):
    """Give every command line that takes a run folder."""
    for name, *rest in COMMANDS:
        images = [str(folder / "image.png")] if "IMAGE" in rest else []
        yield [name, *(word for word in rest if word != "IMAGE"), str(run), *images]


def open_model(path):
    """Load it in each way that a library's user has."""
    for load in (lambda: nn.load(path, backend="numpy"), lambda: nn.Checkpoint.load(path)):
        with contextlib.suppress(XpnnError):
            load()


def told(event, arguments, run):
    """Return an event in words that are the same from run to run; None for what is not watched or lies in the run."""
    if event.startswith(CODE):
        code = arguments[0] if arguments else None
        place = f"{code.co_filename}:{code.co_name}" if isinstance(code, CodeType) else str(arguments[:1])
        return f"{event} {place:.300}"
    if event in FILES and isinstance(arguments[FILES[event]], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[FILES[event]]))
        return None if Path(path).is_relative_to(os.path.realpath(run)) else f"{event} {path}"
    return None


def main(folder):
    """Print the exit codes of the hostile runs, and each event that a sound run does not have."""
    runner, watched, seen = CliRunner(), [], set()

    def hook(event, arguments):
        if watched and (what := told(event, arguments, watched[0])) is not None:
            seen.add(what)

    def watch(path, act):
        """Return what happens meanwhile."""
        seen.clear()
        watched[:] = [str(path)]
        result = act()
        watched.clear()
        return result, set(seen)

    def run_all(run):
        return [runner.invoke(xpnn, arguments).exit_code for arguments in commands(run, folder)]

    sound = folder / "sound"
    for _ in range(2):  # whatever is imported or cached lazily is there from now on
        run_all(sound)
        for name in ("model", "checkpoint"):
            open_model(sound / f"{name}.safetensors")
    sys.addaudithook(hook)
    unknown = ["train", "--backend", "unknown"]  # what is installed is looked through
    runner.invoke(xpnn, unknown)
    _, usual = watch(sound, lambda: (run_all(sound), runner.invoke(xpnn, unknown)))
    codes, unusual = {}, []
    for run in sorted(folder.glob("hostile-*")):
        codes[run.name], events = watch(run, partial(run_all, run))
        unusual += [[run.name, event] for event in sorted(events - usual)]
    for path in sorted(folder.glob("*.model")):
        _, events = watch(path, partial(open_model, path))
        unusual += [[path.name, event] for event in sorted(events)]
    print(json.dumps({"unusual": unusual, "codes": codes}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))

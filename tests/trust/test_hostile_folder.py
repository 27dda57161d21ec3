"""Commands given in a folder that someone filled to do harm: no code of it runs, and none of its settings counts."""

import hashlib
import os
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from xpnn.backends import why_unavailable
from xpnn.nn.cli.app import xpnn

pytestmark = [
    pytest.mark.skipif(bool(reason := why_unavailable("numba")), reason=reason),
    pytest.mark.skipif(os.name == "nt", reason="puts the kernels' cache elsewhere by a link"),
]

RUN = "open('ran', 'w').write(__name__)\n"
# Names that Python, or a package that is used, looks for at its start or takes its settings from.
PROGRAMS = (
    "evil.py", "json.py", "numpy.py", "yaml.py", "matplotlib.py", "xpnn.py", "sitecustomize.py", "usercustomize.py",
    "conftest.py", ".pythonrc", "pythonrc.py", ".pythonstartup",
)  # fmt: skip
SETTINGS = {
    ".numba_config.yaml": "cache_dir: .\n",
    "matplotlibrc": "backend: module://evil\ntext.usetex: True\nsavefig.dpi: 7\nfigure.facecolor: red\n",
    ".env": "NUMBA_CACHE_DIR=.\nXPNN_DATA=.\nPYTHONPATH=.\nJAX_COMPILATION_CACHE_DIR=.\nCUPY_CACHE_DIR=.\n",
    "setup.cfg": "[options]\ninstall_requires = evil\n",
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-p evil'\n",
    "pyvenv.cfg": "home = .\n",
    ".netrc": "default login a password b\n",
    "openssl.cnf": "openssl_conf = evil\n",
    "threadpoolctl.ini": "evil\n",
    "pip.conf": "[global]\nindex-url = evil\n",
    "polars.toml": "evil\n",
}
# Runs what follows, and writes into a file which files of the working folder Python has opened.
WATCHED = """
import atexit, json, os, sys
folder, opened = os.getcwd(), set()
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.add(os.path.relpath(os.fsdecode(arguments[0]), folder))
sys.addaudithook(watch)
atexit.register(lambda: print(*sorted(opened), sep="\\n", file=open(sys.argv.pop(), "w")))
"""
MAIN = "sys.argv, last = sys.argv[:-1], sys.argv[-1]\natexit.register(lambda: sys.argv.append(last))\n"
MAIN += "from xpnn.nn.cli import main\nmain()\n"
LOAD = """
import numpy as np
from xpnn import nn
net = nn.load("run/model.safetensors", backend="numba")
net.predict(np.zeros((200_000, 64), dtype=np.uint8))
"""
COMMANDS = {
    "evaluate": [MAIN, "evaluate", ".", "--backend", "numba", "--out", "evaluated"],
    "predict": [MAIN, "predict", ".", "image.png", "--backend", "numba"],
    "backends": [MAIN, "backends"],
    "export": [MAIN, "export", ".", "--npz", "new.npz", "--onnx", "new.onnx", "--html", "new.html"],
    "train": [MAIN, "train", "--backend", "numba", "--epochs", "1", "--out", "trained"],
    "nn.load": [LOAD],
}


class Payload:
    """A pickle that runs code."""

    def __reduce__(self):
        return exec, (RUN,)


def poisoned_kernels(folder):
    """Put a poisoned pickle wherever Numba's cache, or ours, would look in `folder` for any kernel."""
    from numba.core import config
    from numba.core.caching import FunctionCache
    from numba.core.dispatcher import Dispatcher
    from xpnn.backends import numba as kernels
    from xpnn.backends.numba.compiler.cache import default_path

    count, poison = 0, pickle.dumps(Payload())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "CACHE_DIR", str(folder))
        for module in walk_packages(kernels.__path__, f"{kernels.__name__}."):
            for kernel in vars(import_module(module.name)).values():
                if isinstance(kernel, Dispatcher) and kernel.py_func.__module__ == module.name:
                    Path(FunctionCache(kernel.py_func)._cache_file._index_path).write_bytes(poison)
                    count += 1
    (folder / "xpnn").mkdir(mode=0o700)
    for name in {path.name for path in default_path().glob("*.kernel")}:
        digest = hashlib.sha256(name.encode() + b"\0" + poison).digest()
        (folder / "xpnn" / name).write_bytes(digest + poison)
    return count


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run folder with all of it, and a picture."""
    folder = tmp_path_factory.mktemp("hostile")
    result = CliRunner().invoke(
        xpnn, ["train", "--backend", "numba", "--epochs", "1", "--quiet", "--out", str(folder / "run")]
    )
    assert result.exit_code == 0, result.output
    for path in (folder / "run").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    picture = np.zeros((8, 8), dtype=np.uint8)
    picture[1:7, 3:5] = 255
    Image.fromarray(picture).save(folder / "image.png")
    for name in PROGRAMS:
        (folder / name).write_text(RUN)
    for name, text in SETTINGS.items():
        (folder / name).write_text(text)
    assert poisoned_kernels(folder) > 50
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "train" else pytest.mark.thorough) for name in COMMANDS]
)
def test_nothing_in_the_working_folder_is_run(hostile, tmp_path, name):
    pytest.importorskip("yaml")  # without which Numba reads no configuration file
    from xpnn.backends.numba.compiler.cache import default_path

    (tmp_path / "xpnn").mkdir()
    (tmp_path / "xpnn" / "kernels").symlink_to(default_path())
    environment = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "MPLBACKEND")}
    program, *arguments = COMMANDS[name]
    # As the command `xpnn` does, -P keeps the working folder out of the path of imports.
    result = subprocess.run(
        [sys.executable, "-P", "-c", WATCHED + program, *arguments, str(tmp_path / "opened")],
        cwd=hostile, env=environment | {"XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    opened = (tmp_path / "opened").read_text().splitlines()
    assert not {*PROGRAMS, *SETTINGS} & set(opened), opened
    assert not [path for path in opened if path.startswith("xpnn/")]
    assert name in ("backends", "nn.load") or {"model.safetensors", "trained/metrics.jsonl"} & set(opened)
    assert not (hostile / "ran").exists()
    assert not list(tmp_path.rglob("ran"))
    if name == "train":  # the settings of matplotlib do not count either
        assert (hostile / "trained" / "curves.png").stat().st_size == pytest.approx(
            (hostile / "run" / "curves.png").stat().st_size, rel=0.1
        )

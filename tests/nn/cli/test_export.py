"""`xpnn export`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.nn.cli.app import xpnn
from xpnn.nn.export import c_files
from xpnn.nn.inputs.inputs import Numbers, Pixels


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    """An empty folder with a model in it."""
    monkeypatch.chdir(tmp_path)
    net = nn.MLP([6, 3], backend="numpy")
    net.inputs = Pixels(count=6, shape=(2, 3))
    nn.save(net, "net.safetensors")
    return net


def run(*arguments):
    return CliRunner().invoke(xpnn, ["export", *arguments])


def written():
    return sorted(path.name for path in Path().iterdir() if path.name != "net.safetensors")


def test_all_three_at_once(model):
    pytest.importorskip("onnx", reason="onnx is not installed")
    result = run("net.safetensors", "--html", "a.html", "--onnx", "a.onnx", "--npz", "a.npz")
    assert result.exit_code == 0, result.output
    assert written() == ["a.html", "a.npz", "a.onnx"]
    for name in written():
        assert f"saved {name}, {Path(name).stat().st_size:,} bytes" in result.stdout
    assert "open it in a browser" in result.stdout
    assert "images: uint8, (any number, 6)" in result.stdout
    with np.load("a.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["layers.0.weight"], model.parameters()["layers.0.weight"])


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system has no /dev/stdout")
def test_a_dash_is_standard_output_of_files_and_refused_for_folders():
    command = [sys.executable, "-m", "xpnn.nn", "export", "net.safetensors", "--npz"]
    done = subprocess.run([*command, "-"], capture_output=True, check=True)
    assert done.stdout[:2] == b"PK"
    assert b"saved /dev/stdout" in done.stderr
    result = run("net.safetensors", "--c", "-")
    assert result.exit_code == 2
    assert "'-' is not standard output here: name a file or folder, or ./- for one called -" in result.stderr
    assert run("net.safetensors", "--npz", "./-").exit_code == 0
    assert written() == ["-"]


def test_a_run_folder_and_json():
    result = CliRunner().invoke(xpnn, ["train", "--epochs", "1", "--quiet", "--backend", "numpy", "--out", "run"])
    assert result.exit_code == 0, result.output
    result = run("run", "--html", "a.html", "--json")
    assert json.loads(result.stdout) == {"files": {"html": {"path": "a.html", "bytes": Path("a.html").stat().st_size}}}


def test_c(model):
    result = run("net.safetensors", "--c", "a/b")
    assert result.exit_code == 0, result.output
    for name, content in c_files(model).items():
        assert Path("a/b", name).read_bytes() == content
        assert f"saved {Path('a/b', name)}, {len(content):,} bytes" in result.stdout
    assert "118 bytes of flash beside the code, 12 bytes of RAM, on the stack" in result.stdout


def test_c_of_8_bit_integers_is_calibrated_on_the_rows_of_the_run():
    rows = np.random.default_rng(0).normal(size=(60, 5))
    np.savez("rows.npz", images=rows, labels=(rows[:, 0] > 0).astype(np.int64))
    train = ["train", "--data", "rows.npz", "--epochs", "1", "--quiet", "--backend", "numpy", "--out", "run"]
    result = CliRunner().invoke(xpnn, train)
    assert result.exit_code == 0, result.output
    result = run("run", "--c", "a", "--int8")
    assert result.exit_code == 2
    assert "the run has its rows from" in result.stderr
    result = run("run", "--c", "a", "--int8", "--data", "rows.npz", "--json")
    about = json.loads(result.stdout)["files"]["c"]
    data = nn.load_dataset("rows.npz", seed=0)
    files = c_files(nn.load("run/model.safetensors"), int8=True, calibration=data.train)
    assert {path.name: path.read_bytes() for path in Path("a").iterdir()} == files
    assert about == {"path": "a", "bytes": sum(map(len, files.values())), "flash_bytes": about["flash_bytes"],
                     "ram_bytes": about["ram_bytes"]}  # fmt: skip
    assert 0 < about["ram_bytes"] < about["flash_bytes"]


def test_what_the_onnx_model_takes():
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    assert "images: float32" in run("net.safetensors", "--onnx", "a.onnx", "--input", "float").stdout
    assert onnx.load("a.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Choose a format: --onnx FILE, --npz FILE, --html FILE or --c FOLDER."),
        (["--npz", "a", "--input", "float"], "--input applies to ONNX only; add --onnx FILE."),
        (["--npz", "a", "--html", "./a"], "--npz a would overwrite the file of --html: name another file"),
        (["--npz", "net.safetensors"], "would overwrite the model itself: name another file"),
        (["--npz", "link"], "--npz link would overwrite the model itself"),
        (["--npz", "."], "a file to write must be a path"),
        (["--npz", "a", "--int8"], "--int8 applies to C only; add --c FOLDER."),
        (["--c", "a", "--data", "digits"], "--data applies to --int8 only; add it, or leave --data out."),
        (["--c", "a", "--int8"], "--int8 needs training rows, and net.safetensors does not name them: add --data"),
        (["--c", ".", "--npz", "network.c"], "--c network.c would overwrite the file of --npz: name another file"),
    ],
)
def test_wrong_usage(arguments, message):
    Path("link").symlink_to("net.safetensors")
    before = Path("net.safetensors").read_bytes()
    result = run("net.safetensors", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert written() == ["link"]
    assert Path("net.safetensors").read_bytes() == before


def test_nothing_is_written_if_one_cannot_be(model):
    model.inputs = Numbers(count=6)
    nn.save(model, "net.safetensors")
    result = run("net.safetensors", "--npz", "a.npz", "--html", "a.html")
    assert result.exit_code == 2
    assert "not trained on images, but on rows of 6 features, which cannot be drawn" in result.stderr
    assert written() == []


def test_without_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run("net.safetensors", "--npz", "a.npz", "--onnx", "a.onnx")
    assert result.exit_code == 2
    assert 'writing ONNX needs the package onnx: pip install "xpnn[onnx]"' in result.stderr
    assert written() == []


def test_a_folder_that_is_missing():
    result = run("net.safetensors", "--npz", "missing/a.npz")
    assert result.exit_code == 1
    assert "cannot write missing/a.npz: No such file or directory" in result.stderr

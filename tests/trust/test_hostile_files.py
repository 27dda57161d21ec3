"""Run folders and model files that someone made to do harm: nothing in them is imported, run, or followed."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import save
from xpnn.nn.cli.app import xpnn
from xpnn.nn.datasets.idx_folder import PARTS
from xpnn.nn.files.tensors import description_text, read_tensors, sealed

AUDITED = Path(__file__).with_name("audited.py")
CALLS = [
    "__import__('os').system('touch owned')", "os.system", "!!python/object/apply:os.system", "${jndi:ldap://x}",
    "../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x.npz", "\x00", "{0.__class__}",
]  # fmt: skip


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return os.system, ("touch owned",)


def set_at(tree, path, value):
    """Return a copy of a JSON tree with one value replaced."""
    tree = json.loads(json.dumps(tree))
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return tree


def leaves(tree, path=()):
    """Give the path to every value in a JSON tree."""
    if isinstance(tree, dict | list) and tree:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, (*path, key))
    else:
        yield path


@pytest.fixture
def sound(tmp_path):
    """A small run, and a picture to classify."""
    result = CliRunner().invoke(
        xpnn, ["train", "--backend", "numpy", "--epochs", "2", "--quiet", "--out", str(tmp_path / "sound")]
    )
    assert result.exit_code == 0, result.output
    picture = np.zeros((8, 8), dtype=np.uint8)
    picture[1:7, 3:5] = 255
    Image.fromarray(picture).save(tmp_path / "image.png")
    return tmp_path / "sound"


def audited(folder, **environment):
    result = subprocess.run(
        [sys.executable, AUDITED, folder], cwd=folder, capture_output=True, text=True, env=os.environ | environment
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_no_hostile_file_is_run_imported_or_followed(sound, tmp_path, amount, show):
    outside = tmp_path / "outside.csv"
    outside.write_text("label,a,b\n0,1,2\n1,2,1\n0,1,3\n1,5,1\n0,1,2\n1,2,1\n")
    config = json.loads((sound / "config.json").read_text())
    calls = [*CALLS, str(outside), str(outside.with_suffix("")), str(tmp_path)]
    configs = [set_at(config, path, call) for path in leaves(config) for call in calls]
    configs += [config | {"__class__": "os.system"}, {"recipe": config["recipe"] | {"__init__": "x"}}]
    configs = configs[:: amount(1, slice=60)]
    for number, hostile in enumerate(configs):
        run = tmp_path / f"hostile-config-{number:03}"
        shutil.copytree(sound, run)
        (run / "config.json").write_text(json.dumps(hostile))
    for name in ("config.json", "model.safetensors", "checkpoint.safetensors", "metrics.jsonl", ".lock"):
        run = tmp_path / f"hostile-link-{name}"
        shutil.copytree(sound, run)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside)

    models = 0
    for name in ("model", "checkpoint"):
        arrays, description = read_tensors(sound / f"{name}.safetensors", name)
        trees = [set_at(description, path, call) for path in leaves(description) for call in calls]
        trees = trees[:: amount(1, slice=60)]
        contents = [sealed(save(arrays, {"xpnn": description_text(tree)})) for tree in trees]
        text = description_text(description)
        contents += [sealed(save(arrays | {call: np.zeros(1)}, {"xpnn": text})) for call in calls]
        contents += [pickle.dumps(Payload()), b"PK\x03\x04" + pickle.dumps({"xpnn": Payload()})]
        for number, content in enumerate(contents):
            (tmp_path / f"{name}-{number:03}.model").write_bytes(content)
        models += len(contents)

    report = audited(tmp_path)
    assert report["unusual"] == []
    assert not list(tmp_path.rglob("owned"))
    assert outside.read_text().startswith("label,a,b\n0,1,2\n")
    assert {code for codes in report["codes"].values() for code in codes} <= {0, 2}
    assert all(set(codes) == {2} for name, codes in report["codes"].items() if "link" in name)
    seen = f"{len(configs)} configurations, 5 links, {models} models: no import, exec or open outside the run folder"
    show(7, "hostile run folders and models under sys.addaudithook", seen)


def test_the_audit_sees_what_it_looks_for(sound, tmp_path):
    """A run on another named data set looks for it where the user keeps it: that is no harm, and it is seen."""
    config = json.loads((sound / "config.json").read_text())
    config["recipe"]["dataset"] = "mnist"
    run = tmp_path / "hostile-none"
    shutil.copytree(sound, run)
    (run / "config.json").write_text(json.dumps(config))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for part in PARTS:
        (elsewhere / part).write_bytes(b"")
    report = audited(tmp_path, XPNN_DATA=str(elsewhere))
    assert ["hostile-none", f"open {elsewhere / PARTS[-1]}"] in report["unusual"]

"""What imports what: nothing heavy at the start, one direction between the packages, and files that stay small."""

import ast
import subprocess
import sys
from importlib.util import find_spec, resolve_name
from pathlib import Path

import pytest

PACKAGES = ("xpnn.backends", "xpnn.nn", "xpnn.bench")
ALLOWED = {  # package: the packages of ours that it may import
    "xpnn.backends": {"xpnn.backends"},
    "xpnn.nn": {"xpnn.nn", "xpnn.backends"},
    "xpnn.bench": {"xpnn.bench", "xpnn.nn", "xpnn.backends"},
}
HEAVY = (
    "numba",
    "cupy",
    "sklearn",
    "matplotlib",
    "scipy",
    "ssl",
    "click",
    "rich",
    "array_api_strict",
    "PIL",
    "torch",
    "jax",
    "pandas",
    "polars",
    "narwhals",
    "pooch",
    "requests",
    "tensorboard",
    "onnx",
)
MAX_LINES = 500


def modules():
    """(package, module, path) of every Python file of the three packages."""
    found = []
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        folder = Path(spec.submodule_search_locations[0])
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found.append((package, ".".join((package, *parts)).removesuffix(".__init__"), path))
    return found


MODULES = modules()


def imported(module, path):
    """The full names of all modules that a file imports, wherever in it."""
    names = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            names |= {
                each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            }
    return names


def within(name, package):
    return name == package or name.startswith(f"{package}.")


def test_all_packages_are_looked_at():
    names = {module for _, module, _ in MODULES}
    assert {
        "xpnn.backends",
        "xpnn.backends.base",
        "xpnn.nn.training.train",
        "xpnn.nn.datasets.load",
        "xpnn.bench",
    } <= names


def test_imports_are_found_wherever_they_stand(tmp_path):
    path = tmp_path / "probe.py"
    path.write_text("import a.b\ndef f():\n    from ..backends import c\n    import_module('cupy')\nfrom . import d\n")
    assert imported("xpnn.nn.probe", path) == {
        "a.b", "xpnn.backends", "xpnn.backends.c", "cupy", "xpnn.nn", "xpnn.nn.d",
    }  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "import xpnn.nn",
        "import xpnn.backends",
        "import xpnn.backends.testing.plugin",  # which every pytest does
        "from xpnn import nn; nn.MLP([4, 2], backend='numpy')",
    ],
)
def test_the_import_loads_nothing_heavy(statement):
    code = f"{statement}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("package", "module", "path"), MODULES, ids=[module for _, module, _ in MODULES])
def test_imports_go_one_way(package, module, path):
    ours = {name for name in imported(module, path) if within(name, "xpnn") and name != "xpnn"}
    wrong = {name for name in ours if not any(within(name, each) for each in ALLOWED[package])}
    assert not wrong, f"{module} must not import {sorted(wrong)}"


@pytest.mark.parametrize(("package", "module", "path"), MODULES, ids=[module for _, module, _ in MODULES])
def test_only_backends_import_numba_or_cupy(package, module, path):
    accelerators = {name for name in imported(module, path) if within(name, "numba") or within(name, "cupy")}
    assert package == "xpnn.backends" or not accelerators, f"{module} imports {sorted(accelerators)}"


@pytest.mark.parametrize(("module", "path"), [each[1:] for each in MODULES], ids=[each[1] for each in MODULES])
def test_files_stay_small(module, path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{module} has {lines} lines; move a concept into a file of its own"

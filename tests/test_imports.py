"""Imports: nothing heavy at the start, one direction between packages and rooms, no circles; files stay small."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec, resolve_name
from pathlib import Path

import pytest

# Floor by floor, from the ground up: a package or room may import what is below its own floor, and nothing beside it.
FLOORS = {
    "xpnn": [{"backends"}, {"nn"}, {"bench"}],
    "xpnn.nn": [
        {"files", "distributed", "reference"},
        {"inputs"},
        {"datasets"},
        {"network"},
        {"training"},
        {"runs", "pictures", "checkpoint"},
        {"export"},
        {"estimator"},
        {"cli"},
        {"__init__", "__main__"},
    ],
    "xpnn.backends.numba": [
        {"compiler"},
        {"network"},
        {"first_layer"},
        {"steps"},
        {"forward", "engine"},
        {"plan", "divided_plan"},
        {"backend"},
        {"__init__"},
    ],
}
ALONE = {"xpnn.nn.distributed"}  # nothing else of ours but the backends
HEAVY = (
    "array_api_compat",
    "numba",
    "cupy",
    "sklearn",
    "matplotlib",
    "scipy",
    "ssl",
    "click",
    "rich",
    "rich_click",
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


def within(name, package):
    return name == package or name.startswith(f"{package}.")


@pytest.fixture(scope="module")
def modules():
    """Full name -> path of every Python file of the three packages; a package's own file is `....__init__`."""
    found = {}
    for name in ("xpnn.backends", "xpnn.nn", "xpnn.bench"):
        spec = find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations
        folder = Path(spec.submodule_search_locations[0])
        for path in sorted(folder.rglob("*.py")):
            found[".".join((name, *path.relative_to(folder).with_suffix("").parts))] = path
    assert {"xpnn.backends.base", "xpnn.nn.datasets.load", "xpnn.bench.__init__"} <= set(found)
    return found


@cache
def statements(path):
    """The nodes of a file, and those of them that run: all but what is imported for type checking alone."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    for_types = {
        id(inner)
        for node in nodes
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    return nodes, [node for node in nodes if id(node) not in for_types]


def imported(module, path, *, for_types=True):
    """The full names of all that a file imports, wherever in it; or without what it imports for type checking alone."""
    names = set()
    package = module.rpartition(".")[0]
    for node in statements(path)[0 if for_types else 1]:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            names |= {
                each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            }
    return names


def file_of(name, modules):
    """The module in which an imported name is found: itself, its package's file, or the module that defines it."""
    for candidate in (name, f"{name}.__init__", name.rpartition(".")[0], f"{name.rpartition('.')[0]}.__init__"):
        if candidate in modules:
            return candidate
    return None


def edges(modules, *, for_types=True):
    """(file, file that it imports), of ours, by their full names."""
    found = set()
    for module, path in modules.items():
        for name in imported(module, path, for_types=for_types):
            target = file_of(name, modules)
            if target not in (None, module):
                found.add((module, target))
    return found


def a_circle(edges):
    """A circle of files, each of which imports the next; empty if there is none."""
    graph = {}
    for module, target in edges:
        graph.setdefault(module, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def wrong_ways(edges, floors):
    """Imports that do not go down the floors, as text; rooms that are on no floor too."""
    found = []
    for place, rooms in floors.items():
        level = {room: number for number, floor in enumerate(rooms) for room in floor}
        for module, target in sorted(edges):
            if within(module, place) and within(target, place):
                room, other = (name.removeprefix(f"{place}.").split(".")[0] for name in (module, target))
                found += [f"{place}.{name} is on no floor" for name in (room, other) if name not in level]
                if room != other and level.get(room, 0) <= level.get(other, 0):
                    found.append(f"{module} imports {target}")
    return sorted(set(found))


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


def test_imports_go_one_way_between_packages_and_rooms(modules):
    assert wrong_ways(edges(modules), FLOORS) == []


def test_some_rooms_import_nothing_of_their_package(modules):
    wrong = [
        f"{module} imports {target}"
        for module, target in edges(modules)
        for room in ALONE
        if within(module, room) and within(target, room.rpartition(".")[0]) and not within(target, room)
    ]
    assert wrong == []


def test_no_file_imports_itself_by_way_of_others(modules):
    """But for types, which no program imports."""
    assert a_circle(edges(modules, for_types=False)) == []


def test_only_backends_import_numba_or_cupy(modules):
    wrong = [
        f"{module} imports {name}"
        for module, path in modules.items()
        if not within(module, "xpnn.backends")
        for name in imported(module, path)
        if within(name, "numba") or within(name, "cupy")
    ]
    assert wrong == []


def test_files_stay_small(modules):
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules.items()}
    long = {module: lines for module, lines in lengths.items() if lines > MAX_LINES}
    assert long == {}, f"more than {MAX_LINES} lines; move a concept into a file of its own"


def test_every_folder_of_modules_is_in_the_wheel(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {
        ".".join(("xpnn", *path.parent.relative_to(root).parts))
        for package in settings["package-dir"].values()
        for path in (root / package).rglob("__init__.py")
    }
    assert len(folders) > len(settings["package-dir"])
    assert set(settings["packages"]) == folders | {"xpnn.backends.cupy.kernels"}  # CUDA's sources, which are data


# What finds the violations finds them


@pytest.fixture
def probe(tmp_path):
    """`probe("xpnn.nn.probe", text)`: the full name and the path of a file with this text."""

    def write(module, text):
        path = tmp_path / f"{module}.py"
        path.write_text(text, encoding="utf-8")
        return {module: path}

    return write


def test_imports_are_found_wherever_they_stand(probe):
    text = (
        "import a.b\ndef f():\n    from ..backends import c\n    import_module('cupy')\nfrom . import d\n"
        "if TYPE_CHECKING:\n    from .e import F\n"
    )
    ((module, path),) = probe("xpnn.nn.probe", text).items()
    found = {"a.b", "xpnn.backends.c", "cupy", "xpnn.nn.d"}
    assert imported(module, path, for_types=False) == found
    assert imported(module, path) == found | {"xpnn.nn.e.F"}


def test_a_wrong_direction_and_a_circle_are_named(probe):
    files = {
        **probe("xpnn.nn.files.a", "from ..network.b import c\nfrom ...bench import program\n"),
        **probe("xpnn.nn.network.b", "from ..files import a\n"),
        **probe("xpnn.nn.kitchen.d", "from ..files import a\n"),
        **probe("xpnn.bench.program", ""),
    }
    assert wrong_ways(edges(files), FLOORS) == [
        "xpnn.nn.files.a imports xpnn.bench.program",
        "xpnn.nn.files.a imports xpnn.nn.network.b",
        "xpnn.nn.kitchen is on no floor",
        "xpnn.nn.kitchen.d imports xpnn.nn.files.a",
    ]
    assert set(a_circle(edges(files))) == {"xpnn.nn.files.a", "xpnn.nn.network.b"}
    del files["xpnn.nn.network.b"]
    assert a_circle(edges(files)) == []

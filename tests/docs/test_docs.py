"""What the pages say is what the code does."""

import ast
import re
from pathlib import Path

import pytest
from trust.mutations import FILES
from trust.thread_jobs import CASES
from xpnn import backends
from xpnn.backends import RunError, XpnnError
from xpnn.nn.files import limits


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    """The page on reliability."""
    return (root / "docs" / "reliability.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("`config.json`", [limits.CONFIG_BYTES / limits.MIB]),
        ("header of a model or checkpoint", [limits.HEADER_BYTES / limits.MIB]),
        ("model or checkpoint", [limits.TENSOR_FILE_BYTES / limits.GIB]),
        ("numbers in a data file, text of a `.csv`", [limits.DATA_BYTES / limits.GIB]),
        ("growth of a compressed file", [limits.COMPRESSION, limits.ALWAYS_UNPACKED / limits.MIB]),
        ("arrays in an `.npz`", [limits.DATA_FILES]),
        ("columns of a `.csv`, characters of a line", [limits.CSV_COLUMNS, limits.CSV_LINE / limits.MIB]),
        ("a download", [limits.DOWNLOAD_BYTES / limits.MIB]),
        ("a picture", [limits.PICTURE_PIXELS / 1e6, limits.PICTURE_BYTES / limits.MIB]),
    ],
)
def test_the_limits_of_the_page_are_those_of_the_code(page, row, numbers):
    (limit,) = re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", page, re.MULTILINE)
    assert [float(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", limit)][: len(numbers)] == numbers


def test_every_error_is_on_the_page_with_its_exit_code(page):
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| .* \| (\d) \|$", page, re.MULTILINE)
    codes = {name: int(code) for names, code in rows for name in re.findall(r"\w+", names)}
    kinds = [kind for kind in vars(backends.errors).values() if isinstance(kind, type) and issubclass(kind, XpnnError)]
    assert codes == {
        kind.__name__: 1 if issubclass(kind, RunError) else 2 for kind in kinds if kind not in (XpnnError, RunError)
    }


@pytest.fixture(scope="module")
def promises(page: str) -> list[tuple[str, list[str]]]:
    """Each promise of the page, and the tests that hold it."""
    section = page.split("## Promises\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| [^|]*\| ([^|]*) \| ([^|]*) \|$", section, re.MULTILINE)[1:]
    assert len(rows) == len(re.findall(r"^\|", section, re.MULTILINE)) - 2  # header and line
    return [(promise, held.split(", ")) for promise, held in rows]


def names_in(file: Path) -> set[str]:
    """Return the names of a file's tests, as pytest has them in its node ids."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        prefix, functions = (f"{node.name}::", node.body) if isinstance(node, ast.ClassDef) else ("", [node])
        found |= {prefix + each.name for each in functions if isinstance(each, ast.FunctionDef)}
    return {name for name in found if name.split("::")[-1].startswith("test_")}


def test_each_promise_is_held_by_tests_that_are_there(root, promises):
    for promise, tests in promises:
        for test in tests:
            path, _, name = test.strip("`").partition("::")
            file = root / "tests" / path
            assert file.match("test_*.py"), f"{promise}: {test} is no test"
            assert file.is_file(), f"{promise}: there is no {path}"
            there = names_in(file)
            assert name in there if name else there, f"{promise}: there is no {test}"


def test_the_threads_of_the_page_are_those_of_the_test(promises):
    (cases,) = (
        promise.split(": ")[1] for promise, _ in promises if promise.startswith("another number of threads on Numba")
    )
    assert cases.split(", ") == list(CASES)


def test_the_page_has_the_damaged_files_of_each_reader(page):
    assert sum(FILES.values()) == 100_000
    assert set(re.findall(r"^\| \d+ \| mutations of (.*?) \|", page, re.MULTILINE)) == set(FILES)

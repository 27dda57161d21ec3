"""What the pages say is what the code does."""

import re
from pathlib import Path

import pytest
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


def test_the_tests_that_the_page_names_are_there(root, page):
    for name in set(re.findall(r"`((?:trust/)?test_\w+\.py)`", page)):
        assert (root / "tests" / name).is_file(), name

"""Runs on tables that are trained once."""

from pathlib import Path

import pytest
from table_runs import FAST, done, mixed, prices


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Folder of a run on 300 mixed rows, its csv, and what `xpnn train` said."""
    folder = tmp_path_factory.mktemp("mixed")
    data = folder / "mixed.csv"
    mixed(300).write_csv(data)
    said = done("train", "--data", data, *FAST, "40", "--out", folder / "run").stdout
    return folder / "run", data, said


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The same for 200 prices."""
    folder = tmp_path_factory.mktemp("prices")
    data = folder / "prices.csv"
    prices(200).write_csv(data)
    said = done("train", "--data", data, *FAST, "60", "--lr", "0.01", "--out", folder / "run").stdout
    return folder / "run", data, said


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in an empty folder."""
    monkeypatch.chdir(tmp_path)

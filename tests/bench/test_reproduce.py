"""The recipes' table says what was measured."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.bench import reproduce, tables
from xpnn.nn.runs.data_choice import DataChoice
from xpnn.nn.runs.recipes import RECIPES


def test_the_recipes_table_has_the_figures_of_the_runs(tmp_path: Path) -> None:
    page = tmp_path / "recipes.md"
    result = CliRunner().invoke(reproduce.main, ["--recipes", "quickstart", "--backend", "numpy", "--out", str(page)])
    assert result.exit_code == 0, result.output
    recipe, data = RECIPES["quickstart"], nn.load_dataset("digits")
    history = recipe.train(recipe.network(data, backend="numpy"), data)
    row = next(line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `quickstart`"))
    assert f"| {history[-1].train_accuracy:.2%} | {history[-1].test_accuracy:.2%} |" in row
    assert row.endswith("| numpy |")


def test_nine_of_ten_seeds_must_reach_the_claim() -> None:
    runs = [{"train_accuracy": 1.0, "test_accuracy": accuracy} for accuracy in [0.981] * 9 + [0.979]]
    assert reproduce.reached({"recipe": "mnist-98", "runs": runs})
    assert not reproduce.reached({"recipe": "mnist-98", "runs": [*runs[1:], runs[-1]]})
    assert not reproduce.reached({"recipe": "gd-10", "runs": [{"train_accuracy": 1.0, "test_accuracy": 0.8399}]})
    assert not reproduce.reached({"recipe": "gd-10-long", "runs": [{"train_accuracy": 0.92, "test_accuracy": 0.93}]})


def test_a_recipe_short_of_its_claim_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reproduce.CLAIMS, "quickstart", reproduce.Claim("-", 0.9999))
    result = CliRunner().invoke(reproduce.main, ["--recipes", "quickstart", "--backend", "numpy"])
    assert result.exit_code == 1
    assert "short of what its authors show: quickstart" in result.output


def test_ten_seeds_are_summed_up_in_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reproduce.CLAIMS, "quickstart", reproduce.Claim("-", 0.5, seeds=2))
    result = reproduce.reproduce(RECIPES["quickstart"], DataChoice(), "numpy")
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    assert "2 of 2 seeds at 50% or more" in reproduce.table([result])


def test_the_recipe_for_tables_is_compared_on_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "TABLES", ["wine"])
    monkeypatch.setattr(reproduce, "compare", lambda name: tables.compare(name, splits=1))
    result = CliRunner().invoke(reproduce.main, ["--recipes", "table"])
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if line.startswith("| wine"))
    _, _, figure, ours, theirs, *_ = (cell.strip() for cell in row.split("|"))
    assert figure == "test accuracy"
    assert min(float(share.rstrip("%")) for share in (ours, theirs)) > 90


def test_figures_of_tables_are_means() -> None:
    scores = [tables.Score(0.25, 1.0), tables.Score(0.75, 2.0)]
    page = tables.section([tables.Comparison("made", True, scores, scores[:1])])
    assert "| made | R2 | 0.500 | 0.250 | 1.50 | 1.00 |" in page
    assert "means of 2 splits" in page

"""Evaluation on tables: rows found by names of columns and classes, figures of regressions."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from table_runs import CLASSES, FAST, done, figures, mixed, network, prices, run, written
from xpnn import nn

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_a_run_s_own_file_is_split_as_in_training(trained: tuple[Path, Path, str]) -> None:
    folder, data, _ = trained
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    result = figures("evaluate", folder, "--data", data)
    assert (result["rows"], result["accuracy"]) == (60, summary["test_accuracy"])
    assert result["accuracy"] > 0.75
    assert result["loss"] == pytest.approx(summary["test_loss"], rel=1e-6)
    parts = {part: figures("evaluate", folder, "--data", data, "--part", part) for part in ("train", "all")}
    assert [parts[part]["rows"] for part in ("train", "all")] == [240, 300]
    right = {part: round(one["accuracy"] * one["rows"]) for part, one in parts.items()}
    assert right["all"] == right["train"] + round(result["accuracy"] * 60)


def test_all_rows_of_another_file_are_evaluated_by_the_names_of_its_columns(trained: tuple[Path, Path, str]) -> None:
    folder, _, _ = trained
    frame = mixed(80, seed=1)
    expected = figures("evaluate", folder, "--data", written(frame))
    predicted = network(folder).predict(frame.drop("Id", "label"))
    names = np.array(CLASSES)[np.asarray(predicted)]
    assert (expected["rows"], expected["accuracy"]) == (80, np.mean(names == frame["label"].to_numpy()))
    other = frame.select(reversed(frame.columns)).with_columns(more=pl.lit(1))
    assert figures("evaluate", folder, "--data", written(other, "other.parquet")) == expected
    text = done("evaluate", folder, "--data", "new.csv", "--out", "pictures").stdout
    assert text.startswith(f"new: 80 rows, loss {expected['loss']:.4f}, {expected['accuracy']:.2%} right\n")
    assert {path.name for path in Path("pictures").iterdir()} == {
        "evaluation.json", "confusion_matrix.png", "reliability.png",
    }  # fmt: skip


def test_files_with_some_of_the_classes_are_evaluated(trained: tuple[Path, Path, str]) -> None:
    folder, _, _ = trained
    frame = mixed(80, seed=1)
    whole = figures("evaluate", folder, "--data", written(frame))
    two = frame.filter(pl.col("label") != "low")
    result = figures("evaluate", folder, "--data", written(two, "two.csv"))
    assert result["support"] == {name: whole["support"][name] if name != "low" else 0 for name in CLASSES}
    assert {name: result["recall"][name] for name in ("high", "mid")} == {
        name: whole["recall"][name] for name in ("high", "mid")
    }
    one = figures("evaluate", folder, "--data", written(frame.head(1), "one.csv"))
    assert (one["rows"], sum(one["support"].values())) == (1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": "Age"}, "got no 'age' in 'Id', 'Age', 'income', 'city', 'member' (did you mean 'Age'?)"),
        (
            {"label": "kind"},
            "must have the label's column 'label', got 'Id', 'age', 'income', 'city', 'member', 'kind'",
        ),
    ],
)
def test_renamed_columns_are_refused(change: dict[str, str], message: str, trained: tuple[Path, Path, str]) -> None:
    result = run("evaluate", trained[0], "--data", written(mixed(20).rename(change)))
    assert result.exit_code == 2
    assert message in result.stderr


def test_another_class_is_refused_with_its_line(trained: tuple[Path, Path, str]) -> None:
    frame = mixed(20).with_columns(label=pl.Series([*["low"] * 7, "none", *["mid"] * 12]))
    result = run("evaluate", trained[0], "--data", written(frame))
    assert result.exit_code == 2
    assert "labels must be among the classes of the network, high, low, mid, got 'none' in line 9" in result.stderr


def test_a_regression_is_evaluated_in_the_label_s_units(regression: tuple[Path, Path, str]) -> None:
    folder, data, _ = regression
    result = figures("evaluate", folder, "--data", data)
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert (result["rows"], result["r2"]) == (40, summary["test_r2"])
    frame = prices(50, seed=1)
    result = figures("evaluate", folder, "--data", written(frame))
    predicted = np.asarray(network(folder).predict(frame.drop("price")), np.float64)[:, 0]
    errors = predicted - frame["price"].to_numpy()
    assert result["mean_absolute_error"] == pytest.approx(np.abs(errors).mean())
    assert result["r2"] == pytest.approx(1 - np.square(errors).sum() / (len(frame) * frame["price"].var(ddof=0)))
    text = done("evaluate", folder, "--data", "new.csv", "--out", "pictures").stdout
    assert f"R2 {result['r2']:.4f}, mean absolute error {result['mean_absolute_error']:.4g}\n" in text
    assert {path.name for path in Path("pictures").iterdir()} == {"evaluation.json", "predictions.png"}
    assert "R2 not defined" in done("evaluate", folder, "--data", written(frame.head(1), "one.csv")).stdout


def test_a_quantile_is_shown_with_its_coverage() -> None:
    data = written(prices(100))
    said = done("train", "--data", data, "--loss", "quantile:0.8", *FAST, "2", "--out", "run").stdout
    summary, result = (
        json.loads(Path("run/summary.json").read_text("utf-8")),
        figures("evaluate", "run", "--data", data),
    )
    share = result["coverage"]
    assert summary["test_coverage"] == share
    assert share == nn.evaluate(network(Path("run")), nn.load_dataset(data).test).coverage
    words = f"coverage {share:.2%} (labels at or below the prediction)"
    assert words in said
    assert words in done("evaluate", "run", "--data", data).stdout
    assert "curves.png         plot of the loss\n" in said

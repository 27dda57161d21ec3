"""Training on tables: columns, options, dialects, labels of numbers."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from table_runs import FAST, done, figures, mixed, network, run, table, written
from xpnn import nn
from xpnn.nn.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_train_shows_every_column_and_what_was_left_out(trained: tuple[Path, Path, str]) -> None:
    folder, data, said = trained
    lines = said.splitlines()
    assert lines[:3] == [
        "table: 7-100-3 on mixed, 240 rows, adam, batch 32",
        "Id identifies the rows and is not learned: --id-column none to learn it",
        "features: 4 columns, standardized by the training rows",
    ]
    shown = [line.split("  ") for line in lines[3:7]]
    assert [words[1].strip() for words in shown] == ["age", "income", "city", "member"]
    assert [words[-1].strip().partition(", ")[0] for words in shown] == [
        "number", "number", "3 categories: bern", "true or false",
    ]  # fmt: skip
    assert lines[4].endswith(", some missing")
    assert lines[7] == "backend numpy"
    assert f"  xpnn evaluate {folder} --data {data} --out pictures" in lines
    assert f"  xpnn predict {folder} new.csv --out predictions.csv" in lines


def test_a_label_of_many_numbers_makes_a_regression(regression: tuple[Path, Path, str]) -> None:
    folder, data, said = regression
    assert "label price, the last column: --label-column to name another; its many numbers make it a regr" in said
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert summary["test_r2"] > 0.95
    assert (summary["train_accuracy"], summary["test_accuracy"]) == (None, None)
    result = nn.evaluate(network(folder), nn.load_dataset(data).test)
    assert (summary["test_r2"], summary["test_mean_absolute_error"]) == (result.r2, result.mean_absolute_error)
    assert f"R2 {result.r2:.4f}, mean absolute error {result.mean_absolute_error:.4g} on the 40 test rows\n" in said


def test_the_loss_may_be_named() -> None:
    stars = mixed(60).with_columns(pl.Series("label", np.arange(60) % 5))
    options = ["train", "--data", written(stars), *FAST, "1"]
    assert json.loads(done(*options, "--json", "--out", "classes").stdout)["test_accuracy"] is not None
    done(*options, "--quiet", "--loss", "squared_error", "--out", "numbers")
    assert network(Path("numbers")).sizes[-1] == 1
    assert RunFolder(Path("numbers")).read_config().recipe.loss == "squared_error"
    refused = run("train", "--data", written(mixed(20), "words.csv"), "--loss", "squared_error")
    assert refused.exit_code == 2
    assert "labels must be numbers" in refused.stderr


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        (["--hidden", "none"], (7, 3)),
        (["--hidden", "256,128", "--activation", "tanh"], (7, 256, 128, 3)),
        (["--optimizer", "sgd", "--lr", "0.5", "--schedule", "cosine"], (7, 100, 3)),
        (["--batch-size", "16", "--dropout", "0.25"], (7, 100, 3)),
        (["--class-weight", "balanced", "--validation", "0.3", "--patience", "5"], (7, 100, 3)),
    ],
)
def test_options_change_the_network_and_its_training(options: list[str], sizes: tuple[int, ...]) -> None:
    done("train", "--data", written(mixed(100)), *FAST, "2", *options, "--quiet", "--out", "run")
    assert network(Path("run")).sizes == sizes
    recipe = RunFolder(Path("run")).read_config().recipe
    training = recipe.training
    found = {
        "--hidden": ",".join(map(str, recipe.sizes[1:-1])) or "none",
        "--activation": recipe.activation,
        "--optimizer": training.optimizer.name,
        "--lr": str(training.optimizer.learning_rate),
        "--schedule": training.schedule,
        "--batch-size": str(training.batch_size),
        "--dropout": str(training.dropout),
        "--class-weight": str(training.class_weight),
        "--validation": str(training.validation),
        "--patience": str(training.early_stopping.patience if training.early_stopping else None),
    }
    names = options[::2]
    assert [found[name] for name in names] == options[1::2]


def test_class_weights_change_what_is_learned() -> None:
    data = written(mixed(200))
    recall = {}
    for weight in ("mid=1,low=0.5", "mid=50"):
        done("train", "quickstart", "--data", data, *FAST, "20", "--class-weight", weight, "--quiet", "--out", weight)
        recall[weight] = figures("evaluate", weight, "--data", data, "--part", "all")["recall"]["mid"]
    assert recall["mid=50"] > max(recall["mid=1,low=0.5"], 0.95)
    config = RunFolder(Path("mid=1,low=0.5")).read_config()
    assert config.recipe.training.class_weight == {"mid": 1.0, "low": 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden", "64,x"], "'64,x' must be whole numbers >= 1 such as 256,128, or none"),
        (["--hidden", "0"], "must be whole numbers >= 1"),
        (["--class-weight", "high"], "'high' must be balanced, or weights by class name such as fraud=10"),
        (
            ["--class-weight", "hihg=2"],
            "--class-weight names a class 'hihg', which is none of high, low, mid (did you mean 'high'?)",
        ),
        (["--class-weight", "high=-1"], "the weight of class 'high' must be a finite number >= 0, got -1.0"),
        (["--activation", "rleu"], "'rleu' is not one of"),
        (["--drop", "city,towns"], "--drop must name a column, got 'towns': there are"),
        (
            ["--label-column", "kind"],
            "must have the label's column 'kind', got 'Id', 'age', 'income', 'city', 'member', 'label': name it by",
        ),
        (["--label-column", "Lable"], "got 'Id', 'age', 'income', 'city', 'member', 'label' (did you mean 'label'?)"),
        (["--delimiter", ";"], "must have features beside"),
        (["--delimiter", "x"], "--delimiter must be"),
        (["--lr", "-1"], "--lr of adam must be a finite number > 0"),
        (["--id-column", "key"], "--id-column must name a column, got 'key'"),
    ],
)
def test_options_that_cannot_be_leave_no_folder(options: list[str], message: str) -> None:
    result = run("train", "--data", written(mixed(30)), *options, "--out", "run")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not Path("run").exists()


def test_the_recipe_for_tables_asks_for_one() -> None:
    for options in ([], ["--label-column", "kind"], ["--test-fraction", "0.5"]):
        result = run("train", "table", *options)
        assert result.exit_code == 2
        assert "the recipe table has no data of its own: name a file by --data" in result.stderr


def test_columns_are_corrected_by_options() -> None:
    coded = mixed(60).with_columns(pl.Series("age", np.arange(60) % 4))
    options = ["--categorical", "age", "--drop", "income,city", "--id-column", "none"]
    done("train", "--data", written(coded), *FAST, "1", *options, "--quiet", "--out", "run")
    inputs = table(Path("run"))
    assert [(column.name, column.kind) for column in inputs.columns] == [
        ("Id", "number"), ("age", "category"), ("member", "truth"),
    ]  # fmt: skip
    assert figures("evaluate", "run", "--data", "new.csv")["rows"] == 12
    done("train", "--data", "new.csv", *FAST, "1", "--id-column", "age", "--quiet", "--out", "other")
    assert table(Path("other")).identifier == "age"
    assert done("predict", "other", "new.csv").stdout.startswith("age,label\n0,")


@pytest.mark.parametrize(
    ("name", "change", "options"),
    [
        ("a.tsv", {",": "\t"}, []),
        ("a.txt", {",": "\t"}, ["--delimiter", "tab"]),
        ("a.csv", {",": ";", ".": ","}, []),
        ("a.csv", {",": ";", ".": ","}, ["--delimiter", ";", "--decimal", ","]),
    ],
)
def test_dialects_are_detected_or_named(
    name: str, change: dict[str, str], options: list[str], trained: tuple[Path, Path, str]
) -> None:
    """A run keeps the dialect that was named, and can be read again."""
    text = mixed(300).write_csv()
    for old, new in change.items():
        text = text.replace(old, new)
    Path(name).write_text(text)
    summary = figures("train", "--data", name, *FAST, "40", *options, "--out", "run")
    assert summary["test_loss"] == json.loads((trained[0] / "summary.json").read_text("utf-8"))["test_loss"]
    assert figures("evaluate", "run", "--data", name)["loss"] == pytest.approx(summary["test_loss"], rel=1e-6)
    assert done("train", "--resume", "run", "--data", name).stdout.endswith("epochs are done\n")
    assert done("predict", "run", name, *options).stdout == done("predict", trained[0], trained[1]).stdout


def test_a_file_without_a_header() -> None:
    rows = mixed(60).drop("Id")
    rows.write_csv("bare.csv", include_header=False)
    done("train", "--data", "bare.csv", "--no-header", *FAST, "2", "--quiet", "--out", "run")
    assert [column.name for column in table(Path("run")).columns] == [f"column_{k}" for k in range(1, 5)]
    rows.drop("label").write_csv("new.csv", include_header=False)
    lines = done("predict", "run", "new.csv", "--no-header").stdout.splitlines()
    assert (lines[0], len(lines)) == ("row,column_5", 61)


def test_a_run_on_a_table_goes_on_where_it_ended() -> None:
    options = ["train", "--data", written(mixed(100)), "--quiet", "--class-weight", "high=3", *FAST]
    done(*options, "4", "--out", "whole")
    done(*options, "2", "--out", "broken")
    config = json.loads(Path("broken/config.json").read_text())
    config["recipe"]["training"]["epochs"] = 4
    Path("broken/config.json").write_text(json.dumps(config))
    assert "that is not opened by itself" in run("train", "--resume", "broken").stderr
    done("train", "--resume", "broken", "--data", "new.csv", "--quiet")
    assert RunFolder(Path("broken")).read_config() == RunFolder(Path("whole")).read_config()
    assert Path("broken/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


@pytest.mark.parametrize("recipe", ["table", "quickstart", "mnist-98"])
@pytest.mark.parametrize("rows", [6, 20])
def test_fewer_rows_than_a_batch_are_a_batch(recipe: str, rows: int) -> None:
    Path("few.csv").write_text("a,b,label\n" + "".join(f"{k * 0.5},{k % 3},{'xy'[k % 2]}\n" for k in range(rows)))
    done("train", recipe, "--data", "few.csv", *FAST, "2", "--out", "run")
    assert network(Path("run")).class_names == ("x", "y")

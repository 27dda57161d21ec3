"""Tables on the command line: from a csv to a network, its figures, its predictions, and ONNX."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from xpnn import nn
from xpnn.nn.cli.app import xpnn
from xpnn.nn.inputs.table import Table
from xpnn.nn.runs.folder import RunFolder

FAST = ["--backend", "numpy", "--epochs"]
CITIES, CLASSES = ("bern", "oslo", "rome"), ("high", "low", "mid")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(xpnn, list(map(str, arguments)))


def done(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def figures(*arguments: str | Path) -> dict:
    return json.loads(done(*arguments, "--json").stdout)


def mixed(rows: int, seed: int = 0) -> pl.DataFrame:
    """Return numbers, categories and truth values, some missing, and the class that follows from them."""
    rng = np.random.default_rng(seed)
    age, income = rng.integers(18, 80, rows), rng.normal(50, 20, rows).round(2)
    city, member = rng.integers(0, 3, rows), rng.random(rows) < 0.5
    score = (age - 49) / 18 + (income - 50) / 20 + (city == 1) * 2 + member
    return pl.DataFrame({
        "Id": 1000 + 7 * np.arange(rows),
        "age": age,
        "income": [None if hole else value for hole, value in zip(rng.random(rows) < 0.1, income, strict=True)],
        "city": [CITIES[k] for k in city],
        "member": member,
        "label": np.where(score > 2, "high", np.where(score > 0.5, "mid", "low")),
    })  # fmt: skip


def prices(rows: int, seed: int = 0) -> pl.DataFrame:
    """Return a category, a number, and a price that follows from them."""
    rng = np.random.default_rng(seed)
    size, kind = rng.uniform(20, 200, rows).round(1), rng.integers(0, 2, rows)
    return pl.DataFrame({
        "size": size, "kind": [("flat", "house")[k] for k in kind], "price": (1000 * size * (1 + kind)).round(),
    })  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Folder of a run on 300 mixed rows, its csv, and what `xpnn train` said."""
    folder = tmp_path_factory.mktemp("mixed")
    data = folder / "mixed.csv"
    mixed(300).write_csv(data)
    said = done("train", "--data", data, *FAST, "40", "--out", folder / "run").stdout
    return folder / "run", data, said


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The same for 200 prices."""
    folder = tmp_path_factory.mktemp("prices")
    data = folder / "prices.csv"
    prices(200).write_csv(data)
    said = done("train", "--data", data, *FAST, "60", "--lr", "0.01", "--out", folder / "run").stdout
    return folder / "run", data, said


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


def written(frame: pl.DataFrame, name: str = "new.csv") -> str:
    frame.write_parquet(name) if name.endswith(".parquet") else frame.write_csv(name)
    return name


def network(folder: Path) -> nn.MLP:
    return nn.load(folder / "model.safetensors", backend="numpy")


def table(folder: Path) -> Table:
    inputs = network(folder).inputs
    assert isinstance(inputs, Table)
    return inputs


# Train


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
            "--class-weight names a class 'hihg', which is none of high, low, mid; did you mean 'high'?",
        ),
        (["--class-weight", "high=-1"], "the weight of class 'high' must be a finite number >= 0, got -1.0"),
        (["--activation", "rleu"], "'rleu' is not one of"),
        (["--drop", "city,towns"], "--drop must name a column, got 'towns': there are"),
        (
            ["--label-column", "kind"],
            "must have the label's column 'kind', got Id, age, income, city, member, label: name it by --label-column",
        ),
        (["--label-column", "Lable"], "got Id, age, income, city, member, label; did you mean 'label'?"),
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


# Evaluate


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
        ({"age": "Age"}, "got no 'age' in 'Id', 'Age', 'income', 'city', 'member': rename 'Age' if it is that column"),
        ({"label": "kind"}, "must have the label's column 'label', got Id, age, income, city, member, kind"),
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
    assert "labels must be among the classes of the network, high, low, mid, got none in line 9" in result.stderr


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


# Predict


def test_predictions_stand_beside_the_id_and_need_no_label(trained: tuple[Path, Path, str]) -> None:
    folder, _, _ = trained
    frame = mixed(30, seed=2)
    net, rows = network(folder), frame.drop("Id", "label")
    classes = [CLASSES[k] for k in np.asarray(net.predict(rows)).tolist()]
    expected = pl.DataFrame({"Id": frame["Id"], "label": classes})
    for name, given in (
        ("new.csv", frame),
        ("bare.csv", frame.drop("label")),
        ("a.parquet", frame.select("label", *rows.columns, "Id")),
    ):
        result = done("predict", folder, written(given, name))
        assert result.stdout == expected.write_csv()
        assert result.stderr == ""
    probabilities = np.asarray(net.predict_proba(rows))  # (rows, classes)
    expected = expected.with_columns(
        pl.Series(f"probability of {name}", probabilities[:, k]) for k, name in enumerate(CLASSES)
    )
    assert done("predict", folder, "bare.csv", "--proba", "--out", "p.csv").stdout == "saved p.csv, 30 predictions\n"
    assert Path("p.csv").read_text() == expected.write_csv()
    done("predict", folder, "bare.csv", "--proba", "--out", "p.parquet")
    assert pl.read_parquet("p.parquet").equals(expected)
    result = done("predict", folder, "bare.csv", "--json", "--out", "also.csv")
    assert json.loads(result.stdout) == {"predictions": expected.select("Id", "label").to_dicts()}
    assert pl.read_csv("also.csv").equals(expected.select("Id", "label"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_predictions_go_into_pipes_as_csv(trained: tuple[Path, Path, str]) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    done("predict", trained[0], written(mixed(3)), "--out", "pipe")
    assert os.read(reader, 4096).decode() == done("predict", trained[0], "new.csv").stdout
    os.close(reader)


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


def test_the_column_of_ids_may_be_another(trained: tuple[Path, Path, str]) -> None:
    folder, _, _ = trained
    written(mixed(3).rename({"Id": "key"}))
    assert done("predict", folder, "new.csv").stdout.splitlines()[0] == "row,label"
    assert done("predict", folder, "new.csv", "--id-column", "key").stdout.splitlines()[1].startswith("1000,")
    written(mixed(3))
    assert done("predict", folder, "new.csv", "--id-column", "none").stdout.splitlines()[0] == "row,label"
    Path("index.csv").write_text(mixed(3).drop("Id").with_row_index("").write_csv())
    assert done("predict", folder, "index.csv").stdout.splitlines()[0] == "column_1,label"


def test_levels_and_missing_cells_that_training_did_not_have_are_told(trained: tuple[Path, Path, str]) -> None:
    folder, _, _ = trained
    frame = mixed(6, seed=3).drop("label")
    holes = frame.with_columns(
        age=pl.Series([None, *frame["age"][1:]]),
        income=pl.Series([frame["income"][0], None, *frame["income"][2:]]),
        city=pl.Series([*frame["city"][:2], None, "paris", *frame["city"][4:]]),
    )
    result = done("predict", folder, written(holes), "--proba")
    assert result.stderr.splitlines() == [
        "column 'city' has 1 cells of a category that no training row had: they are 0 in all its features",
        "column age: 1 missing values, for which the training rows' median stands",
        "column city: 1 missing values, which are in no category",
    ]
    inputs = table(folder)
    median = next(column.fill for column in inputs.columns if column.name == "age")
    filled = frame.with_columns(age=pl.Series([median, *frame["age"][1:]], dtype=pl.Float64))
    other = done("predict", folder, written(filled, "filled.csv"), "--proba").stdout.splitlines()
    lines = result.stdout.splitlines()
    assert len(lines) == 7
    assert [lines[k] for k in (0, 1, 5, 6)] == [other[k] for k in (0, 1, 5, 6)]


def test_numbers_are_predicted_in_the_label_s_units(regression: tuple[Path, Path, str]) -> None:
    frame = prices(10, seed=4)
    lines = done("predict", regression[0], written(frame.drop("price"))).stdout.splitlines()
    assert lines[0] == "row,price"
    found = np.array([float(line.partition(",")[2]) for line in lines[1:]])
    np.testing.assert_allclose(found, frame["price"].to_numpy(), atol=60_000)
    predictions = np.asarray(network(regression[0]).predict(frame.drop("price")))[:, 0]  # (rows,)
    np.testing.assert_array_equal(found.astype(np.float32), predictions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new.csv", "other.csv"], "predictions are of one table at a time, got 2 files: call it for each"),
        (["new.csv", "--out", "p.xlsx"], "predictions are written as .csv or .parquet, got p.xlsx: name such a file"),
        (["new.csv", "--id-column", "key"], "--id-column must name a column, got 'key': there are Id, age, income"),
        (["renamed.csv"], "renamed.csv: the rows must have the columns of the training, got no 'age'"),
        (["words.csv"], "column 'age' must be numbers as in the training, got old in line 3"),
        (["new.png"], "was not trained on images, but on"),
        (["new.png", "--proba"], "--out and --proba are for tables"),
    ],
)
def test_what_cannot_be_predicted(arguments: list[str], message: str, trained: tuple[Path, Path, str]) -> None:
    frame = mixed(3)
    written(frame)
    written(frame.rename({"age": "Age"}), "renamed.csv")
    written(frame.with_columns(age=pl.Series(["30", "old", "40"])), "words.csv")
    result = run("predict", trained[0], *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not Path("p.xlsx").exists()


def test_rows_without_names_are_predicted_by_their_place() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.savez("rows.npz", X=rows, y=(rows[:, 0] > 0).astype(int))
    done("train", "--data", "rows.npz", *FAST, "2", "--quiet", "--out", "run")
    frame = pl.DataFrame(rows, schema=["a", "b", "c"])
    lines = done("predict", "run", written(frame)).stdout.splitlines()
    expected = np.asarray(network(Path("run")).predict(rows)).tolist()
    assert lines == ["row,prediction", *(f"{k},{label}" for k, label in enumerate(expected, start=1))]
    wide = run("predict", "run", written(frame.with_columns(d=0.5), "wide.csv"))
    assert "must have 3 columns of numbers, got 4: leave out the others" in wide.stderr


def test_kaggle_s_digits_go_from_train_csv_to_a_submission() -> None:
    digits = nn.load_dataset("digits")
    pixels = {f"pixel{k}": digits.train.images[:600, k] for k in range(64)}
    written(pl.DataFrame({"label": digits.train.labels[:600], **pixels}), "train.csv")
    written(pl.DataFrame({name: digits.test.images[:100, k] for k, name in enumerate(pixels)}), "test.csv")
    said = done("train", "--data", "train.csv", *FAST, "20", "--out", "run").stdout
    assert "features: pixels of 8 x 8 images from 0 to 16, scaled to [0, 1]\n" in said
    assert (
        done("predict", "run", "test.csv", "--out", "submission.csv").stdout
        == "saved submission.csv, 100 predictions\n"
    )
    answers = pl.read_csv("submission.csv")
    assert answers.columns == ["ImageId", "Label"]
    assert answers["ImageId"].to_list() == list(range(1, 101))
    assert np.mean(answers["Label"].to_numpy() == digits.test.labels[:100]) > 0.8
    assert answers["Label"].to_list() == np.asarray(network(Path("run")).predict(digits.test.images[:100])).tolist()


def test_pictures_are_answered_by_a_regression_too() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    digits = nn.load_dataset("digits").train
    np.savez("sizes.npz", images=digits.images[:50], labels=digits.images[:50].mean(axis=1))
    done("train", "--data", "sizes.npz", "--loss", "squared_error", *FAST, "2", "--quiet", "--out", "run")
    image.fromarray(np.uint8(255 - 15 * digits.images[0].reshape(8, 8))).save("a.png")
    (found,) = figures("predict", "run", "a.png")["predictions"]
    assert done("predict", "run", "a.png").stdout == f"a.png: {found['prediction']}\n"
    assert set(found) == {"image", "prediction"}


# Export


def test_onnx_gives_the_network_s_probabilities(trained: tuple[Path, Path, str]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    folder, _, _ = trained
    done("export", folder, "--onnx", "net.onnx")
    frame = mixed(40, seed=5).with_columns(city=pl.Series(["paris", *mixed(40, seed=5)["city"][1:]]))
    numbers = frame.select(pl.col("age", "income", "member").cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    given = {"numbers": numbers, "categories": frame.select("city").to_numpy().astype(object)}
    session = runtime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    outputs = dict(zip([each.name for each in session.get_outputs()], session.run(None, given), strict=True))
    expected = network(folder).predict_proba(frame)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=3e-6)

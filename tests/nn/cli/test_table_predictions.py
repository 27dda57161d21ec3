"""Predictions for tables, as tables, and their networks as ONNX."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from table_runs import CLASSES, FAST, done, figures, mixed, network, prices, run, table, written
from xpnn import nn

pytestmark = pytest.mark.usefixtures("empty_folder")


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
        (
            ["new.csv", "--id-column", "key"],
            "--id-column must name a column, got 'key': there are 'Id', 'age', 'income'",
        ),
        (["renamed.csv"], "renamed.csv: the rows must have the columns of the training, got no 'age'"),
        (["words.csv"], "column 'age' must be numbers as in the training, got 'old' in line 3"),
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

"""`xpnn evaluate`, `predict`, `explain` and `parity`, and the data that all commands take by --data."""

import dataclasses
import gzip
import json
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from xpnn import nn
from xpnn.nn.cli.app import xpnn
from xpnn.nn.datasets.mnist import FASHION_MNIST, MNIST
from xpnn.nn.inputs.inputs import Pixels
from xpnn.nn.inputs.table import Column, Table
from xpnn.nn.runs.data_choice import DataChoice
from xpnn.nn.runs.folder import RunFolder, write_json
from xpnn.nn.runs.recipes import RECIPES, Recipe

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder, and finds no data by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPNN_DATA", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(xpnn, arguments)


def figures(*arguments: str) -> dict:
    result = run(*arguments, "--backend", "numpy", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def train(*arguments: str) -> dict:
    return figures("train", *arguments, "--epochs", "2", "--out", "run")


def write_csv(name: str, *, rows: int = 300, dtype: str = "int", label: str = "kind", pixel: str = "p") -> np.ndarray:
    """Write rows of the 8x8 digits; the images are (rows, 64)."""
    digits = nn.load_dataset("digits")
    images = digits.train.images[:rows].astype(dtype)  # (rows, 64)
    lines = [
        ",".join(map(str, [*row, number]))
        for row, number in zip(images.tolist(), digits.train.labels[:rows].tolist(), strict=True)
    ]
    Path(name).write_text("\n".join([",".join([*(f"{pixel}{k}" for k in range(64)), label]), *lines]), encoding="utf-8")
    return images


def write_idx(folder: str, test_labels: tuple[int, ...]) -> None:
    """Write four small IDX files of 30 training and 10 test images of 5 x 4."""
    generator = np.random.default_rng(0)
    Path(folder).mkdir(parents=True)
    arrays = (
        generator.integers(0, 256, (30, 5, 4)), np.arange(30) % 10,
        generator.integers(0, 256, (10, 5, 4)), np.array(test_labels),
    )  # fmt: skip
    for stem, values in zip(STEMS, arrays, strict=True):
        content = (
            struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.astype("u1").tobytes()
        )
        Path(folder, f"{stem}.gz").write_bytes(gzip.compress(content))


# The rows of a run


def test_a_run_s_own_file_is_divided_as_for_its_training() -> None:
    write_csv("rows.csv")
    options = ["--label-column", "kind", "--test-fraction", "0.3", "--stratify", "--seed", "5"]
    summary = train("--data", "rows.csv", *options)
    result = figures("evaluate", "run", "--data", "rows.csv")
    assert result["rows"] == 91  # 3 of 10 rows of each class, each rounded
    assert result["accuracy"] == summary["test_accuracy"]
    assert result["loss"] == pytest.approx(summary["test_loss"], rel=1e-6)


def test_a_run_that_was_stopped_says_once_that_it_is_unfinished() -> None:
    write_csv("rows.csv")
    train("--data", "rows.csv", "--label-column", "kind")
    Path("run", "summary.json").unlink()  # as after a signal
    config = RunFolder(Path("run")).read_config()
    recipe = config.recipe.with_options(epochs=5)
    write_json(Path("run", "config.json"), dataclasses.replace(config, recipe=recipe).to_json())
    said = "run is unfinished, after 2 of at most 5 epochs: complete it with xpnn train --resume run --data "
    for command in (["evaluate", "run", "--data", "rows.csv"], ["export", "run", "--npz", "a.npz"], ["explain", "run"]):
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert result.stderr == f"{said}{Path('rows.csv').resolve()}\n"
    Path("run", "config.json").unlink()
    result = run("export", "run", "--npz", "b.npz")
    assert (result.exit_code, "is unfinished, and cannot be completed: run is no" in result.stderr) == (0, True)


def test_of_a_run_that_was_stopped_resumed_and_killed_the_newest_state_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    train()
    before, folder = figures("evaluate", "run"), RunFolder(Path("run"))
    config = folder.read_config()
    write_json(folder.config, dataclasses.replace(config, recipe=config.recipe.with_options(epochs=3)).to_json())
    monkeypatch.setattr("xpnn.nn.cli.train.save", kill)
    assert run("train", "--resume", "run").exit_code == 130
    result = run("evaluate", "run", "--backend", "numpy", "--json")
    assert result.stderr == (
        "run is unfinished, after 3 of at most 3 epochs; its model is older than its checkpoint, whose network is used"
        ": complete it with xpnn train --resume run\n"
    )
    assert json.loads(result.stdout)["loss"] == pytest.approx(nn.Checkpoint.load("run").history[-1].test_loss)
    assert run("export", "run", "--npz", "new.npz").stderr == result.stderr
    with np.load("new.npz") as arrays:
        weight = nn.Checkpoint.load("run").parameters["layers.0.weight"]
        assert any(np.array_equal(arrays[name], weight) for name in arrays)
    folder.checkpoint.write_bytes(b"damaged")
    result = run("evaluate", "run", "--backend", "numpy", "--json")
    assert json.loads(result.stdout) == before
    assert result.stderr.endswith("the network is the one that was saved last\n")


@pytest.mark.parametrize("command", [["evaluate", "run"], ["train", "--resume", "run"]])
def test_a_path_in_a_run_folder_is_not_followed(command: list[str]) -> None:
    write_csv("my rows.csv")
    result = run("train", "--data", "my rows.csv", "--label-column", "kind", "--epochs", "1", "--out", "run")
    option = f"--data '{Path('my rows.csv').resolve()}'"
    assert f"\n  xpnn evaluate run {option} --out pictures\n" in result.stdout
    refused = run(*command)
    assert refused.exit_code == 2
    assert f"rows from {Path('my rows.csv').resolve()}," in refused.stderr
    assert refused.stderr.endswith("add it to the command as --data\n")
    assert run(*command, "--data", "my rows.csv").exit_code == 0


def test_a_recipe_that_splits_all_rows_anew_does_so_for_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "quickstart", dataclasses.replace(RECIPES["quickstart"], test_fraction=0.1))
    summary = train("--seed", "3")
    for source in ([], ["--data", "digits"]):
        result = figures("evaluate", "run", *source)
        assert result["rows"] == 180
        assert result["accuracy"] == summary["test_accuracy"]
        assert result["loss"] == pytest.approx(summary["test_loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("options", "choice", "seed"),
    [
        (["--seed", "1"], {}, 1),
        (["--seed", "0"], {}, 0),
        (["--test-fraction", "0.5"], {"test_fraction": 0.5}, 5),
        (["--no-stratify"], {"stratify": False}, 5),
        (["--label-column", "p0"], {"label_column": "p0"}, 5),
    ],
)
def test_options_of_evaluate_go_before_the_run_s(
    options: list[str], choice: dict, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv("rows.csv")
    train("--data", "rows.csv", "--label-column", "kind", "--stratify", "--seed", "5")
    load, loaded = DataChoice.load, []

    def watch(self: DataChoice, recipe: Recipe, *, seed: int, **options: Any) -> nn.Dataset:
        loaded.append((self, seed))
        return load(DataChoice(str(Path("rows.csv")), "kind"), recipe, seed=seed, **options)

    monkeypatch.setattr(DataChoice, "load", watch)
    figures("evaluate", "run", "--data", "rows.csv", *options)
    own = {"source": str(Path("rows.csv").resolve()), "label_column": "kind", "stratify": True}
    assert loaded == [(DataChoice(**own | choice), seed)]


def test_a_model_file_is_evaluated_by_the_defaults() -> None:
    write_csv("rows.csv", label="label")
    train("--data", "rows.csv")
    model = "run/model.safetensors"
    assert figures("evaluate", model, "--data", "rows.csv")["rows"] == 60
    assert figures("evaluate", model, "--data", "rows.csv", "--test-fraction", "0.5")["rows"] == 150
    assert figures("evaluate", model, "--data", "rows.csv") == figures(
        "evaluate", model, "--data", "rows.csv", "--seed", "0", "--label-column", "label", "--test-fraction", "0.2"
    )


def test_a_test_fraction_that_is_given_goes_before_the_recipe_s() -> None:
    recipe = dataclasses.replace(RECIPES["quickstart"], test_fraction=0.1)
    counts = {
        fraction: len(DataChoice(test_fraction=fraction).load(recipe, seed=0).test) for fraction in (None, 0.1, 0.5)
    }
    assert counts == {None: 180, 0.1: 180, 0.5: 899}
    write_csv("rows.csv", label="label")
    assert len(DataChoice("rows.csv").load(RECIPES["quickstart"], seed=0).test) == 60
    assert len(DataChoice("rows.csv").load(recipe, seed=0).test) == 30


def test_a_fraction_among_whole_pixels_is_refused_with_its_line() -> None:
    write_csv("rows.csv", label="label", pixel="pixel")
    train("quickstart", "--data", "rows.csv")
    text = Path("rows.csv").read_text(encoding="utf-8").splitlines()
    text[7] = "0.5" + text[7][text[7].index(",") :]
    Path("other.csv").write_text("\n".join(text), encoding="utf-8")
    result = run("evaluate", "run", "--data", "other.csv")
    assert result.exit_code == 2
    assert (
        "pixels must be whole numbers in [0, 16], or all scaled to [0, 1], got 0.5 in line 8, column 0" in result.stderr
    )


def test_floating_rows_suit_a_network_of_floating_rows() -> None:
    images = write_csv("rows.csv", label="label", dtype="float64")
    np.savez("rows.npz", images=images / 16, labels=nn.load_dataset("digits").train.labels[: len(images)])
    summary = train("--data", "rows.npz")
    assert figures("evaluate", "run", "--data", "rows.npz")["accuracy"] == summary["test_accuracy"]


def test_evaluate_computes_the_logits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    train()
    logits, calls = nn.MLP.logits, []

    def count(self: nn.MLP, images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return logits(self, images)

    monkeypatch.setattr(nn.MLP, "logits", count)
    monkeypatch.setattr("xpnn.nn.network.evaluation.evaluate", None)
    figures("evaluate", "run", "--out", "pictures")
    assert calls == [359]


# Sources of --data


def test_a_name_is_a_name_even_where_a_folder_is_called_so() -> None:
    Path("digits").mkdir()
    Path("mnist").mkdir()
    assert len(DataChoice("digits").load(RECIPES["gd-10"], seed=0).train) == 1438
    assert DataChoice("digits").absolute().source == "digits"
    assert DataChoice("./digits").absolute().source == str(Path("digits").resolve())
    write_idx("sets/mnist", MNIST.first_labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XPNN_DATA", "sets")
        assert len(DataChoice("mnist").load(RECIPES["gd-10"], seed=0).train) == 30


@pytest.mark.parametrize("recipe", ["quickstart", "gd-10"])
@pytest.mark.parametrize(
    ("labels", "name", "first_class"),
    [(MNIST.first_labels, "mnist", "0"), (FASHION_MNIST.first_labels, "fashion-mnist", "T-shirt/top"),
     (tuple(range(10)), "own", "0")],
)  # fmt: skip
def test_a_folder_of_idx_files_is_what_it_holds_for_every_recipe(
    recipe: str, labels: tuple[int, ...], name: str, first_class: str
) -> None:
    write_idx("sets/own", labels)
    data = DataChoice("sets/own").load(RECIPES[recipe], seed=0)
    assert (data.name, data.class_names[0], len(data.train)) == (name, first_class, 30)


def test_a_parent_folder_has_the_recipe_s_own_data_set_for_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx("sets/mnist", MNIST.first_labels)
    write_idx("sets/fashion-mnist", FASHION_MNIST.first_labels)
    monkeypatch.setenv("XPNN_DATA", "nowhere")
    train("gd-10", "--data", "sets")
    assert RunFolder(Path("run")).read_config().data.source == str(Path("sets").resolve())
    assert figures("evaluate", "run", "--data", "sets")["rows"] == 10
    assert figures("evaluate", "run", "--data", "sets/mnist")["rows"] == 10
    backends = ["--backends", "numpy,array-api-strict"]
    result = run("parity", "gd-10", "--data", "sets", *backends, "--steps", "2", "--seeds", "0")
    assert result.exit_code == 0, result.output
    assert "30 training rows" in result.stdout
    refused = run("train", "--data", "sets")
    assert refused.exit_code == 2
    sets = Path("sets").resolve()
    assert f"got mnist in {sets / 'mnist'} and fashion-mnist in {sets / 'fashion-mnist'}" in refused.stderr


@pytest.mark.parametrize("inside", [None, "fashion-mnist"])
@pytest.mark.parametrize("command", [["train", "gd-10"], ["parity", "gd-10"]])
def test_a_folder_that_is_given_is_never_passed_over(
    command: list[str], inside: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx("full/mnist", MNIST.first_labels)
    monkeypatch.setenv("XPNN_DATA", "full")
    Path("given").mkdir()
    if inside is not None:
        write_idx(f"given/{inside}", FASHION_MNIST.first_labels)
    result = run(*command, "--data", "given")
    assert result.exit_code == 2
    assert "given must hold mnist, got " + ("none of them" if inside is None else "fashion-mnist in ") in result.stderr


# Predict


def save_net(name: str, *, class_names: tuple[str, ...] = ("a", "b", "c"), largest: float = 16, **options: Any) -> None:
    net = nn.MLP([64, 3], backend="numpy", seed=1, **options)
    net.inputs = Pixels(count=64, largest=largest, shape=(8, 8), class_names=class_names)
    nn.save(net, name)


def draw(name: str) -> None:
    image = np.zeros((8, 8), np.uint8)
    image[1:7, 3:5] = 15
    Image.fromarray(image).save(name)


def test_predict_prints_every_class_in_80_columns_and_paths_as_they_are() -> None:
    names = ("T-shirt/top [bold]", "y" * 64, "c")
    save_net("m.safetensors", class_names=names)
    draw("[red] 1.png")
    draw("2.png")
    report = json.loads(run("predict", "m.safetensors", "[red] 1.png", "2.png", "--json").stdout)["predictions"]
    lines = run("predict", "m.safetensors", "[red] 1.png", "2.png").stdout.splitlines()
    assert len(lines) == 8
    for k, path in enumerate(("[red] 1.png", "2.png")):
        probabilities = report[k]["probabilities"]
        assert lines[4 * k] == f"{path}: {report[k]['prediction']} ({max(probabilities.values()):.3f})"
        for line, name in zip(lines[4 * k + 1 : 4 * k + 4], names, strict=True):
            assert line.startswith(f"  {name:64}  {probabilities[name]:.3f}")
            assert len(line) <= 80


def test_predict_draws_bars_as_long_as_the_probabilities() -> None:
    save_net("m.safetensors")
    draw("1.png")
    (report,) = json.loads(run("predict", "m.safetensors", "1.png", "--json").stdout)["predictions"]
    lines = run("predict", "m.safetensors", "1.png").stdout.splitlines()[1:]
    assert [line.count("#") for line in lines] == [round(30 * value) for value in report["probabilities"].values()]


def test_each_picture_has_an_answer_and_bad_ones_are_said() -> None:
    save_net("m.safetensors")
    draw("1.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("blank.png")
    Path("text.png").write_text("seven", encoding="utf-8")
    alone = run("predict", "m.safetensors", "1.png")
    files = ["blank.png", "1.png", "text.png", "1.png"]
    result = run("predict", "m.safetensors", *files)
    assert result.exit_code == 2
    assert result.stdout == 2 * alone.stdout
    blank, text = result.stderr.splitlines()
    assert blank == "xpnn: no ink found in blank.png: it is uniform or too faint; give a picture with one clear digit"
    assert text.startswith("xpnn: text.png is no image in a supported format; give one of PNG")
    result = run("predict", "m.safetensors", *files, "--json")
    assert result.exit_code == 2
    answers = json.loads(result.stdout)["predictions"]
    assert [answer["image"] for answer in answers] == files
    assert [sorted(answer) for answer in answers] == 2 * [["error", "image"], ["image", "prediction", "probabilities"]]
    assert answers[0]["error"] == blank.removeprefix("xpnn: ")
    assert run("predict", "m.safetensors", "blank.png").stdout == ""


def test_predict_answers_by_numbers_where_there_are_no_classes() -> None:
    save_net("m.safetensors", class_names=(), loss="squared_error")
    draw("1.png")
    (answer,) = json.loads(run("predict", "m.safetensors", "1.png", "--json").stdout)["predictions"]
    assert sorted(answer) == ["image", "prediction"]
    assert run("predict", "m.safetensors", "1.png").stdout == f"1.png: {answer['prediction']}\n"


def test_a_network_of_wide_pixels_reads_pictures() -> None:
    draw("1.png")
    answers = []
    for largest in (255, 65535):
        save_net(f"{largest}.safetensors", largest=largest)
        answers += json.loads(run("predict", f"{largest}.safetensors", "1.png", "--json").stdout)["predictions"]
    assert answers[0]["prediction"] == answers[1]["prediction"]
    assert list(answers[0]["probabilities"].values()) == pytest.approx(list(answers[1]["probabilities"].values()))


# Explain


def test_explain_tells_a_run_s_own_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "quickstart", RECIPES["quickstart"].with_options(l2=0.125))
    train("--lr", "0.0625")
    text = run("explain", "run").stdout
    assert "update of each parameter p by its gradient g: adam" in text
    assert "g <- g + 0.125 p, for weights" in text
    assert "lr = 0.0625" in text
    text = run("explain", "run/model.safetensors").stdout
    assert "grad_weight1" in text
    assert "update" not in text


def test_explain_says_what_the_rows_are() -> None:
    assert (
        "x             (batch, 64)  pixels of 8 x 8 images from 0 to 16, scaled to [0, 1]"
        in run("explain", "quickstart").stdout
    )
    net = nn.MLP([2, 4, 1], backend="numpy", loss="squared_error", seed=0)
    net.inputs = Table(columns=(Column("age", mean=40, std=12), Column("smoker", "truth")))
    nn.save(net, "table.safetensors")
    text = run("explain", "table.safetensors").stdout
    assert "columns\n  age     number, 40 +- 12\n  smoker  true or false\n" in text
    assert "x             (batch, 2)   2 columns, standardized by the training rows" in text
    assert "(outputs - labels)^2 / 2" in text
    assert "probabilities" not in text
    text = run("explain", "table").stdout
    assert "follow from the table: explain a run to see them" in text
    assert "columns of the table, standardized by the training rows" in text


# Parity


def test_parity_refuses_the_same_backend_twice() -> None:
    result = run("parity", "--backends", "numpy,array-api-strict,numpy")
    assert result.exit_code == 2
    assert "got numpy twice: name each once" in result.stderr


def test_parity_calls_the_reference_so() -> None:
    arguments = ["parity", "--backends", "numpy,array-api-strict", "--steps", "1", "--seeds", "1", "--rows", "64"]
    lines = [line for line in run(*arguments).stdout.splitlines() if "test accuracy" in line]
    assert [line.split()[0] for line in lines] == ["numpy", "array-api-strict"]
    assert [line.split()[-1] for line in lines] == ["reference", "ok"]
    report = json.loads(run(*arguments, "--json").stdout)
    assert [result["passed"] for result in report["results"]] == [True] * 4


# The log


def test_json_keeps_the_log_off_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    train()
    load = nn.MLP.logits

    def say(self: nn.MLP, images: np.ndarray) -> np.ndarray:
        logging.getLogger("xpnn").info("downloading")
        return load(self, images)

    monkeypatch.setattr(nn.MLP, "logits", say)
    assert run("evaluate", "run", "--json").stderr == ""
    assert run("evaluate", "run").stderr == "downloading\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label-column", "kind"], "--label-column is for a table such as .csv, got digits: leave it out"),
        (["--drop", "a"], "--drop is for a table such as .csv, got digits: leave it out"),
        (["--categorical", "a"], "--categorical is for a table such as .csv, got digits"),
        (["--id-column", "a"], "--id-column is for a table such as .csv, got digits"),
        (["--delimiter", "tab"], "--delimiter is for a table such as .csv, got digits"),
        (["--decimal", ","], "--decimal is for a table such as .csv, got digits"),
        (["--no-header"], "--header/--no-header is for a table such as .csv, got digits"),
        (["--test-fraction", "0.5"], "--test-fraction is for rows that are still to be split, but digits has its own"),
        (["--stratify"], "--stratify is for rows that are still to be split, but digits has its own test rows"),
        (["--data", "digits", "--stratify"], "--stratify is for rows"),
    ],
)
def test_options_that_would_change_nothing_are_refused(arguments: list[str], message: str) -> None:
    result = run("train", *arguments, "--out", "run")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("run").exists()
    train("--data", "digits")
    assert message in run("evaluate", "run", *arguments).stderr

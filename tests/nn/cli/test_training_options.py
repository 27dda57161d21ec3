"""`xpnn train`: validation, early stopping, dropout, clipping, accumulation and class weights."""

import json

import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.nn.cli.app import xpnn

FAST = ["--backend", "numpy", "--quiet"]


@pytest.fixture
def train(tmp_path):
    """`train("--epochs", "2", ...)`: exit code, output and run folder."""

    def run(*options, out="run"):
        folder = tmp_path / out
        result = CliRunner().invoke(xpnn, ["train", *options, *FAST, "--out", str(folder)])
        return result, folder

    return run


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def test_patience_ends_the_run_and_the_best_weights_are_saved(train):
    result, folder = train("--validation", "0.2", "--patience", "2", "--epochs", "200", "--lr", "0.03")
    assert result.exit_code == 0, result.output
    losses = [line["validation_loss"] for line in lines(folder)]
    best = losses.index(min(losses)) + 1
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert (summary["epochs"], summary["kept_epoch"]) == (len(losses), best) == (best + 2, best)
    net = nn.load(folder / "model.safetensors", backend="numpy")
    kept = nn.evaluate(net, nn.load_dataset("digits").test)
    assert summary["test_loss"] == pytest.approx(kept.loss, rel=1e-6)
    assert summary["test_accuracy"] == kept.accuracy == lines(folder)[best - 1]["test_accuracy"]


def test_a_run_that_stopped_early_is_finished(train):
    _, folder = train("--validation", "0.2", "--patience", "1", "--epochs", "200", "--lr", "0.05")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    result = CliRunner().invoke(xpnn, ["train", "--resume", str(folder)])
    assert result.exit_code == 0, result.output
    assert "is finished" in result.output
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_patience_needs_validation_rows(train):
    result, folder = train("--patience", "2")
    assert result.exit_code == 2
    assert "early stopping by the validation_loss needs validation rows" in result.output
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (["--dropout", "0.25"], "dropout", 0.25),
        (["--l2", "0.01"], "l2", 0.01),
        (["--label-smoothing", "0.1"], "label_smoothing", 0.1),
        (["--clip-norm", "0.5"], "clip_norm", 0.5),
        (["--accumulate", "3"], "accumulate", 3),
        (["--class-weight", "balanced"], "class_weight", "balanced"),
        (["--validation", "0.1"], "validation", 0.1),
    ],
)
def test_each_option_changes_the_run_and_its_config(train, options, field, value):
    _, plain = train("--epochs", "1", out="plain")
    result, folder = train("--epochs", "1", *options, out="changed")
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "config.json").read_text("utf-8"))["recipe"]["training"][field] == value
    assert lines(folder)[0]["train_loss"] != lines(plain)[0]["train_loss"]


@pytest.mark.parametrize(
    "options", [["--dropout", "1"], ["--dropout", "-0.1"], ["--clip-norm", "0"], ["--accumulate", "0"],
                ["--class-weight", "even"], ["--validation", "1"], ["--patience", "0"], ["--l2", "-1"]],
)  # fmt: skip
def test_impossible_options_are_wrong_usage(train, options):
    result, folder = train(*options)
    assert result.exit_code == 2
    assert options[0] in result.output
    assert not folder.exists()

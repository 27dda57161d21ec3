"""The command line: through click's runner, and as a real process."""

import gzip
import json
import logging
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from xpnn import nn
from xpnn.backends import Backend, Plan, TrainingJob
from xpnn.backends.numpy.backend import NumPyBackend
from xpnn.nn.cli.app import xpnn
from xpnn.nn.cli.progress import Progress

pytestmark = pytest.mark.usefixtures("empty_folder")

SHORT = ["train", "--backend", "numpy", "--epochs", "3"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(xpnn, arguments)


def read_metrics(folder: str | Path) -> list[dict]:
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


@pytest.fixture
def trained() -> Path:
    """The folder of a short run on the digits."""
    assert run(*SHORT, "--quiet", "--out", "run").exit_code == 0
    return Path("run")


def test_train_leaves_a_whole_run_folder_and_says_where() -> None:
    result = run(*SHORT)
    assert result.exit_code == 0, result.output
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("quickstart-")
    assert str(folder) in result.stdout
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "metrics.jsonl", "summary.json", "model.safetensors", "checkpoint.safetensors", "curves.png",
        ".lock",
    }  # fmt: skip
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert {"epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"} <= set(epochs[0])
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) == {
        "recipe", "backend", "dtype", "seed", "ranks", "epochs", "kept_epoch", "train_accuracy", "test_accuracy",
        "train_loss", "test_loss", "total_seconds", "median_epoch_seconds", "versions", "hardware",
    }  # fmt: skip
    assert summary["test_accuracy"] == epochs[-1]["test_accuracy"] > 0.9
    assert summary["total_seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in epochs))
    with Image.open(folder / "curves.png") as picture:
        assert picture.size[0] > 400


def test_train_json_prints_one_object_and_nothing_else() -> None:
    result = run(*SHORT, "--json", "--seed", "4", "--dtype", "float64")
    summary = json.loads(result.stdout)
    assert (summary["seed"], summary["dtype"], summary["epochs"], summary["backend"]) == (4, "float64", 3, "numpy")
    assert Path(summary["out"], "model.safetensors").exists()
    assert result.stderr == ""


def test_train_quiet_prints_nothing() -> None:
    result = run(*SHORT, "--quiet", "--out", "run")
    assert (result.exit_code, result.output) == (0, "")
    assert len(read_metrics("run")) == 3


def test_what_a_backend_logs_is_shown_unless_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_plan = NumPyBackend.compile

    def compile_and_say(self: NumPyBackend, job: TrainingJob) -> Plan:
        logging.getLogger("xpnn").info("compiling")
        return compile_plan(self, job)

    monkeypatch.setattr(NumPyBackend, "compile", compile_and_say)
    assert "compiling\n" in run(*SHORT).stderr
    assert "compiling" not in run(*SHORT, "--quiet", "--out", "quiet").output


def test_options_change_the_recipe() -> None:
    assert run(*SHORT, "--quiet", "--out", "a", "--batch-size", "full", "--lr", "0.5").exit_code == 0
    recipe = json.loads(Path("a/config.json").read_text())["recipe"]["training"]
    assert (recipe["batch_size"], recipe["epochs"], recipe["optimizer"]["learning_rate"]) == (None, 3, 0.5)


def test_seed_decides_the_run() -> None:
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        run(*SHORT, "--quiet", "--out", out, "--seed", seed)
    assert read_metrics("a") == read_metrics("b")
    assert read_metrics("a") != read_metrics("c")


def test_evaluations_are_as_far_apart_as_they_are_asked_for() -> None:
    result = run("train", "--backend", "numpy", "--epochs", "5", "--evaluate-every", "2", "--out", "run")
    assert result.exit_code == 0, result.output
    assert [line["epoch"] for line in read_metrics("run") if line["test_accuracy"] is not None] == [2, 4, 5]
    assert json.loads(Path("run/summary.json").read_text())["test_accuracy"] == read_metrics("run")[-1]["test_accuracy"]


def test_a_run_of_less_precision_goes_on_in_full(trained: Path) -> None:
    """As when a GPU is lost and another backend takes over."""
    config = json.loads((trained / "config.json").read_text())
    config["recipe"]["training"] |= {"precision": "bfloat16", "epochs": 5}
    (trained / "config.json").write_text(json.dumps(config))
    assert "precision of the backend numpy must be full" in run("train", "--resume", str(trained)).stderr
    result = run("train", "--resume", str(trained), "--precision", "full")
    assert result.exit_code == 0, result.output
    assert len(read_metrics(trained)) == 5
    assert json.loads((trained / "config.json").read_text())["recipe"]["training"]["precision"] == "full"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--backend", "nunpy"], "unknown backend 'nunpy'"),
        (["train", "--data", "missing.csv"], "missing.csv"),
        (["train", "--batch-size", "none"], "neither a whole number"),
        (["train", "--lr", "-1"], "--lr of adam must be a finite number > 0"),
        (["train", "--epochs", "0"], "--epochs"),
        (["train", "--precision", "bfloat16", "--backend", "numpy"], "bfloat16 needs the backend cupy on a GPU"),
        (["train", "--resume", "nowhere"], "nowhere is no run folder: there is no such folder"),
        (["train", "--resume", "nowhere", "--epochs", "9"], "leave out --epochs"),
        (["train", "gd-10", "--resume", "nowhere"], "leave out RECIPE"),
        (["evaluate", "nowhere.safetensors"], "there is no file nowhere.safetensors"),
        (["predict", "nowhere.safetensors", "x.png"], "there is no file"),
        (["explain", "deep-23"], "did you mean 'deep-32'?"),
        (["parity", "--backends", "numpy"], "two backends or more"),
    ],
)
def test_bad_input_exits_2_with_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert list(Path().iterdir()) == []  # nothing is written before everything is checked


def test_debug_shows_the_error_itself() -> None:
    result = run("--debug", "train", "quickstrat")
    assert isinstance(result.exception, nn.XpnnError)


def test_a_loss_that_is_no_number_exits_1() -> None:
    result = run("train", "--backend", "numpy", "--lr", "1e38")
    assert result.exit_code == 1
    assert "lower the learning rate" in result.stderr


def test_no_mnist_and_no_network_exits_2_and_names_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XPNN_DATA", raising=False)
    monkeypatch.setenv("XPNN_DATA", "empty")
    Path("empty").mkdir()
    result = run("train", "mnist-98", "--data", "empty")
    assert result.exit_code == 2
    assert "train-images-idx3-ubyte" in result.stderr


def test_an_existing_folder_is_not_overwritten(trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    result = run(*SHORT, "--out", str(trained), "--seed", "9")
    assert result.exit_code == 2
    assert "exists and is not empty" in result.stderr
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("stratify", [True, False])
def test_csv_with_named_label_column_trains(stratify: bool) -> None:
    labels = np.repeat([3, 5, 8], [100, 50, 25])  # (rows,)
    images = np.random.default_rng(0).integers(0, 256, (175, 4))  # (rows, features)
    header = "pixel0,pixel1,digit,pixel2,pixel3"
    np.savetxt("digits.csv", np.insert(images, 2, labels, axis=1), fmt="%d", delimiter=",", header=header, comments="")
    options = ["--data", "digits.csv", "--label-column", "digit", *(["--stratify"] if stratify else [])]
    assert run(*SHORT, *options, "--quiet", "--out", "run").exit_code == 0
    choice = json.loads(Path("run/config.json").read_text())["data"]
    assert (choice["label_column"], choice["stratify"]) == ("digit", stratify)
    net = nn.load("run/model.safetensors", backend="numpy")
    assert (net.sizes[0], net.sizes[-1], net.class_names) == (4, 3, ("3", "5", "8"))
    result = json.loads(run("evaluate", "run", "--data", "digits.csv", "--json").stdout)
    confusion = result["confusion_matrix"]  # a row for each true class
    assert np.sum(confusion) == 35
    assert (np.sum(confusion, axis=1).tolist() == [20, 10, 5]) is stratify  # a fifth of each class


def test_resume_after_stop_is_bit_identical_to_an_unbroken_run(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", "--backend", "numpy", "--epochs", "4", "--quiet"]
    assert run(*arguments, "--out", "whole").exit_code == 0

    class StopInTheSecondEpoch(Progress):
        def on_chunk_end(self, run: nn.TrainingRun) -> None:
            if run.epoch == 2 and run.position >= 400:
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.nn.training.loop._next_chunk", lambda chunk, elapsed, batch_size: batch_size)  # noqa: ARG005
        patch.setattr("xpnn.nn.cli.train.progress_callback", lambda quiet: StopInTheSecondEpoch())  # noqa: ARG005
        stopped = run(*arguments, "--out", "broken")
    assert stopped.exit_code == 143
    assert "--resume broken" in stopped.stderr
    assert len(read_metrics("broken")) == 1
    assert not Path("broken/summary.json").exists()
    assert run("train", "--resume", "broken", "--quiet").exit_code == 0
    assert read_metrics("broken") == read_metrics("whole")
    for name in ("model.safetensors",):
        assert Path("broken", name).read_bytes() == Path("whole", name).read_bytes()
    checkpoints = [nn.Checkpoint.load(Path(folder, "checkpoint.safetensors")) for folder in ("broken", "whole")]
    for name, array in checkpoints[0].optimizer_state.items():
        np.testing.assert_array_equal(array, checkpoints[1].optimizer_state[name])


def test_live_draws_the_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("xpnn.nn.cli.train.save_curves", lambda *_, **__: None)  # they are saved at every run's end
    assert run(*SHORT, "--quiet", "--out", "still").exit_code == 0
    assert not Path("still/curves.png").exists()
    assert run(*SHORT, "--live", "--quiet", "--out", "live").exit_code == 0
    with Image.open("live/curves.png") as picture:
        assert picture.size[0] > 400


def test_evaluate_gives_the_run_s_own_figures_and_the_pictures(trained: Path) -> None:
    result = run("evaluate", str(trained), "--backend", "numpy", "--json", "--out", "pictures")
    figures = json.loads(result.stdout)
    summary = json.loads((trained / "summary.json").read_text())
    assert figures["accuracy"] == summary["test_accuracy"]
    assert figures["loss"] == pytest.approx(summary["test_loss"], rel=1e-6)
    assert np.sum(figures["confusion_matrix"]) == figures["rows"] == 359
    assert np.trace(figures["confusion_matrix"]) == round(figures["accuracy"] * 359)
    assert {path.name for path in Path("pictures").iterdir()} == {
        "evaluation.json", "confusion_matrix.png", "reliability.png", "worst_mistakes.png",
    }  # fmt: skip
    text = run("evaluate", str(trained)).stdout
    assert f"{figures['accuracy']:.2%}" in text


def test_evaluate_a_model_file_needs_data(trained: Path) -> None:
    model = str(trained / "model.safetensors")
    assert "add --data" in run("evaluate", model).stderr
    assert json.loads(run("evaluate", model, "--data", "digits", "--json").stdout)["rows"] == 359


def test_evaluate_measures_the_part_that_is_asked_for(trained: Path) -> None:
    results = {
        part: json.loads(run("evaluate", str(trained), "--part", part, "--json").stdout)
        for part in ("test", "train", "all")
    }
    assert {part: result["rows"] for part, result in results.items()} == {"test": 359, "train": 1438, "all": 1797}
    right = {part: round(result["accuracy"] * result["rows"]) for part, result in results.items()}
    assert right["all"] == right["test"] + right["train"]


def test_evaluate_refuses_data_of_other_classes(trained: Path) -> None:
    images = np.arange(6 * 64, dtype=np.uint8).reshape(6, 64)
    np.savez("other.npz", images=images, labels=np.array(list("abcabc")))
    result = run("evaluate", str(trained), "--data", "other.npz")
    assert result.exit_code == 2
    assert "labels must be among the classes of the network, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got 'a'" in result.stderr


def test_predict_recognises_digits_drawn_in_files(trained: Path) -> None:
    digits = nn.load_dataset("digits").test
    net = nn.load(trained / "model.safetensors", backend="numpy")
    sure = np.argsort(-net.predict_proba(digits.images).max(axis=1))[:5]
    for k, row in enumerate(sure):
        level = 255 - digits.images[row].reshape(8, 8) * 15  # dark on light
        picture = Image.fromarray(level.astype(np.uint8)).resize((160, 160), Image.Resampling.BICUBIC)
        canvas = Image.new("L", (220, 260), 255)
        canvas.paste(picture, (20, 50))
        canvas.save(f"{k}.png")
    result = run("predict", str(trained), *(f"{k}.png" for k in range(5)), "--json")
    predictions = json.loads(result.stdout)["predictions"]
    assert [prediction["prediction"] for prediction in predictions] == [str(label) for label in digits.labels[sure]]
    for prediction in predictions:
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    table = run("predict", str(trained), "0.png").stdout
    assert "0.png" in table


def test_predict_refuses_a_network_that_was_not_trained_on_images() -> None:
    nn.save(nn.MLP([5, 2], backend="numpy"), "rows.safetensors")
    result = run("predict", "rows.safetensors", "x.png")
    assert result.exit_code == 2
    assert "not trained on images" in result.stderr


def test_explain_names_every_tensor_with_its_shape() -> None:
    text = run("explain", "deep-32").stdout
    for shape in ("(784, 32)", "(32, 32)", "(32, 10)", "(batch, 784)", "26,506"):
        assert shape in text
    assert "z2            (batch, 32)  y1 @ weight2 + bias2" in text
    assert "grad_weight3  (32, 10)     y2.T @ grad_logits" in text
    assert "grad_z1       (batch, 32)  grad_y1 * (1 where y1 > 0, else 0)" in text
    assert "p <- p - lr g" in text


def test_explain_tells_the_settings_that_the_formulas_use() -> None:
    assert "with lr = 0.1\n" in run("explain", "gd-10").stdout
    text = run("explain", "mnist-98").stdout
    assert "with lr = 0.003, beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-08; t counts the steps from 1" in text
    assert "schedule 'cosine'" in text


def test_ctrl_c_before_the_training_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr("xpnn.nn.cli.train.get_backend", interrupted)
    result = run(*SHORT)
    assert result.exit_code == 130
    assert list(Path().iterdir()) == []


def test_explain_reads_a_trained_network(trained: Path) -> None:
    assert "(64, 32)" in run("explain", str(trained)).stdout


def test_parity_passes_between_right_backends() -> None:
    result = run("parity", "--backends", "numpy,array-api-strict", "--steps", "5", "--seeds", "1", "--rows", "300")
    assert result.exit_code == 0, result.output
    assert (result.stdout.count("ok"), result.stdout.count("reference")) == (3, 1)
    assert "DIFFERS" not in result.stdout


def test_parity_exits_1_when_a_backend_computes_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Backend.linear

    def wrong(self: Backend, *arguments: object, **options: object) -> object:
        return right(self, *arguments, **options) * (1 + 1e-3)

    monkeypatch.setattr(Backend, "linear", wrong)  # the generic backend has no linear of its own, NumPy's has
    result = run("parity", "--backends", "numpy,array-api-strict", "--steps", "3", "--seeds", "0", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert not report["passed"]
    assert all(entry["weight_difference"] > 1e-4 for entry in report["results"])


def test_backends_reports_every_backend() -> None:
    report = json.loads(run("backends", "--json").stdout)
    statuses = {entry["name"]: entry["status"] for entry in report["backends"]}
    assert statuses["numpy"] == statuses["numba"] == statuses["array-api-strict"] == "ok"
    text = run("backends").stdout
    assert all(name in text for name in statuses)
    assert max(map(len, text.splitlines())) <= 80 or sys.platform != "linux"


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from xpnn.nn.cli import main; main()", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_real_process_trains_and_reports() -> None:
    process = start(*SHORT, "--json")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(output)["epochs"] == 3
    assert errors == ""


def test_interrupting_a_real_process_saves_and_exits_130() -> None:
    process = start("train", "--backend", "numpy", "--epochs", "100000", "--out", "run")
    assert process.stderr is not None
    while "epoch 1/" not in process.stderr.readline():  # the first line that is printed while it trains
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    checkpoint = nn.Checkpoint.load("run/checkpoint.safetensors")
    assert len(read_metrics("run")) == checkpoint.epoch - 1 >= 1
    net = nn.load("run/model.safetensors", backend="numpy")
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, checkpoint.parameters[name])


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_a_folder_of_idx_files_feeds_an_mnist_recipe() -> None:
    generator = np.random.default_rng(0)
    Path("idx").mkdir()
    for part, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count) % 10
        images = generator.integers(0, 30, (count, 28, 28)) + 20 * labels[:, None, None]
        write_idx(Path("idx", f"{part}-images-idx3-ubyte.gz"), images)
        write_idx(Path("idx", f"{part}-labels-idx1-ubyte.gz"), labels)
    result = run("train", "gd-10", "--data", "idx", "--backend", "numpy", "--epochs", "2", "--json", "--out", "run")
    assert json.loads(result.stdout)["recipe"] == "gd-10"
    assert nn.load("run/model.safetensors").sizes == (784, 10, 10)


@pytest.mark.parametrize("more", [[], ["--json"], ["--backend", "array-api-strict"]])
def test_a_finished_run_is_left_as_it_is(trained: Path, more: list[str]) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    result = run("train", "--resume", str(trained), *more)
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before
    if more == ["--json"]:
        assert json.loads(result.stdout) == json.loads(before["summary.json"]) | {"out": "run"}
    else:
        assert result.stdout == "run is finished: all of its 3 epochs are done\n"


def test_a_full_disk_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.backends import StorageError

    def fail(*_: object) -> None:
        raise StorageError("cannot write run/metrics.jsonl: No space left on device")

    monkeypatch.setattr("xpnn.nn.runs.folder.append", fail)
    result = run(*SHORT, "--out", "run")
    assert result.exit_code == 1
    assert result.stderr.endswith("the last checkpoint is intact: free space, then xpnn train --resume run\n")


def test_a_run_without_its_picture_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.backends import StorageError

    def fail(*_: object, **__: object) -> None:
        raise StorageError("cannot write run/curves.png: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.nn.cli.train.save_curves", fail)
        result = run(*SHORT, "--out", "run")
    assert result.exit_code == 1
    assert not Path("run/summary.json").exists()
    assert run("train", "--resume", "run").exit_code == 0
    assert {"summary.json", "curves.png"} <= {path.name for path in Path("run").iterdir()}


def test_a_data_set_in_place_of_a_recipe_is_told() -> None:
    result = run("train", "digits")
    assert result.exit_code == 2
    assert "digits is a data set, not a recipe: xpnn train --data digits" in result.output

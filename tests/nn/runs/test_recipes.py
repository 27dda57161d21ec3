"""The recipes and the run folder that they leave."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import OPTIMIZERS, ConfigError, ModelFileError, RunError
from xpnn.nn.runs.data_choice import DataChoice
from xpnn.nn.runs.folder import RecordRun, RunConfig, RunFolder, summarize
from xpnn.nn.runs.recipes import RECIPES, Recipe


@pytest.fixture
def recipe() -> Recipe:
    small = dataclasses.replace(RECIPES["quickstart"], sizes=(6, 5, 3))
    return small.with_options(epochs=3, batch_size=8, l2=0.01)


@pytest.fixture
def record(recipe: Recipe):
    """`record(folder)`: the callback that writes a run of the recipe."""
    return lambda folder: RecordRun(folder, RunConfig(recipe, DataChoice(), "numpy", 0))


def test_the_table_holds_the_recipes_that_the_readme_lists() -> None:
    assert {name: recipe.sizes for name, recipe in RECIPES.items()} == {
        "quickstart": (64, 32, 10),
        "gd-10": (784, 10, 10),
        "gd-10-long": (784, 10, 10),
        "deep-32": (784, 32, 32, 10),
        "wide-256": (784, 256, 10),
        "mnist-98": (784, 256, 10),
        "table": (1, 64, 1),
    }
    assert [RECIPES[name].training.epochs for name in ("gd-10", "gd-10-long", "deep-32")] == [500, 2500, 3500]
    assert all(name == recipe.name for name, recipe in RECIPES.items())


def test_network_takes_its_ends_from_the_data(make_data) -> None:
    net = RECIPES["deep-32"].network(make_data(), backend="numpy", seed=3)
    assert net.sizes == (6, 32, 32, 3)
    assert net.class_names == ("a", "b", "c")
    same = RECIPES["deep-32"].network(make_data(), backend="numpy", seed=3)
    np.testing.assert_array_equal(net.parameters()["layers.0.weight"], same.parameters()["layers.0.weight"])


def test_training_a_recipe_is_nn_train_with_its_settings(recipe: Recipe, make_data) -> None:
    data = make_data()
    net, other = (recipe.network(data, backend="numpy", seed=1) for _ in range(2))
    recipe.train(net, data, seed=1)
    nn.train(other, data, optimizer=nn.Adam(3e-3), epochs=3, batch_size=8, l2=0.01, seed=1)
    for name, array in net.parameters().items():
        np.testing.assert_array_equal(array, other.parameters()[name])


def test_the_outline_says_how_much_work_a_training_is(recipe: Recipe, make_data) -> None:
    data = make_data(train=23)
    outline = recipe.outline(data)
    assert (outline.sizes, outline.rows, outline.epochs) == ((6, 5, 3), 23, 3)
    assert outline.multiply_adds == 3 * 23 * 3 * (6 * 5 + 5 * 3)  # epochs, rows, products of a layer, weights
    assert not outline.uses_lbfgs
    assert recipe.with_options(dropout=0.5, clip_norm=1.0).outline(data) == outline


def test_a_recipe_may_split_all_rows_anew() -> None:
    anew = dataclasses.replace(RECIPES["quickstart"], test_fraction=0.1)
    data = DataChoice().load(anew, seed=5)
    assert (len(data.train), len(data.test)) == (1617, 180)
    again, other = DataChoice().load(anew, seed=5), DataChoice().load(anew, seed=6)
    np.testing.assert_array_equal(data.test.images, again.test.images)
    assert not np.array_equal(data.test.images, other.test.images)


def test_a_data_choice_holds_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("a,label\n1,0\n2,1\n", encoding="utf-8")
    assert DataChoice("rows.csv").absolute().source == str(tmp_path.resolve() / "rows.csv")
    assert DataChoice("digits").absolute().source == "digits"
    assert DataChoice().absolute().source is None


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=lambda kind: kind.name)
def test_a_run_s_configuration_survives_its_file(kind: type[nn.Optimizer], recipe: Recipe, tmp_path: Path) -> None:
    config = RunConfig(recipe.with_options(optimizer=kind(0.25)), DataChoice("x.csv", "y"), "numpy", 7)
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.create(config)
    assert folder.read_config() == config


def test_a_run_folder_is_never_written_over(recipe: Recipe, tmp_path: Path) -> None:
    config = RunConfig(recipe, DataChoice(), "numpy", 0)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="exists and is not empty"):
            RunFolder(path).refuse_existing()
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new"):
        RunFolder(path).refuse_existing()
    with pytest.raises(RunError, match="cannot make the run folder"):
        RunFolder(tmp_path / "file" / "run").create(config)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"recipe": 1}', '{"recipe": {"optimizer": {"name": "x"}}}'])
def test_a_damaged_configuration_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"config\.json is damaged"):
        RunFolder(tmp_path).read_config()


def test_a_folder_without_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is no run folder"):
        RunFolder(tmp_path).read_config()


def test_metrics_of_a_resumed_run_begin_at_its_checkpoint(record, recipe: Recipe, tmp_path: Path, make_data) -> None:
    data, folder = make_data(), RunFolder(tmp_path)
    recipe.train(
        recipe.network(data, backend="numpy"),
        data,
        callbacks=[record(folder)],
    )
    lines = folder.metrics.read_text(encoding="utf-8").splitlines()
    checkpoint = nn.Checkpoint.load(folder.checkpoint)
    earlier = dataclasses.replace(checkpoint, history=checkpoint.history[:1])
    folder.write_metrics(earlier.history)
    assert folder.metrics.read_text(encoding="utf-8").splitlines() == lines[:1]


def test_checkpoints_are_taken_while_an_epoch_runs(
    record, recipe: Recipe, tmp_path: Path, make_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xpnn.nn.runs.folder.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("xpnn.nn.training.loop._next_chunk", lambda chunk, elapsed, batch_size: batch_size)  # noqa: ARG005
    folder, data, positions = RunFolder(tmp_path), make_data(), []

    class Look(nn.Callback):
        def on_chunk_end(self, run: nn.TrainingRun) -> None:  # noqa: ARG002
            checkpoint = nn.Checkpoint.load(folder.checkpoint)
            positions.append((checkpoint.epoch, checkpoint.position))

    short = recipe.with_options(epochs=1)
    short.train(
        short.network(data, backend="numpy"),
        data,
        callbacks=[record(folder), Look()],
    )
    assert positions == [(1, 8), (1, 16), (1, 23)]


def test_metrics_that_cannot_be_written_fail_the_run(record, recipe: Recipe, tmp_path: Path, make_data) -> None:
    data, folder = make_data(), RunFolder(tmp_path)

    class Block(nn.Callback):
        def on_train_begin(self, run: nn.TrainingRun) -> None:  # noqa: ARG002
            folder.metrics.unlink()
            folder.metrics.mkdir()

    with pytest.raises(RunError, match="cannot write"):
        recipe.train(
            recipe.network(data, backend="numpy"),
            data,
            callbacks=[record(folder), Block()],
        )


def test_summary_is_made_of_the_last_epoch_and_all_times(recipe: Recipe) -> None:
    history = nn.History(
        [nn.EpochResult(1, 2.0, 0.5, 1.5, 0.6, 3.0), nn.EpochResult(2, 1.0, 0.75, 0.5, 0.8, 1.0),
         nn.EpochResult(3, 0.9, 0.8, 0.4, 0.9, 1.25)]
    )  # fmt: skip
    summary = summarize(RunConfig(recipe, DataChoice(), "numpy", 3), history, versions={"v": "1"}, hardware={"h": 2})
    assert json.loads(json.dumps(summary)) == {
        "recipe": "quickstart", "backend": "numpy", "dtype": "float32", "seed": 3, "ranks": 1,
        "epochs": 3, "kept_epoch": 3, "train_accuracy": 0.8, "test_accuracy": 0.9, "train_loss": 0.9, "test_loss": 0.4,
        "total_seconds": 5.25, "median_epoch_seconds": 1.25, "versions": {"v": "1"}, "hardware": {"h": 2},
    }  # fmt: skip


def test_a_run_can_be_resumed_from_its_first_moment(record, recipe: Recipe, tmp_path: Path, make_data) -> None:
    class Fail(nn.Callback):
        def on_chunk_end(self, run: nn.TrainingRun) -> None:  # noqa: ARG002
            raise KeyboardInterrupt

    data, folder = make_data(), RunFolder(tmp_path / "run")
    whole, broken = (recipe.network(data, backend="numpy") for _ in range(2))
    recipe.train(whole, data)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(broken, data, callbacks=[record(folder), Fail()])
    again = RecordRun(folder, folder.read_config(), resumed=True)
    recipe.train(broken, data, resume=nn.Checkpoint.load(folder.checkpoint), callbacks=[again])
    for name, array in whole.parameters().items():
        np.testing.assert_array_equal(array, broken.parameters()[name])
    assert len(folder.metrics.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize(("rows", "batch_size", "epochs"), [(100, 32, 200), (10_000, 128, 200), (1_000_000, 256, 38)])
def test_the_recipe_for_tables_goes_by_the_number_of_rows(rows, batch_size, epochs):
    part = nn.Split(np.broadcast_to(np.float32(0), (rows, 3)), np.zeros(rows, np.int64))
    data = nn.Dataset("t", part, part, nn.Numbers(class_names=("a", "b")))
    recipe = RECIPES["table"].fitted_to(data)
    assert recipe.sizes == (3, 100, 2)
    assert (recipe.loss, recipe.by_rows) == ("softmax_cross_entropy", False)
    assert (recipe.training.batch_size, recipe.training.epochs) == (batch_size, epochs)

"""The benchmark's contestants do the same work, and the recipes' table says what was measured."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.backends import SGD, Adam, ConfigError, available_backends
from xpnn.bench import epochs, reproduce
from xpnn.bench.plain_numpy import PlainNumPy
from xpnn.bench.workloads import WORKLOADS, Workload
from xpnn.nn.recipes import RECIPES, DataChoice


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(1e-3)], ids=lambda optimizer: optimizer.name)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_the_plain_script_trains_as_the_network_does(make_data, optimizer, batch_size) -> None:
    data = make_data(dtype="float64")
    net = nn.MLP([6, 5, 4, 3], backend="numpy", dtype="float64")
    start = list(net.parameters().values())
    script = PlainNumPy(start, data.train.images, data.train.labels, optimizer, batch_size or len(data.train))
    history = nn.train(net, data, optimizer=optimizer, epochs=3, batch_size=batch_size, shuffle=False)
    losses = [script.run_epoch(None) for _ in range(3)]
    assert losses == pytest.approx([result.train_loss for result in history], rel=1e-12)
    for parameter, expected in zip(script.parameters, net.parameters().values(), strict=True):
        np.testing.assert_allclose(parameter, expected, rtol=1e-10, atol=1e-14)


def test_every_contestant_is_timed_after_its_first_epoch() -> None:
    small = Workload("small", (64, 8, 10), 64, SGD(0.1))
    data = nn.load_dataset("digits")
    seconds = epochs.time_workload(small, data, list(available_backends()), 2)
    assert set(seconds) == {"script", *available_backends()}
    assert all(len(times) == 2 for times in seconds.values())


def test_contestants_that_do_other_work_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainNumPy, "run_epoch", lambda self, order: 5.0)  # noqa: ARG005
    with pytest.raises(ConfigError, match="losses of small differ"):
        epochs.time_workload(Workload("small", (64, 8, 10), 64, SGD(0.1)), nn.load_dataset("digits"), ["numpy"], 1)


def test_the_table_of_epoch_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORKLOADS, "small", Workload("small", (64, 8, 10), None, SGD(0.1)))
    options = ["--data", "digits", "--backends", "numpy", "--workloads", "small", "--epochs", "1"]
    result = CliRunner().invoke(epochs.main, [*options, "--out", str(tmp_path / "times.json")])
    assert result.exit_code == 0, result.output
    assert "script" in result.output
    assert '"seconds"' in (tmp_path / "times.json").read_text(encoding="utf-8")


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
    monkeypatch.setitem(reproduce.LEAST_TEST_ACCURACY, "quickstart", 0.9999)
    result = CliRunner().invoke(reproduce.main, ["--recipes", "quickstart", "--backend", "numpy"])
    assert result.exit_code == 1
    assert "short of what its authors show: quickstart" in result.output


def test_ten_seeds_are_summed_up_in_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reproduce.SEEDS, "quickstart", 2)
    monkeypatch.setitem(reproduce.LEAST_TEST_ACCURACY, "quickstart", 0.5)
    result = reproduce.reproduce(RECIPES["quickstart"], DataChoice(), "numpy")
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    assert "2 of 2 seeds at 50% or more" in reproduce.table([result])

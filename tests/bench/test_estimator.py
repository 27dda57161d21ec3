"""The benchmark of the estimators on scikit-learn's examples."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("sklearn", minversion="1.6")

from xpnn.bench import estimator as bench


@pytest.fixture
def tiny(monkeypatch):
    """Put one small fit in the place of the examples."""
    rows = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
    task = bench.Example("tiny fit", rows, {"max_iter": 3, "random_state": 0, "hidden_layer_sizes": (4,)})
    monkeypatch.setattr(bench, "EXAMPLES", {"tiny": lambda mnist: iter([task])})  # noqa: ARG005


@pytest.mark.usefixtures("tiny")
def test_both_do_the_same_work_and_the_file_has_what_was_measured(tmp_path):
    out = tmp_path / "estimator.json"
    run = CliRunner().invoke(bench.main, ["--examples", "tiny", "--turns", "2", "--out", str(out)])
    assert run.exit_code == 0, run.output
    content = json.loads(out.read_text())
    (result,) = content["results"]
    theirs, mine = result["scikit-learn"], result["xpnn"]
    assert theirs["n_iter"] == mine["n_iter"] == 3
    assert mine["loss"] == pytest.approx(theirs["loss"])
    assert mine["score"] == theirs["score"]
    assert mine["backend"] == "numpy"
    assert len(theirs["seconds"]) == len(mine["seconds"]) == 2
    assert result["ratio"] == pytest.approx(sum(mine["seconds"]) / sum(theirs["seconds"]))
    assert "tiny fit" in run.output
    assert f"tiny: {result['ratio']:.2f} of scikit-learn's time in the median" in run.output
    assert content["command"].startswith("python -m xpnn.bench.estimator")


@pytest.mark.usefixtures("tiny")
def test_what_cannot_be_done_is_refused_before_anything_is_measured(tmp_path):
    out = tmp_path / "there.json"
    out.write_text("kept")
    for arguments, message in (
        (["--examples", "huge"], "unknown example 'huge'"),
        (["--out", str(out)], "is there already"),
    ):
        run = CliRunner().invoke(
            bench.main, arguments if "--examples" in arguments else ["--examples", "tiny", *arguments]
        )
        assert run.exit_code == 2
        assert message in run.output
    assert out.read_text() == "kept"


def test_the_examples_are_those_of_scikit_learn():
    tasks = [task for name in ("curves", "alpha", "comparison") for task in bench.EXAMPLES[name](None)]
    assert len(tasks) == 4 * 7 + 3 * 3 + 3
    digits = next(task for task in tasks if task.name == "curves digits adam")
    assert digits.rows[0].shape == (1797, 64)
    assert (digits.rows[0].min(), digits.rows[0].max()) == (0, 1)
    assert digits.settings == {
        "solver": "adam",
        "learning_rate_init": 0.01,
        "random_state": 0,
        "max_iter": 15,
    }
    assert next(task for task in tasks if task.name == "comparison moons").rows[0].shape == (60, 2)

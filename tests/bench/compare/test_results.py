"""The file of a run, its tables and its picture."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from xpnn.backends import ConfigError
from xpnn.bench.compare import readme, results_file
from xpnn.bench.compare.picture import save_sweep_picture, sweep_points
from xpnn.bench.compare.report import block, cell, fastest_peer, ratio, summary
from xpnn.bench.compare.results_file import Results, commit, read
from xpnn.bench.compare.workloads import WORKLOADS

OPTIONS = {"kind": "workloads", "epochs": 7, "seed": 0, "contestants": ["script", "jax", "numba"]}


def figures(median: float, *, mark: str = "") -> dict[str, Any]:
    """Figures of a contestant, as `measure` gives them; seconds."""
    return {
        "seconds": [median] * 7, "median_seconds": median, "quartile_seconds": [0.9 * median, 1.1 * median],
        "transfer_seconds": 0.25, "compile_seconds": 1.5, "losses": [0.5], "test_accuracy": 0.9612, "mark": mark,
    }  # fmt: skip


CONTESTANTS = {"script": figures(0.6), "jax": figures(0.4), "numba": figures(0.1)}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A run with one workload in its file."""
    run = Results.new(tmp_path / "run.json", options=OPTIONS, threads=2)
    run.add(WORKLOADS["W3"].to_json(), CONTESTANTS, train_rows=60_000, test_rows=10_000)
    return run


def test_the_file_says_what_was_measured_on_what(results: Results) -> None:
    content = json.loads(results.path.read_text(encoding="utf-8"))
    assert set(content) == {
        "format", "command", "date", "options", "hardware", "threads", "versions", "commit", "missing",
        "thread_pools", "load_seconds", "product_rate", "workloads",
    }  # fmt: skip
    assert content["threads"] == 2
    assert content["options"] == OPTIONS
    assert content["versions"]["numpy"]
    assert content["hardware"]["cores"] >= 1
    entry = content["workloads"]["W3"]
    assert entry["workload"]["sizes"] == [784, 256, 10]
    assert [entry["train_rows"], entry["test_rows"]] == [60_000, 10_000]
    assert entry["contestants"] == CONTESTANTS


def test_a_run_goes_on_where_it_was(results: Results) -> None:
    again = Results.resume(results.path, options=OPTIONS, threads=2)
    assert again.done == {"W3"}
    again.add(WORKLOADS["W5"].to_json(), CONTESTANTS, train_rows=60_000, test_rows=10_000)
    assert Results.resume(results.path, options=OPTIONS, threads=2).done == {"W3", "W5"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": 1}, "threads was 2, is 1"),
        ({"options": {**OPTIONS, "epochs": 9}}, "options.epochs was 7, is 9"),
    ],
)
def test_a_run_of_other_circumstances_is_refused(results: Results, changes, message: str) -> None:
    with pytest.raises(ConfigError, match=f"measured under other circumstances: {re.escape(message)}; begin a new"):
        Results.resume(results.path, **{"options": OPTIONS, "threads": 2, **changes})


def test_a_run_of_another_version_is_refused(results: Results) -> None:
    content = json.loads(results.path.read_text(encoding="utf-8"))
    content["versions"]["numpy"] = "1.0"
    results.path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"versions\.numpy was 1\.0, is "):
        Results.resume(results.path, options=OPTIONS, threads=2)


def test_an_earlier_file_is_not_overwritten(results: Results) -> None:
    with pytest.raises(ConfigError, match="is there already: choose another --out"):
        Results.new(results.path, options=OPTIONS, threads=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "does not hold results of format 1"), ('{"format": 0}', "does not hold results")],
)
def test_what_is_no_file_of_results_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "x.json")
    with pytest.raises(ConfigError, match="cannot read"):
        read(tmp_path / "none.json")


def test_the_commit_is_that_of_a_clone_of_xpnn(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    try:
        subprocess.run([*git, "init", "--quiet"], check=True)
    except OSError:
        pytest.skip("git is not installed")
    source = tmp_path / "bench" / "compare" / Path(results_file.__file__).name
    source.parent.mkdir(parents=True)
    source.write_text("", encoding="utf-8")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "first"], check=True)
    first = commit(tmp_path)
    assert first is not None
    assert re.fullmatch("[0-9a-f]{40}", first)
    source.write_text("changed", encoding="utf-8")
    assert commit(tmp_path) == f"{first}-dirty"


def test_ratios_are_to_the_fastest_peer_that_did_the_same_work() -> None:
    assert fastest_peer(CONTESTANTS) == "jax"
    assert ratio(CONTESTANTS, "numba") == pytest.approx(0.25)
    wrong = {**CONTESTANTS, "jax": figures(0.4, mark="off"), "torch": {"failed": "it died"}}
    assert fastest_peer(wrong) == "script"
    assert ratio(wrong, "numba") == pytest.approx(1 / 6)
    assert ratio(wrong, "torch") is None
    assert fastest_peer({"numba": figures(0.1)}) is None
    assert cell(CONTESTANTS, "numba") == "100.0 (0.25)"
    assert cell(wrong, "jax") == "400.0*"
    assert cell(wrong, "torch") == "-"


def test_a_peer_that_rounds_further_is_reported_apart() -> None:
    contestants = {"torch-graph-1": figures(0.4), "jax-gpu-tf32": figures(0.2), "cupy": figures(0.1)}
    assert fastest_peer(contestants) == "torch-graph-1"
    assert cell(contestants, "cupy") == "100.0 (0.25)"
    assert cell(contestants, "jax-gpu-tf32") == "200.0"


def test_a_turn_of_several_epochs_has_the_accuracy_after_the_first(results: Results) -> None:
    entry = results.content["workloads"]["W3"]
    names = ("torch-graph-epoch-tf32", "cupy")
    entry["contestants"] = {name: {**figures(0.1), "turn_accuracy": 0.5} for name in names}
    entry["workload"] = {**entry["workload"], "epochs": 10}
    lines = block("W3", entry).splitlines()
    assert lines[1].split()[0] == "turn"
    assert [line.split()[-3] for line in lines[2:]] == ["50.00%", "50.00%"]
    assert len({len(line) for line in lines[1:]}) == 1  # the columns stand below each other


def test_a_file_of_before_turns_had_epochs_is_read(results: Results) -> None:
    entry = results.content["workloads"]["W3"]
    del entry["workload"]["epochs"], results.content["load_seconds"]
    assert block("W3", entry).splitlines()[1].split()[0] == "epoch"
    assert summary(results.content)


def test_the_gpus_stand_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_file, "gpus", lambda: [{"name": "a GPU"}])
    run = Results.new(tmp_path / "gpu.json", options=OPTIONS, threads=2)
    assert run.content["hardware"]["gpus"] == [{"name": "a GPU"}]
    monkeypatch.setattr(results_file, "gpus", list)
    assert "gpus" not in Results.new(tmp_path / "none.json", options=OPTIONS, threads=2).content["hardware"]


def test_a_block_has_accuracy_marks_and_what_is_reported_apart(results: Results) -> None:
    entry = results.content["workloads"]["W3"]
    entry["contestants"] = {
        **CONTESTANTS, "numpy": figures(0.5, mark="its loss is off"), "torch": {"failed": "it died"},
    }  # fmt: skip
    rate = 10 * 60_000 * entry["workload"]["operations"]  # 0.1 s are a whole second's work
    lines = block("W3", entry, rate).splitlines()
    assert lines[0] == "W3: 784-256-10, batch 128, SGD 0.1, mnist"
    assert " ".join(lines[1].split()) == "epoch median ms quartiles ratio of peak test acc. transfer s compile s"
    assert lines[4].split() == ["xpnn", "numba", "100.0", "90.0-110.0", "0.25", "100%", "96.12%", "0.25", "1.50"]
    assert "96.12%*" in lines[5]
    assert lines[6:] == ["  * xpnn numpy: its loss is off", "  PyTorch eager failed: it died"]


def test_the_summary_has_each_workload_and_the_worst_ratio(results: Results) -> None:
    slower = {**CONTESTANTS, "numba": figures(0.2)}
    results.add(WORKLOADS["W5"].to_json(), slower, train_rows=60_000, test_rows=10_000)
    results.content["missing"] = {"torch": "torch needs torch"}
    lines = summary(results.content).splitlines()
    assert lines[1].split() == ["W3", "JAX", "400.0", "100.0", "(0.25)"]
    assert lines[3] == ("xpnn numba: 0.38 of the fastest peer's time in the median of 2 workloads, 0.50 at worst (W5)")
    assert lines[4] == "PyTorch eager did not take part: torch needs torch"


def test_the_readme_gets_the_newest_whole_table_between_its_marks(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readme, "WORKLOADS", {"W3": WORKLOADS["W3"]})
    older = {**results.content, "date": "2020-01-01T00:00:00+00:00"}
    (results.path.parent / "a.json").write_text(json.dumps(older), encoding="utf-8")
    on_gpu = {**results.content, "date": "2998-01-01T00:00:00+00:00", "options": {**OPTIONS, "kind": "gpu"}}
    (results.path.parent / "b.json").write_text(json.dumps(on_gpu), encoding="utf-8")
    broken_off = {**results.content, "date": "2999-01-01T00:00:00+00:00", "workloads": {}}
    (results.path.parent / "z.json").write_text(json.dumps(broken_off), encoding="utf-8")
    assert readme.newest(results.path.parent)[0] == results.path
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", encoding="utf-8")
    options = ["--readme", str(page), "--results", str(results.path.parent)]
    assert CliRunner().invoke(readme.main, [*options, "--check"]).exit_code == 1
    assert CliRunner().invoke(readme.main, options).exit_code == 0
    assert CliRunner().invoke(readme.main, [*options, "--check"]).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith(
        f"before\n{readme.BEGIN}\n| median milliseconds | NumPy script | JAX | xpnn numba |\n|---|---"
    )
    assert "| W3: 784-256-10, batch 128, SGD 0.1, mnist | 600.0 | 400.0 | 100.0 (0.25) |\n" in text
    assert text.endswith(f"{readme.END}\nafter\n")
    assert "old" not in text


def test_a_readme_without_marks_or_a_folder_without_runs_is_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the page must have <!-- bench:begin --> once"):
        readme.rewritten("no marks", "table")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no run of the fixed workloads"):
        readme.newest(tmp_path / "empty")
    result = CliRunner().invoke(readme.main, ["--results", str(tmp_path / "empty"), "--readme", str(results.path)])
    assert result.exit_code == 2


def test_the_readme_of_this_repository_is_up_to_date(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = root / "README.md"
    if not page.exists() or readme.BEGIN not in page.read_text(encoding="utf-8"):
        pytest.skip("README.md has no marks for the table, or is not there")
    monkeypatch.chdir(root)
    result = CliRunner().invoke(readme.main, ["--check"])
    assert result.exit_code == 0, result.output


def test_the_picture_scales_short_epochs_up(results: Results, tmp_path: Path) -> None:
    for width, batch, rows in ((10, 16, 60_000), (2048, 16, 6000), (2048, 256, 60_000)):
        workload = {**WORKLOADS["W3"].to_json(), "name": f"{width}x{batch}", "sizes": [784, width, 10]}
        results.add({**workload, "batch_size": batch}, CONTESTANTS, train_rows=rows, test_rows=10_000)
    points = sweep_points(results.content)
    assert points["numba"] == {
        (256, 128): 0.1, (10, 16): 0.1, (2048, 16): pytest.approx(1.0), (2048, 256): 0.1,
    }  # fmt: skip
    save_sweep_picture(results.content, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="there is nothing to draw"):
        save_sweep_picture({**results.content, "workloads": {}}, tmp_path / "none.png")

"""`xpnn bench` from end to end, on the digits."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from xpnn.backends import SGD, ConfigError, MissingDependency
from xpnn.bench.compare import contestants, runs
from xpnn.bench.compare.contestants import gpu_contestant_names, load_contestant
from xpnn.bench.compare.runs import plan_run
from xpnn.bench.compare.workers import Worker, started
from xpnn.bench.compare.workloads import GPU_EPOCHS, WORKLOADS, Workload
from xpnn.nn.cli.app import xpnn

OPTIONS = ["bench", "--data", "digits", "--contestants", "script,numpy", "--threads", "1"]


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    """The processes of the script and of the NumPy backend, once for all tests but the first."""
    with started(("script", "numpy"), threads=1) as (found, missing):
        assert missing == {}
        yield found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`bench(*options)` runs the command with two small workloads on the digits, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    small = Workload("small", (64, 8, 10), 100, SGD(0.1)), Workload("full", (64, 8, 10), None, SGD(0.1))
    for each in small:
        monkeypatch.setitem(WORKLOADS, each.name, each)
    return lambda *options: CliRunner().invoke(xpnn, [*OPTIONS, *options])


@pytest.fixture
def quick_bench(bench, workers, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`bench` with processes that are there already."""
    monkeypatch.setattr(runs, "started", lambda *_, **__: nullcontext((workers, {})))
    return bench


def test_a_run_prints_tables_and_leaves_a_file(bench) -> None:
    result = bench("--workloads", "small,full", "--out", "run.json")
    assert result.exit_code == 0, result.output
    assert "small: 64-8-10, batch 100, SGD 0.1, mnist" in result.stdout
    assert "xpnn numpy" in result.stdout
    assert result.stdout.endswith("saved in run.json\n")
    content = json.loads(Path("run.json").read_text(encoding="utf-8"))
    assert list(content["workloads"]) == ["small", "full"]
    assert set(content["thread_pools"]) == {"script", "numpy"}
    script, ours = (content["workloads"]["small"]["contestants"][name] for name in ("script", "numpy"))
    assert len(script["seconds"]) == 7
    assert ours["losses"] == pytest.approx(script["losses"], rel=1e-5)
    assert ours["mark"] == ""


def test_a_resumed_run_measures_only_what_is_missing(quick_bench) -> None:
    assert quick_bench("--workloads", "small", "--out", "run.json", "--quiet").stdout == ""
    before = json.loads(Path("run.json").read_text(encoding="utf-8"))
    result = quick_bench("--workloads", "small,full", "--resume", "run.json", "--json")
    assert result.exit_code == 0, result.output
    after = json.loads(result.stdout)
    assert after == json.loads(Path("run.json").read_text(encoding="utf-8"))
    assert after["workloads"]["small"] == before["workloads"]["small"]
    assert list(after["workloads"]) == ["small", "full"]
    refused = quick_bench("--workloads", "small", "--resume", "run.json", "--epochs", "8")
    assert [refused.exit_code, "options.epochs was 7, is 8" in refused.stderr] == [2, True]


def test_a_run_on_a_gpu_takes_turns_of_many_epochs(quick_bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GPU_EPOCHS, "small", 4)
    result = quick_bench("--gpu", "--workloads", "small", "--out", "run.json")
    assert result.exit_code == 0, result.output
    assert "small: 64-8-10, batch 100, SGD 0.1, mnist, 4 epochs\n  turn " in result.stdout
    assert "seconds of imports, CUDA context and a first kernel, all at once: NumPy script " in result.stdout
    content = json.loads(Path("run.json").read_text(encoding="utf-8"))
    assert [content["options"]["kind"], content["options"]["epochs"]] == ["gpu", 5]
    assert set(content["load_seconds"]) == {"script", "numpy"}
    script, ours = (content["workloads"]["small"]["contestants"][name] for name in ("script", "numpy"))
    assert len(script["seconds"]) == 5
    assert ours["losses"] == pytest.approx(script["losses"], rel=1e-5)
    assert ours["turn_accuracy"] == script["turn_accuracy"]


def test_a_quick_run_says_that_it_is_quick(quick_bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "QUICK_ROWS", 300)
    result = quick_bench("--quick", "--workloads", "small")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("a quick run")
    (path,) = Path().glob("bench-*.json")
    entry = json.loads(path.read_text(encoding="utf-8"))["workloads"]["small"]
    assert entry["train_rows"] == 300
    assert len(entry["contestants"]["script"]["seconds"]) == 3


def test_a_sweep_draws_its_picture(quick_bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "sweep_workloads", lambda: [Workload("8x16", (64, 8, 10), 16, SGD(0.1))])
    result = quick_bench("--sweep", "--out", "sweep.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("saved in sweep.json and sweep.png\n")
    assert Path("sweep.png").stat().st_size > 10_000


def test_no_contestant_is_a_failed_run(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "all_contestants", lambda: {"script": None, "nobody": None})
    result = bench("--workloads", "small", "--contestants", "nobody")
    assert result.exit_code == 1
    first, reason = result.stderr.splitlines()
    assert first == "xpnn: no contestant can be had"
    assert reason.startswith("  nobody: unknown contestant 'nobody'")


def test_each_reason_is_told_once_after_the_names_that_it_concerns() -> None:
    missing = {"cupy-script": "no driver was found", "torch-graph-1": "it needs torch", "cupy": "no driver was found"}
    assert runs.reasons(missing) == "  cupy-script, cupy: no driver was found\n  torch-graph-1: it needs torch"


def test_a_peer_without_its_package_says_the_same_under_every_name(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def none_started(names: tuple[str, ...], **_: object) -> Iterator[tuple[list[object], dict[str, str]]]:
        missing: dict[str, str] = {}
        for name in names:
            with pytest.raises(MissingDependency) as raised:
                load_contestant(name)
            missing[name] = str(raised.value)
        yield [], missing

    monkeypatch.setattr(contestants, "import_module", without_torch)
    monkeypatch.setattr(runs, "started", none_started)
    result = bench("--gpu", "--contestants", "torch-graph-1,torch-max-autotune", "--workloads", "small")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "xpnn: no contestant can be had",
        '  torch-graph-1, torch-max-autotune: it needs torch: pip install "xpnn[cli,bench]"',
    ]


def without_torch(name: str, package: str) -> None:  # noqa: ARG001
    raise ModuleNotFoundError("No module named 'torch'", name="torch")


def test_a_stopped_run_says_how_to_go_on(quick_bench, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = runs.measure

    def stop_at_the_second(workload: Workload, *arguments, **options):
        if workload.name == "full":
            raise KeyboardInterrupt
        return measured(workload, *arguments, **options)

    monkeypatch.setattr(runs, "measure", stop_at_the_second)
    result = quick_bench("--workloads", "small,full", "--out", "run.json")
    assert result.exit_code == 130
    assert "stopped; the same command with --resume run.json continues" in result.stderr
    assert list(json.loads(Path("run.json").read_text(encoding="utf-8"))["workloads"]) == ["small"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quick", "--sweep"], "exclude each other"),
        (["--quick", "--gpu"], "exclude each other"),
        (["--shapes", "3", "--workloads", "W1"], "the last two --workloads"),
        (["--out", "a.json", "--resume", "b.json"], "leave out --out"),
        (["--workloads", "W9"], "unknown workload 'W9'"),
        (["--contestants", "pytorch"], "unknown contestant 'pytorch' (did you mean 'torch'"),
        (["--resume", "none.json"], "cannot read none.json"),
        (["--threads", "9999"], "threads must be in"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(bench, options, message: str) -> None:
    result = bench(*options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_each_kind_of_run_has_its_contestants_and_workloads() -> None:
    common = {"workloads": None, "contestants": None, "epochs": 7}
    assert "torch-compile" in plan_run(**common).contestants
    assert "torch-compile" not in plan_run(**common, quick=True).contestants
    assert "torch-compile" not in plan_run(**common, shapes=5).contestants
    assert plan_run(**{**common, "contestants": ["torch-compile"]}, sweep=True).contestants == ("torch-compile",)
    assert [workload.name for workload in plan_run(**common, shapes=2, seed=3).workloads] == ["S3-0", "S3-1"]
    assert [workload.name for workload in plan_run(**common).workloads] == list(WORKLOADS)
    on_gpu = plan_run(**{**common, "epochs": None}, gpu=True)
    assert on_gpu.contestants == gpu_contestant_names()
    assert {workload.name: workload.epochs for workload in on_gpu.workloads} == GPU_EPOCHS
    assert [on_gpu.turns, plan_run(**{**common, "epochs": None}).turns] == [5, 7]
    with pytest.raises(ConfigError, match="unknown workload"):
        plan_run(**{**common, "workloads": ["w1"]})


def test_the_help_lists_the_command() -> None:
    assert "bench" in CliRunner().invoke(xpnn, ["--help"]).output
    assert "xpnn bench --quick" in CliRunner().invoke(xpnn, ["bench", "--help"]).output.partition("\nExamples")[2]
    assert "Did you mean 'bench'?" in CliRunner().invoke(xpnn, ["bnch"]).output

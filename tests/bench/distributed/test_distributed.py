"""What tells when many machines pay: the model, the fits, the report, and the times that they are made from."""

import json
import math
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from xpnn import nn
from xpnn.backends import ConfigError, DataError, reduction
from xpnn.bench import agreement
from xpnn.bench.distributed import measure
from xpnn.bench.distributed.__main__ import _turn_of_each, distributed
from xpnn.bench.distributed.model import Forecast, Link, Work, best, fit_link, fit_work, forecast, parse_link, table
from xpnn.bench.distributed.report import Case, main, read

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "bench" / "distributed" / "namespaces.sh"
PAGE = ROOT / "docs" / "howto" / "many-machines.md"

# The model


def test_a_sum_has_two_messages_for_each_doubling_and_sends_nearly_everything_twice():
    link = Link(latency=1e-3, bandwidth=1e6)
    assert link.sum_seconds(8000, 1) == 0
    assert link.sum_seconds(8000, 2) == pytest.approx(2e-3 + 8e-3)
    assert link.sum_seconds(8000, 8) == pytest.approx(6e-3 + 14e-3)


def test_a_gather_brings_the_buffers_of_all_others():
    link = Link(latency=1e-3, bandwidth=1e6)
    assert link.gather_seconds(8000, 1) == 0
    assert link.gather_seconds(8000, 2) == pytest.approx(1e-3 + 8e-3)
    assert link.gather_seconds(8000, 8) == pytest.approx(3e-3 + 56e-3)


def test_a_step_is_the_work_on_a_part_of_the_rows_and_a_sum():
    alone, rank, link = Work(1.0, 0.1), Work(2.0, 0.2, 0.5), Link(0.25, 100.0)
    one, two, four = forecast(alone, rank, link, batch_size=40, size=100, ranks=(1, 2, 4))
    assert one == pytest.approx((1, 5.0, 0.0, 1.0))
    assert two == pytest.approx((2, 6.5, 1.5, 5.0 / 8.0))
    assert four == pytest.approx((4, 5.5, 2.5, 5.0 / 8.0))
    (exchanged,) = forecast(alone, rank, link, batch_size=40, size=100, ranks=[4], reproducible=True)
    assert exchanged.exchange == pytest.approx(0.5 + 3.0)


def test_ranks_that_share_a_core_wait_for_each_other():
    work, link = Work(1.0, 0.1), Link(0.0, 1.0)
    found = forecast(work, work, link, batch_size=40, size=1, ranks=(1, 4), sharing=2)
    assert [each.compute for each in found] == pytest.approx([5.0, 4.0])


def test_the_fewest_ranks_are_best_that_are_nearly_the_fastest():
    found = [Forecast(1, 10.0, 0, 1), Forecast(2, 5.0, 0, 2), Forecast(4, 4.8, 0, 2.1), Forecast(8, 9.0, 0, 1.1)]
    assert best(found).ranks == 2
    assert best(found[:1]).ranks == 1


def test_a_small_network_does_not_pay_and_large_batches_of_a_large_one_do():
    link = parse_link("1 Gbit/s, 100 us")
    small, large = measure.NETWORKS["mnist-98"], measure.NETWORKS["1024x2"]
    work = Work(0.6e-3, 10e-6)
    found = forecast(work, work, link, batch_size=128, size=4 * small.parameters)
    assert best(found).ranks == 1
    assert all(each.speed_up < 0.5 for each in found[1:])
    work = Work(10e-3, 100e-6)
    found = forecast(work, work, link, batch_size=8192, size=4 * large.parameters)
    assert found[-1].speed_up > 4


@pytest.mark.parametrize("value", [{"batch_size": 0}, {"size": 0}, {"ranks": [1, 0]}])
def test_a_forecast_of_nothing_is_refused(value):
    work = Work(1.0, 1.0)
    with pytest.raises(ConfigError, match="at least 1"):
        forecast(work, work, Link(1.0, 1.0), **{"batch_size": 1, "size": 1, **value})


def test_the_fits_find_what_the_times_were_made_from():
    work = Work(0.5, 0.01, 0.25)
    rows, ranks = [100, 50, 25, 400], [1, 2, 4, 1]
    seconds = [work.seconds(*each) for each in zip(rows, ranks, strict=True)]
    found = fit_work(rows, ranks, seconds)
    assert (found.fixed, found.per_row, found.per_rank) == pytest.approx((0.5, 0.01, 0.25))
    found = fit_work([10, 20], [2, 2], [0.6, 0.7])
    assert (found.fixed, found.per_row, found.per_rank) == pytest.approx((0.5, 0.01, 0))
    link, sizes = Link(1e-4, 1e8), [4096, 65536, 1 << 20, 1 << 24]
    for gather, seconds_of in ((False, link.sum_seconds), (True, link.gather_seconds)):
        fitted = fit_link(sizes, [seconds_of(size, 2) for size in sizes], gather=gather)
        assert (fitted.latency, fitted.bandwidth) == pytest.approx((1e-4, 1e8))


def test_no_term_of_a_fit_is_negative():
    found = fit_work([10, 20, 30], [1, 1, 1], [3.0, 2.0, 1.0])
    assert found.fixed > 0
    assert found.per_row == 0
    assert fit_link([10, 20], [2.0, 1.0]).bandwidth == math.inf


def test_a_fit_needs_as_many_times_as_unknowns():
    with pytest.raises(ConfigError, match="2 unknowns"):
        fit_work([10], [1], [1.0])


@pytest.mark.parametrize(
    ("text", "latency", "bandwidth"),
    [("1 Gbit/s, 100 us", 1e-4, 1.25e8), ("100Mbit/s 1ms", 1e-3, 1.25e7), ("2.5 GBIT/S / 0.5 s", 0.5, 3.125e8)],
)
def test_a_link_is_read_from_words(text, latency, bandwidth):
    link = parse_link(text)
    assert (link.latency, link.bandwidth) == pytest.approx((latency, bandwidth))


@pytest.mark.parametrize(
    "text", ["", "1 Gbit/s", "100 us, 1 Gbit/s", "1 GB/s, 1 us", "0 Gbit/s, 1 us", "1.2.3 bit/s, 1 s"]
)
def test_other_words_are_no_link(text):
    with pytest.raises(ConfigError, match="link"):
        parse_link(text)


def test_the_table_is_markdown():
    lines = table([Forecast(2, 1.5e-3, 0.25e-3, 1.234)]).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert lines[2] == "| 2 | 1.5 | 0.25 | 1.75 | 1.23 |"


# The program


def run(*arguments):
    return CliRunner().invoke(distributed, [str(each) for each in arguments])


def test_the_model_is_asked_on_the_command_line():
    options = ("model", "--fixed-ms", 1, "--row-us", 10, "--link", "1 Gbit/s, 100 us", "--ranks", "1,2")
    result = run(*options, "--parameters", 250_000, "--batch-size", 100)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[2:] == ["| 1 | 2 | 0 | 2 | 1.00 |", "| 2 | 1.5 | 8.2 | 9.7 | 0.21 |"]
    several = run(*options, "--parameters", 250_000, "--batch-size", 100, "--accumulate", 10, "--double")
    assert several.stdout.splitlines()[3] == "| 2 | 6 | 16.2 | 22.2 | 0.50 |"
    named = run(*options, "--network", "mnist-98")
    assert named.stdout.splitlines()[2].startswith("| 1 | 2.28 |")


def test_the_model_needs_a_network_and_whole_ranks():
    options = ("model", "--fixed-ms", 1, "--row-us", 10, "--link", "1 Gbit/s, 100 us")
    assert "needs --network" in run(*options).output
    result = run(*options, "--network", "mnist-98", "--ranks", "1,two")
    assert result.exit_code == 2
    assert "whole numbers" in result.output


def test_work_is_appended_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "TURN_SECONDS", 0.0)
    out = tmp_path / "measured.jsonl"
    result = run("work", "--network", "quickstart", "--turns", 1, "--rows", "4,8", "--ranks", "1,2", "--out", out)
    assert result.exit_code == 0, result.output
    (record,) = map(json.loads, out.read_text().splitlines())
    cases = [(point["way"], point["rows"], point["ranks"]) for point in record["points"]]
    assert cases == [
        ("alone", 4, 1), ("sum", 4, 2), ("alone", 8, 1), ("sum", 8, 2),
        ("gather", 32, 1), ("gather", 16, 2), ("gather", 256, 1), ("gather", 128, 2),
    ]  # fmt: skip
    assert all(0 < point["least"] <= point["median"] for point in record["points"])
    assert (record["what"], record["network"], record["backend"]) == ("work", "quickstart", "numpy")
    assert record["versions"]["numpy"] == np.__version__
    read(out).work("quickstart", "numpy", "sum")


# The times


def test_a_silent_rank_takes_its_part_and_waits_for_nobody():
    silent = measure.Silent(4)
    gathered = silent.gather(np.arange(3.0))
    assert gathered.tolist() == [[0.0, 1.0, 2.0]] * 4
    gathered += 1.0  # it is the rank's own
    rows = measure.Steps(measure.NETWORKS["quickstart"], "numpy", 32, silent).plan.run(np.arange(64))
    assert rows.rows == 64


def test_sums_and_gathers_are_timed_of_each_size(monkeypatch):
    monkeypatch.setattr(measure, "SUM_SECONDS", 0.0)
    found = measure.sums(measure.Silent(2), [4096, 8192], 3)
    cases = [(each["way"], each["bytes"], each["turns"]) for each in found]
    assert cases == [("sum", 4096, 3), ("sum", 8192, 3), ("gather", 4096, 3), ("gather", 8192, 3)]
    assert all(0 < each["least"] <= each["median"] for each in found)


def test_functions_take_turns():
    called = []
    takes = [lambda name=name: called.append(name) or float(len(called)) for name in "ab"]
    first, second = measure.in_turns(takes, 3)
    assert called == list("ababab")
    assert first == (3.0, 1.0, 3)
    assert second == (4.0, 2.0, 3)


def test_each_turn_begins_with_the_other_worker(monkeypatch):
    called, seconds = [], {"a": 1.0, "b": 2.0}
    monkeypatch.setattr(
        "xpnn.bench.distributed.__main__._turn_of", lambda worker: called.append(worker) or seconds[worker]
    )
    assert [_turn_of_each("ab", turn) for turn in range(3)] == [[1.0, 2.0]] * 3
    assert called == list("abbaab")


def test_training_is_timed_without_its_first_epoch(monkeypatch):
    def train(_net, rows, *, epochs, batch_size, communicator, reproducible):
        assert (len(rows), epochs, batch_size, communicator, reproducible) == (80, 4, 8, None, True)
        return [nn.EpochResult(1, 0.0, 0.0, None, None, seconds) for seconds in (100.0, 10.0, 30.0, 20.0)]

    monkeypatch.setattr(measure.nn, "train", train)
    network = measure.NETWORKS["quickstart"]
    assert measure.training(network, "numpy", 8, None, reproducible=True, turns=3, steps=10) == (2.0, 1.0, 3)


def test_overlap_leaves_the_constant_as_it_was(monkeypatch):
    monkeypatch.setattr(measure, "TURN_SECONDS", 0.0)
    before, silent, begun = reduction.LEAST_BYTES, measure.Silent(2), []
    silent.overlaps = False  # as where no rank has a core to spare; sums begin early all the same
    monkeypatch.setattr(silent, "start_sum", lambda array: begun.append(array.nbytes) or (lambda: None))
    found = measure.overlaps(measure.NETWORKS["quickstart"], "numpy", 8, silent, [1], 1)
    assert [each["least_bytes"] for each in found] == [None, 1]
    assert begun
    assert before == reduction.LEAST_BYTES
    assert not silent.overlaps


# The report


def record(what, points=(), **figures):
    hardware = {"processor": "A processor", "cores": 2, "system": "Linux"}
    common = {"date": "2026-11-22T00:00:00+00:00", "hardware": hardware, "versions": {"numpy": "2.4"}}
    points = [{"median": 2 * point["least"], "turns": 3, **point} for point in points]
    return {"what": what, **figures, **common, **({"points": points} if points else {})}


@pytest.fixture
def measured(tmp_path):
    """A file of measurements that obey the model."""
    alone, rank, shards, link = Work(1e-3, 1e-5), Work(2e-3, 1e-5), Work(3e-3, 2e-5, 1e-3), Link(1e-4, 1e8)
    points = [{"way": "alone", "rows": n, "ranks": 1, "least": alone.seconds(n)} for n in (8, 64, 512)]
    points += [{"way": "sum", "rows": n, "ranks": 2, "least": rank.seconds(n)} for n in (8, 64, 512)]
    points += [
        {"way": "gather", "rows": 128 // n, "ranks": n, "batch_size": 128, "least": shards.seconds(128 // n, n)}
        for n in (1, 2, 4)
    ]
    sizes = (4096, 1 << 20)
    sums = [{"way": "sum", "bytes": size, "least": link.sum_seconds(size, 2)} for size in sizes]
    sums += [{"way": "gather", "bytes": size, "least": link.gather_seconds(size, 2)} for size in sizes]
    size = 4 * measure.NETWORKS["mnist-98"].parameters
    case = {"network": "mnist-98", "backend": "numpy", "batch_size": 128, "median": 1.0, "turns": 3}
    trained = {"setting": "a link", "ranks": 2, "reproducible": False}
    alone_trained = {"setting": "shared memory", "ranks": 1, "reproducible": False, "least": alone.seconds(128)}
    early = [{"least_bytes": None, "least": 1.0}, *({"least_bytes": k, "least": 0.9} for k in (1, 2, 3))]
    turns = {"turns": 15, "median_without": 1e-3, "median_under": 1.01e-3, "overhead": 0.01}
    records = [
        record("work", points, network="mnist-98", backend="numpy"),
        record("sums", sums, setting="shared memory", ranks=2),
        record("sums", sums, setting="a link", ranks=2),
        record("train", **case, **alone_trained),
        record("train", **case, **trained, least=2 * (rank.seconds(64) + link.sum_seconds(size, 2))),
        record("overlap", early, network="2048x2", backend="numpy", batch_size=128, setting="a link", ranks=2),
        record("overhead", **case | turns, overhead_of_least=0.02, quartiles_of_turns=[-0.01, 0.03]),
    ]
    records[-1]["hardware"]["cores"] = 1  # a process that was bound to one of them
    path = tmp_path / "measured.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def test_the_report_fits_the_model_to_the_times(measured):
    found = read(measured)
    work = found.work("mnist-98", "numpy", "gather", 128)
    assert (work.fixed, work.per_row, work.per_rank) == pytest.approx((3e-3, 2e-5, 1e-3))
    case = Case("mnist-98", "numpy", 128, True, "a link", 4)
    (four,) = found.forecast(case, [4], cores=2)
    size = 4 * measure.NETWORKS["mnist-98"].parameters
    assert four.compute == pytest.approx(2 * work.seconds(32, 4))
    assert four.exchange == pytest.approx(2e-4 + 3 * size / 1e8)
    (alone,) = found.forecast(case._replace(reproducible=False), [1])
    assert alone.seconds == pytest.approx(1e-3 + 128e-5)


def test_the_page_says_what_was_measured_and_how_far_off_the_model_is(measured):
    result = CliRunner().invoke(main, [str(measured)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert any("A processor, 2 cores, Linux" in line and "numpy 2.4" in line for line in lines)
    assert "Errors of the model in percent: 1 rank: median 0, worst 0; 2 ranks: median 50, worst 50." in result.stdout
    (two,) = (line for line in lines if line.startswith("| mnist-98, numpy | 128 | a link | 2 |"))
    assert "| -50 |" in two
    assert "| 2048x2, numpy | 128 | a link | 2e+03 | -10 | -10 | -10 |" in lines
    assert "| mnist-98, numpy | 15 | 1 | 1.01 | +1.0 | +2.0 | -1.0 to +3.0 |" in lines


def test_a_file_without_what_is_asked_for_says_so(measured, tmp_path):
    with pytest.raises(DataError, match="no sums over a rope"):
        read(measured).link("a rope", "sum")
    with pytest.raises(DataError, match="no work of quickstart"):
        read(measured).work("quickstart", "numpy", "sum")
    (tmp_path / "no.jsonl").write_text("no\n")
    with pytest.raises(DataError, match=r"no\.jsonl cannot be read"):
        read(tmp_path / "no.jsonl")


# Many processes against one


@pytest.mark.parametrize(("dtype", "far", "expected"), [("float32", 2e-5, 1), ("float32", 5e-6, 0), ("float64", 1, 0)])
def test_the_page_explains_jumps_where_there_are_any(dtype, far, expected):
    case = agreement.Case("quickstart", "numpy", dtype, reproducible=False)
    names = [f"{case.key}/{step}/weights" for step in range(25, 101, 25)]
    of_sizes = {size: {name: np.full(2, far if size == 2 else 0.0) for name in names} for size in (0, 1, 2)}
    assert agreement.page([case], of_sizes, "a command").count("may be a ReLU") == expected


# The link


def test_packets_leave_and_come_one_after_the_other():
    link = pytest.importorskip("xpnn.bench.distributed.link", reason="there is no fcntl", exc_type=ImportError)
    wire = link.Wire(3, Link(latency=1.0, bandwidth=100.0))
    assert wire.arrival(10.0, 200, 0, 1) == pytest.approx(13.0)
    assert wire.arrival(10.0, 200, 0, 2) == pytest.approx(15.0)  # the first one must have left
    assert wire.arrival(10.0, 100, 2, 1) == pytest.approx(14.0)  # the first one must have come
    assert wire.arrival(10.0, 100, 1, 0) == pytest.approx(12.0)  # both ways at once
    assert wire.arrival(50.0, 100, 0, 1) == pytest.approx(52.0)


@pytest.mark.skipif(shutil.which("bash") is None or not SCRIPT.exists(), reason="bash or the clone is not there")
def test_the_script_of_the_namespaces_says_how_it_is_called():
    result = subprocess.run(["bash", str(SCRIPT), "2"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "usage: " in result.stderr


# The page


@pytest.mark.skipif(not PAGE.exists(), reason="the clone is not there")
def test_the_tables_of_the_page_are_what_its_commands_print():
    text = PAGE.read_text("utf-8")
    found = re.findall(r"^```sh\npython -m xpnn\.bench\.distributed (model .*)\n```\n\n((?:\|.*\n)+)", text, re.M)
    assert len(found) == 3
    for command, shown in found:
        result = run(*shlex.split(command))
        assert result.exit_code == 0, result.output
        assert result.stdout == shown

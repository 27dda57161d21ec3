"""When many machines pay: what steps and sums take here, and what a model makes of that for other numbers and links.

    python -m xpnn.bench.distributed work --network mnist-98                    # one process
    mpiexec -n 2 python -m xpnn.bench.distributed sums                          # what an addition takes
    mpiexec -n 2 python -m xpnn.bench.distributed train --network mnist-98      # whole steps
    mpiexec -n 2 python -m xpnn.bench.distributed overlap --network 2048x2      # sums that begin early, or not
    python -m xpnn.bench.distributed overhead                                   # one process under MPI, and without
    python -m xpnn.bench.distributed model --network mnist-98 --fixed-ms 0.5 --row-us 10 --link "1 Gbit/s, 100 us"

Each prints one line of JSON, or appends it to a file with `--out`; `python -m xpnn.bench.distributed.report` compares
such a file with the model. bench/distributed/namespaces.sh runs them over a link of a set latency and bandwidth.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ... import nn
from ...backends import ConfigError, MissingDependency, RunError
from ...backends.machine import hardware, version_of, versions
from ..program import Program
from . import measure
from .model import RANKS, Work, forecast, parse_link, table


@click.group()
@click.option("--real-time", is_flag=True, help="Let no other program run meanwhile; needs Linux, and root.")
def distributed(real_time: bool) -> None:
    """Time what ranks that train together do, and forecast it."""
    measure.IS_URGENT = real_time


network = click.option("--network", type=click.Choice(list(measure.NETWORKS)), default="mnist-98", show_default=True)
backend = click.option("--backend", default="numpy", show_default=True)
turns = click.option("--turns", type=click.IntRange(1), default=7, show_default=True)
setting = click.option("--setting", default="shared memory", show_default=True, help="What joins the ranks.")
out = click.option("--out", type=click.Path(path_type=Path), help="A file to append the line to.")
batch_size = click.option("--batch-size", type=click.IntRange(1), help="Rows of a step; the network's own by default.")


def _tell(what: str, figures: dict[str, Any], out: Path | None) -> None:
    """Print what was measured, when and on what."""
    record = {
        "what": what,
        **figures,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": {**versions(), **{name: version_of(name) for name in ("mpi4py", "mpich")}},
    }
    if out is None:
        click.echo(json.dumps(record))
    else:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _whole_numbers(text: str) -> list[int]:
    """Return the numbers of a list with commas."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"a list of whole numbers of at least 1 is like 1,2,4, got {text!r}")
    return numbers


@distributed.command(cls=Program)
@network
@backend
@turns
@out
@click.option("--rows", default="8,32,128,512,1024", show_default=True, help="Of the process in a step.")
@click.option("--ranks", default="1,2,4,8,16", show_default=True, help="Of reproducible mode.")
def work(network: str, backend: str, turns: int, out: Path | None, rows: str, ranks: str) -> None:
    """Time what one process computes in a step: alone, and as one of several whose others answer at once."""
    of = measure.NETWORKS[network]
    points = measure.work(of, backend, _whole_numbers(rows), _whole_numbers(ranks), turns)
    _tell("work", {"network": network, "backend": backend, "points": points}, out)


@distributed.command(cls=Program)
@setting
@turns
@out
@click.option(
    "--sizes", default="4096,16384,65536,262144,1048576,4194304,33554432", show_default=True, help="In bytes."
)
def sums(setting: str, turns: int, out: Path | None, sizes: str) -> None:
    """Time sums and gathers of buffers, on each rank of an MPI job."""
    world = nn.distributed.world()
    points = measure.sums(world, _whole_numbers(sizes), turns)
    if world.rank == 0:
        _tell("sums", {"setting": setting, "ranks": world.size, "points": points}, out)


@distributed.command(cls=Program)
@network
@backend
@batch_size
@setting
@turns
@out
@click.option("--reproducible", is_flag=True)
@click.option("--steps", type=click.IntRange(1), default=32, show_default=True, help="Of a turn.")
def train(
    network: str,
    backend: str,
    batch_size: int | None,
    setting: str,
    turns: int,
    out: Path | None,
    reproducible: bool,
    steps: int,
) -> None:
    """Time the steps of `nn.train`, on each rank of an MPI job."""
    world, of = nn.distributed.world(), measure.NETWORKS[network]
    rows = batch_size or of.batch_size
    times = measure.training(of, backend, rows, world, reproducible=reproducible, turns=turns, steps=steps)
    if world.rank == 0:
        case = {"network": network, "backend": backend, "batch_size": rows, "setting": setting, "ranks": world.size}
        _tell("train", {**case, "reproducible": reproducible, **times._asdict()}, out)


@distributed.command(cls=Program)
@network
@backend
@batch_size
@setting
@turns
@out
@click.option("--least", default="262144,1048576,4194304", show_default=True, help="Bytes of a sum that begins early.")
def overlap(
    network: str, backend: str, batch_size: int | None, setting: str, turns: int, out: Path | None, least: str
) -> None:
    """Time steps whose sums begin while earlier layers still go backward, in turns with such that wait."""
    world, of = nn.distributed.world(), measure.NETWORKS[network]
    rows = batch_size or of.batch_size
    points = measure.overlaps(of, backend, rows, world, _whole_numbers(least), turns)
    if world.rank == 0:
        case = {"network": network, "backend": backend, "batch_size": rows, "setting": setting, "ranks": world.size}
        _tell("overlap", {**case, "points": points}, out)


@distributed.command(cls=Program)
@network
@backend
@turns
@out
def overhead(network: str, backend: str, turns: int, out: Path | None) -> None:
    """Time `nn.train` as the only rank of an MPI job, in turns with a process without MPI."""
    mpiexec = shutil.which(
        "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if mpiexec is None:
        raise MissingDependency("there is no mpiexec: pip install mpich")
    urgent = ["--real-time"] if measure.IS_URGENT else []
    worker = [
        sys.executable,
        "-m",
        "xpnn.bench.distributed",
        *urgent,
        "turn-by-turn",
        "--network",
        network,
        "--backend",
        backend,
    ]
    commands = [worker, [mpiexec, "-n", "1", *worker, "--mpi"]]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in commands
    ]
    try:
        seconds = [_turn_of_each(workers, turn) for turn in range(turns + 1)][1:]  # the first one warms up
    finally:
        for process in workers:
            process.terminate()
            process.wait()
    without, under = zip(*seconds, strict=True)
    ratios = sorted(b / a for a, b in seconds)
    case = {
        "network": network, "backend": backend, "turns": turns, "without": without, "under": under,
        "median_without": statistics.median(without), "median_under": statistics.median(under),
        "overhead": statistics.median(under) / statistics.median(without) - 1,
        "overhead_of_least": min(under) / min(without) - 1,
        "quartiles_of_turns": [ratios[len(ratios) // 4] - 1, ratios[-1 - len(ratios) // 4] - 1],
    }  # fmt: skip
    _tell("overhead", case, out)


def _turn_of_each(workers: Sequence[subprocess.Popen[str]], turn: int) -> list[float]:
    """Let all workers train for a turn, and return what `_turn_of` says of each; odd turns begin with the last one."""
    numbers = range(len(workers))
    found = {number: _turn_of(workers[number]) for number in (numbers if turn % 2 == 0 else reversed(numbers))}
    return [found[number] for number in numbers]


def _turn_of(worker: subprocess.Popen[str]) -> float:
    """Let a worker train for a turn, and return the seconds of a step."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise RunError("a process that was to be timed has ended; what it said is above")
    return float(line)


@distributed.command(cls=Program, hidden=True)
@network
@backend
@click.option("--mpi", is_flag=True)
def turn_by_turn(network: str, backend: str, mpi: bool) -> None:
    """Print the seconds of a step for each line that comes in."""
    world, of = nn.distributed.world() if mpi else None, measure.NETWORKS[network]
    steps = max(8, 65536 // of.parameters)
    for _ in sys.stdin:
        times = measure.training(of, backend, of.batch_size, world, reproducible=False, turns=3, steps=steps)
        click.echo(str(times.least))
        sys.stdout.flush()


@distributed.command(cls=Program)
@click.option("--network", type=click.Choice(list(measure.NETWORKS)), help="Whose parameters and batch size to take.")
@click.option("--parameters", type=click.IntRange(1), help="Weights and biases, where it is another network.")
@batch_size
@click.option("--fixed-ms", type=click.FloatRange(0), required=True, help="Of a step, whatever its rows.")
@click.option("--row-us", type=click.FloatRange(0), required=True, help="Of each row of a step.")
@click.option("--link", required=True, help='Such as "1 Gbit/s, 100 us".')
@click.option("--ranks", default=",".join(map(str, RANKS)), show_default=True)
@click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Batches of one step.")
@click.option("--double", is_flag=True, help="Gradients are float64, not float32.")
@click.option("--reproducible", is_flag=True, help="Ranks exchange whole gradients.")
def model(
    network: str | None,
    parameters: int | None,
    batch_size: int | None,
    fixed_ms: float,
    row_us: float,
    link: str,
    ranks: str,
    accumulate: int,
    double: bool,
    reproducible: bool,
) -> None:
    """Forecast the step of a network on 1 to 64 ranks, from what one process takes.

    The time of a step on one process with few rows and with many gives --fixed-ms and --row-us.
    """
    if network is not None:
        parameters = parameters or measure.NETWORKS[network].parameters
        batch_size = batch_size or measure.NETWORKS[network].batch_size
    if parameters is None or batch_size is None:
        raise ConfigError("the model needs --network, or --parameters and --batch-size")
    own = Work(fixed_ms / 1e3, row_us / 1e6)
    found = forecast(
        own, own, parse_link(link), batch_size=batch_size * accumulate, size=parameters * (8 if double else 4),
        ranks=_whole_numbers(ranks), reproducible=reproducible,
    )  # fmt: skip
    click.echo(table(found))


if __name__ == "__main__":
    distributed()

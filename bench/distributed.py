"""Benchmark of distributed training: time per step, and of the communication alone.

    mpiexec -n 1 python -m xpnn.bench.distributed --batch-size 8192
    mpiexec -n 4 python -m xpnn.bench.distributed --batch-size 8192

The ratio of their step times is the speed-up. Communication is also timed alone: if it takes longer than a step of one
process, no number of machines pays off. Each turn is an epoch, after a warm-up.
"""

from __future__ import annotations

import json
import statistics
import time

import click
import numpy as np

from .. import nn
from ..backends import ConfigError
from ..backends.communicator import Communicator
from ..nn.cli.output import answer
from .compare.results_file import circumstances
from .program import Program

EXCHANGES = 10  # of a turn: a rank may leave the barrier before them late


def parsed(sizes: str) -> list[int]:
    """Parse layer sizes, as in "784-256-10".

    Raises:
        ConfigError: they are malformed.
    """
    parts = sizes.split("-")
    if len(parts) < 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"sizes must be features, hidden units and classes like 784-256-10, got {sizes!r:.80}")
    return [int(part) for part in parts]


def step_seconds(
    net: nn.MLP, communicator: Communicator, *, batch_size: int, reproducible: bool, steps: int, turns: int
) -> list[float]:
    """Return the seconds per step of `nn.train` in each turn, on random rows."""
    generator, (features, *_, classes) = np.random.default_rng(0), net.sizes
    images = generator.integers(256, size=(steps * batch_size, features), dtype=np.uint8)
    rows = nn.Split(images, generator.integers(classes, size=len(images)))
    history = nn.train(
        net, rows, epochs=turns + 1, batch_size=batch_size, communicator=communicator, reproducible=reproducible
    )
    return [result.seconds / steps for result in history[1:]]


def exchange_seconds(net: nn.MLP, communicator: Communicator, *, reproducible: bool, turns: int) -> list[float]:
    """Return the seconds of the all-reduce of gradients, or of the all-gather for a sum in a fixed order."""
    flat = np.concatenate([array.ravel() for array in net.parameters().values()])
    exchange = communicator.gather if reproducible else communicator.sum
    seconds = []
    for _ in range(turns + 1):
        communicator.barrier()
        started = time.perf_counter()
        for _ in range(EXCHANGES):
            exchange(np.zeros_like(flat))
        seconds.append((time.perf_counter() - started) / EXCHANGES)
    return seconds[1:]


@click.command(cls=Program)
@click.option("--sizes", default="784-256-10", show_default=True, help="Features, hidden units, classes.")
@click.option("--backend", default="numpy", show_default=True, metavar="NAME")
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True, help="Of all processes together.")
@click.option("--reproducible", is_flag=True, help="The same bits on any number of processes.")
@click.option("--steps", type=click.IntRange(1), default=16, show_default=True, help="Of a turn.")
@click.option("--turns", type=click.IntRange(1), default=7, show_default=True)
def main(sizes: str, backend: str, batch_size: int, reproducible: bool, steps: int, turns: int) -> None:
    """Time the steps of distributed training under mpiexec; print one line of JSON."""
    world = nn.distributed.world()
    net = nn.MLP(parsed(sizes), backend=backend, seed=0)
    exchange = exchange_seconds(net, world, reproducible=reproducible, turns=turns)
    step = step_seconds(net, world, batch_size=batch_size, reproducible=reproducible, steps=steps, turns=turns)
    if world.rank == 0:
        figures = {
            "sizes": sizes, "backend": backend, "batch_size": batch_size, "reproducible": reproducible,
            "ranks": world.size, "turns": turns,
            **{f"{name}_ms": round(1e3 * statistics.median(each), 4) for name, each in (
                ("step", step), ("exchange", exchange),
            )},
            **circumstances("python -m xpnn.bench.distributed"),
        }  # fmt: skip
        answer(json.dumps(figures))


if __name__ == "__main__":
    main()

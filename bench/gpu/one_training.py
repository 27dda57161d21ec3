"""Training of one contestant in this process, for profilers: `python -m xpnn.bench.gpu.one_training`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import click
import numpy as np

from ...backends import look_up
from ...backends.cupy.start import start_cupy
from ...backends.machine import usable_cores
from ...nn.cli.output import answer, note
from ..compare.contestant import draw_orders, task_of
from ..compare.data import load_data
from ..compare.worker import Stage
from ..compare.workloads import GPU_EPOCHS, WORKLOADS, Workload
from ..program import Program

PIXEL_DENSITY = 0.19  # of drawn images: MNIST's


def train(
    workload: Workload,
    *,
    contestant: str,
    mnist: str | None,
    turns: int,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, Any]:
    """Time turns of E and 2 E epochs, after a warm-up turn of each.

    The difference is the time of E epochs, the workload's, without the overhead of a turn, which gives the time per
    step however the plan queues its steps. `around` makes a context manager for the timed turns of each length.
    Progress and plan are printed to stderr.

    Returns:
        Seconds of all turns, per epoch, per step and of the overhead of a turn, the first loss, and the plan's
        description.
    """
    note(f"loading the data: {workload.summary}")
    data = load_data(workload, mnist)
    twice = replace(workload, epochs=2 * workload.epochs)
    figures: dict[str, Any] = {"workload": workload.summary, "contestant": contestant, "epochs": workload.epochs}
    medians: dict[int, float] = {}
    for each in (workload, twice):
        note(f"starting {contestant} and compiling, for turns of {each.epochs} epochs")
        stage, generator = Stage(), np.random.default_rng(0)
        stage.start(contestant)
        stage.load(data)
        task = task_of(each, data, threads=usable_cores())
        figures |= stage.prepare(task)
        note(f"compiled in {figures['compile_seconds']:.2f} s: {figures['plan'] or contestant}")
        note(f"a turn to warm up, and {turns} that are timed")
        first = stage.run_epochs(draw_orders(each, data, generator))
        with around():
            timed = [stage.run_epochs(draw_orders(each, data, generator))["seconds"] for _ in range(turns)]
        figures |= {f"seconds_of_{each.epochs}_epochs": [first["seconds"], *timed], "loss": first["loss"]}
        medians[each.epochs] = statistics.median(timed)
    epoch = (medians[twice.epochs] - medians[workload.epochs]) / workload.epochs
    steps = -(-len(data.train) // task.batch_size)
    ends = medians[workload.epochs] - workload.epochs * epoch
    return {**figures, "seconds_per_epoch": epoch, "seconds_per_step": epoch / steps, "seconds_of_ends": ends}


@contextmanager
def profiled() -> Iterator[None]:
    """Context manager: record with an attached CUDA profiler."""
    runtime = start_cupy().cuda.runtime
    runtime.profilerStart()
    try:
        yield
    finally:
        runtime.profilerStop()


@click.command(cls=Program)
@click.argument("name", metavar="WORKLOAD")
@click.option("--contestant", default="cupy", show_default=True, metavar="NAME", help="A backend or a peer.")
@click.option("--data", "mnist", metavar="SOURCE", help="Where MNIST is, as for `xpnn train`.")
@click.option("--drawn", is_flag=True, help="Draw the images instead.")
@click.option("--rows", type=click.IntRange(min=1), help="Number of training rows to use.")
@click.option("--epochs", type=click.IntRange(min=1), help="Of a turn; what `xpnn bench --gpu` takes by default.")
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True, help="Timed turns of each length.")
@click.option("--profile", is_flag=True, help="Tell a CUDA profiler where the timed turns begin and end.")
@click.option("--no-pool", is_flag=True, help="CuPy allocates each array by itself, so that a sanitizer sees its ends.")
def main(
    name: str, *, drawn: bool, rows: int | None, epochs: int | None, profile: bool, no_pool: bool, **how: Any
) -> None:
    """Train WORKLOAD (W1, W2, ...) and print one JSON object of seconds."""
    if no_pool:
        start_cupy().cuda.set_allocator(None)
    workload = look_up("workload", name, WORKLOADS)
    workload = replace(workload, rows=rows, epochs=epochs or GPU_EPOCHS.get(name, 1))
    if drawn:
        workload = replace(workload, data="pixels", density=PIXEL_DENSITY)
    around = profiled if profile else nullcontext
    answer(json.dumps(train(workload, around=around, **how)))


if __name__ == "__main__":
    main()

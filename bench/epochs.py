"""Epoch times of the backends against a plain NumPy script, in turns in one process: `python -m xpnn.bench.epochs`.

Every contestant has the same starting weights and the same order of rows; compiling and copying the data are outside
the clock, and so is evaluation. The table gives medians, and ratios of medians to the script's.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..backends import NO_ROWS, ConfigError, TrainingJob, available_backends, get_backend, look_up
from ..backends.machine import hardware, versions
from ..nn import MLP, Dataset, load_dataset
from .plain_numpy import PlainNumPy
from .workloads import WORKLOADS, Workload

Epoch = Callable[[Any], float]  # order of rows or None -> mean loss
LOSS_TOLERANCE = 1e-3  # contestants whose first epoch's losses differ by more do not do the same work


def contestants(workload: Workload, data: Dataset, backends: list[str]) -> dict[str, Epoch]:
    """Return the epoch functions of the plain script and of each backend, all at the same start."""
    images, labels = data.train.images, data.train.labels
    batch_size = workload.batch_size or len(labels)
    start = list(MLP(workload.sizes, backend="numpy").parameters().values())
    scaled = images.astype(np.float32) * np.float32(data.scale)  # (samples, features)
    script = PlainNumPy(start, scaled, labels, workload.optimizer, batch_size)
    epochs: dict[str, Epoch] = {"script": script.run_epoch}
    for name in backends:
        net = MLP(workload.sizes, backend=name)
        rows = net.backend.place(images, labels, data.scale)
        plan = net.backend.compile(TrainingJob(net.layers, workload.optimizer, rows, batch_size))
        epochs[name] = lambda order, plan=plan: plan.run(order, NO_ROWS).loss  # type: ignore[misc]
    return epochs


def time_workload(workload: Workload, data: Dataset, backends: list[str], epochs: int) -> dict[str, list[float]]:
    """Return seconds of each epoch after the first, by contestant, who take turns epoch by epoch.

    Raises:
        ConfigError: the contestants' losses differ: they do not do the same work.
    """
    generator = np.random.default_rng(0)
    runners = contestants(workload, data, backends)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for epoch in range(epochs + 1):
        order = None if workload.batch_size is None else generator.permutation(len(data.train))
        losses = {}
        for name, run in runners.items():
            started = time.perf_counter()
            losses[name] = run(order)
            seconds[name].append(time.perf_counter() - started)
        if epoch == 0 and max(losses.values()) - min(losses.values()) > LOSS_TOLERANCE:
            raise ConfigError(f"the losses of {workload.name} differ: {losses}")
    return {name: times[1:] for name, times in seconds.items()}  # the first epoch compiles and warms up


@click.command()
@click.option("--data", default="mnist", show_default=True, metavar="SOURCE", help="As for `xpnn train`.")
@click.option("--backends", default=None, metavar="NAMES", help="Those that work here by default.")
@click.option("--workloads", default=",".join(WORKLOADS), show_default=True, metavar="NAMES")
@click.option("--epochs", type=click.IntRange(min=1), default=7, show_default=True, help="Timed epochs of each.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(data: str, backends: str | None, workloads: str, epochs: int, out: Path | None) -> None:
    """Time an epoch of each workload on each backend and on a plain NumPy script."""
    names = backends.split(",") if backends else [n for n in available_backends() if n != "array-api-strict"]
    names = [get_backend(name).name for name in names]
    dataset = load_dataset(data)
    results: dict[str, dict[str, list[float]]] = {}
    click.echo(f"{'':5}{'script':>12}" + "".join(f"{name:>20}" for name in names))
    for name in workloads.split(","):
        results[name] = time_workload(look_up("workload", name, WORKLOADS), dataset, names, epochs)
        medians = {contestant: 1e3 * statistics.median(times) for contestant, times in results[name].items()}
        cells = "".join(f"{medians[n]:>10.1f} ms ({medians[n] / medians['script']:.2f})" for n in names)
        click.echo(f"{name:5}{medians['script']:>9.1f} ms{cells}")
    if out is not None:
        report = {"date": date.today().isoformat(), "hardware": hardware(), "versions": versions(), "seconds": results}
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Kinds of benchmark runs, and their execution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...backends import ConfigError, RunError, look_up
from .contestants import all_contestants, contestant_names, gpu_contestant_names
from .data import load_data
from .measure import measure
from .results_file import Results
from .workers import started
from .workloads import GPU_EPOCHS, WORKLOADS, Workload, random_workloads, sweep_workloads

QUICK_WORKLOADS, QUICK_ROWS, QUICK_TURNS = ("W1", "W3", "W5", "predict"), 12_000, 3
TURNS, GPU_TURNS = 7, 5  # that are timed unless another number is asked for
SLOW_TO_COMPILE = {"torch-compile"}  # seconds for every shape: left out of quick and wide runs unless it is named
SWEEP_SECONDS, SHAPE_SECONDS = 10.0, 25.0  # after which a workload is given no further turns

Listener = Callable[[str, str, float], None]  # workload, what is done next, share of all that is done


@dataclass(frozen=True)
class Run:
    """Plan of a benchmark run.

    Attributes:
        kind: "workloads", "quick", "gpu", "sweep" or "shapes".
        workloads: workloads in order.
        contestants: names of contestants in order.
        turns: timed turns of each; a workload defines the epochs per turn.
        limit_seconds: time limit of a workload.
        seed: seed of the random shapes.
    """

    kind: str
    workloads: tuple[Workload, ...]
    contestants: tuple[str, ...]
    turns: int
    limit_seconds: float = math.inf
    seed: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """Options that must be equal when a run is resumed."""
        return {"kind": self.kind, "epochs": self.turns, "seed": self.seed, "contestants": list(self.contestants)}


def plan_run(
    *,
    workloads: Sequence[str] | None,
    contestants: Sequence[str] | None,
    epochs: int | None = None,
    quick: bool = False,
    gpu: bool = False,
    sweep: bool = False,
    shapes: int | None = None,
    seed: int = 0,
) -> Run:
    """Return the run that the options of `xpnn bench` ask for; None stands for the default of its kind.

    Raises:
        ConfigError: there is no such workload or contestant, or the options exclude each other.
    """
    if quick + gpu + sweep + bool(shapes) > 1 or (workloads and (sweep or shapes)):
        raise ConfigError("--quick, --gpu, --sweep and --shapes exclude each other, and the last two --workloads")
    table = all_contestants()
    in_time = (name for name in contestant_names() if name not in SLOW_TO_COMPILE or not (quick or sweep or shapes))
    everybody = gpu_contestant_names() if gpu else tuple(in_time)
    names = everybody if contestants is None else tuple(contestants)
    for name in names:
        look_up("contestant", name, table)
    turns = epochs or (GPU_TURNS if gpu else TURNS)
    if sweep:
        return Run("sweep", tuple(sweep_workloads()), names, turns, SWEEP_SECONDS)
    if shapes:
        return Run("shapes", tuple(random_workloads(shapes, seed=seed)), names, turns, SHAPE_SECONDS, seed)
    chosen = workloads or (QUICK_WORKLOADS if quick else tuple(GPU_EPOCHS if gpu else WORKLOADS))
    rows = [look_up("workload", name, WORKLOADS) for name in chosen]
    if quick:
        return Run("quick", tuple(replace(each, rows=QUICK_ROWS) for each in rows), names, QUICK_TURNS)
    if gpu:
        return Run("gpu", tuple(replace(each, epochs=GPU_EPOCHS.get(each.name, 1)) for each in rows), names, turns)
    return Run("workloads", tuple(rows), names, turns)


def carry_out(
    run: Run, results: Results, mnist: str | None, *, on_step: Listener, on_workload: Callable[[str], None]
) -> None:
    """Measure every workload missing from the results, and add it; then `on_workload` is called with its name.

    Raises:
        RunError: no contestant is available.
    """
    open_workloads = [workload for workload in run.workloads if workload.name not in results.done]
    if not open_workloads:
        return
    on_step(open_workloads[0].name, "starting", 0.0)
    with started(run.contestants, threads=results.content["threads"]) as (workers, missing):
        if not workers:
            raise RunError(f"no contestant can be had\n{reasons(missing)}")
        results.content["missing"] = missing
        results.content["thread_pools"] = {worker.name: worker.pools for worker in workers}
        results.content["load_seconds"] = {worker.name: worker.load_seconds for worker in workers}
        if run.kind != "gpu":
            results.content["product_rate"] = workers[0].ask("product_rate")
        for number, workload in enumerate(open_workloads):

            def progress(what: str, share: float, name: str = workload.name, number: int = number) -> None:
                on_step(name, what, (number + share) / len(open_workloads))

            progress("data", 0.0)
            data = load_data(workload, mnist)
            figures = measure(
                workload, data, workers, turns=run.turns, limit_seconds=run.limit_seconds, progress=progress
            )
            results.add(workload.to_json(), figures, train_rows=len(data.train), test_rows=len(data.test))
            on_workload(workload.name)


def reasons(missing: Mapping[str, str]) -> str:
    """Format the contestants in `missing` by their reason."""
    names: dict[str, list[str]] = {}  # by reason
    for name, reason in missing.items():
        names.setdefault(reason, []).append(name)
    return "\n".join(f"  {', '.join(each)}: {reason}" for reason, each in names.items())

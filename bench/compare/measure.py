"""Measurement of a workload: contestants take turns of one or more epochs, and their results are compared."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...nn import Dataset
from .contestant import draw_orders, task_of
from .workers import Worker, WorkerFailed
from .workloads import Workload

ACCURACY_TOLERANCE = 0.005  # of the test accuracy; who is further off is marked
LOSS_TOLERANCE = 1e-3  # relative, of the first epoch's loss; who is further off does not do the same work
LEAST_TURNS = 3  # that are timed even where the time is limited

Turn = Callable[[Worker, "Measurements"], None]
Progress = Callable[[str, float], None]  # what is done next, share of the workload that is done


@dataclass
class Measurements:
    """Measurements of a contestant at a workload; seconds are those of the turns after the first."""

    transfer_seconds: float = 0.0
    compile_seconds: float = 0.0  # before the first turn
    first_seconds: float = 0.0  # of the first turn
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of the first epoch of every turn
    test_accuracy: float = math.nan
    turn_accuracy: float | None = None  # of the test rows after the first turn, where a turn is several epochs
    compiles: bool = False
    plan: str = ""  # what a backend's plan says of itself
    failed: str | None = None  # why it takes no further turns

    def note(
        self, number: int | None, *, seconds: float, loss: float | None = None, accuracy: float = math.nan
    ) -> None:
        """Record turn `number`, of training with its loss or else of predictions; the time of None is not recorded."""
        if number == 0:
            self.first_seconds = seconds
        elif number is not None:
            self.seconds.append(seconds)
        if loss is None:
            self.test_accuracy = accuracy
        else:
            self.losses.append(loss)

    def to_json(self) -> dict[str, Any]:
        """Return the figures; the excess of the first turn over the median counts as compilation."""
        median = statistics.median(self.seconds)
        beyond = max(0.0, self.first_seconds - median) if self.compiles else 0.0
        figures = {
            "seconds": self.seconds,
            "median_seconds": median,
            "quartile_seconds": [float(q) for q in np.quantile(self.seconds, (0.25, 0.75))],
            "transfer_seconds": self.transfer_seconds,
            "compile_seconds": self.compile_seconds + beyond,
            "losses": self.losses,
            "test_accuracy": self.test_accuracy,
        }
        further = {"turn_accuracy": self.turn_accuracy, "plan": self.plan or None}
        return {**figures, **{name: value for name, value in further.items() if value is not None}}


def measure(
    workload: Workload,
    data: Dataset,
    workers: Sequence[Worker],
    *,
    turns: int,
    limit_seconds: float = math.inf,
    progress: Progress = lambda what, share: None,  # noqa: ARG005
) -> dict[str, dict[str, Any]]:
    """Time a workload on every contestant; return the figures of each, or `{"failed": reason}`.

    Each takes `turns` timed turns after a warm-up turn, but none after `limit_seconds` and `LEAST_TURNS` turns.
    `progress` is called before each step.
    """
    trial = _Trial(workload, data, workers, progress)
    trial.prepare()
    if workload.measure == "predict":
        trial.train(share=0.05)
    go_round = trial.train if workload.measure == "epoch" else trial.predict
    started = time.perf_counter()
    for number in range(turns + 1):
        if number > LEAST_TURNS and time.perf_counter() - started > limit_seconds:
            break
        share = 0.1 + 0.85 * number / (turns + 1)
        go_round(share=share, number=number)
        if number == 0 and workload.measure == "epoch" and workload.epochs > 1:
            trial.predict(share=share)
            for record in trial.records.values():
                record.turn_accuracy = record.test_accuracy
    if workload.measure == "epoch":
        trial.predict(share=0.95)
    return trial.results()


class _Trial:
    """A workload in progress."""

    def __init__(self, workload: Workload, data: Dataset, workers: Sequence[Worker], progress: Progress) -> None:
        self.workload, self.data, self.workers, self.progress = workload, data, workers, progress
        self.records = {worker.name: Measurements() for worker in workers}
        self.generator = np.random.default_rng(0)
        self.rounds = 0

    def prepare(self) -> None:
        """Send data and task to every contestant."""

        def turn(worker: Worker, record: Measurements) -> None:
            task = task_of(self.workload, self.data, threads=worker.threads)
            worker.load(self.data)
            vars(record).update(worker.ask("prepare", task))

        self._go_round(turn, share=0.0)

    def train(self, *, share: float, number: int | None = None) -> None:
        """Run a training turn of every contestant with the same orders; turn 0 warms up, None is not timed."""
        orders = draw_orders(self.workload, self.data, self.generator)
        self._go_round(lambda worker, record: record.note(number, **worker.ask("run_epochs", orders)), share=share)

    def predict(self, *, share: float, number: int | None = None) -> None:
        """Run predictions of every contestant; turn 0 warms up, None is not timed."""
        self._go_round(lambda worker, record: record.note(number, **worker.ask("predict")), share=share)

    def results(self) -> dict[str, dict[str, Any]]:
        """Return all figures, with a mark where results differ from the first successful contestant's."""
        first = next((name for name, record in self.records.items() if record.failed is None), "")
        return {
            name: {**record.to_json(), "mark": mark(record, self.records[first], first)}
            if record.failed is None
            else {"failed": record.failed}
            for name, record in self.records.items()
        }

    def _go_round(self, turn: Turn, *, share: float) -> None:
        """Run a round of turns of the contestants that have not failed, each round from another one on."""
        shift = self.rounds % max(len(self.workers), 1)
        for worker in (*self.workers[shift:], *self.workers[:shift]):
            record = self.records[worker.name]
            if record.failed is not None:
                continue
            self.progress(worker.name, share)
            try:
                turn(worker, record)
            except WorkerFailed as failure:
                record.failed = str(failure)
        self.rounds += 1


def mark(record: Measurements, reference: Measurements, name: str) -> str:
    """Describe how a contestant's results differ from the reference's; empty if they agree."""
    marks = []
    off = abs(record.test_accuracy - reference.test_accuracy)
    if off > ACCURACY_TOLERANCE or math.isnan(off):
        marks.append(f"its test accuracy is {100 * off:.2f} points off that of {name}")
    if record.losses and reference.losses:
        loss, expected = record.losses[0], reference.losses[0]
        alike = math.isnan(loss) if math.isnan(expected) else abs(loss - expected) <= LOSS_TOLERANCE * abs(expected)
        if not alike:
            marks.append(f"its first epoch's loss is {loss:.6g}, that of {name} is {expected:.6g}")
    return "; ".join(marks)

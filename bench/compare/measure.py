"""Measuring one workload: the contestants take turns, of an epoch or more, and what they did is compared."""

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

Turn = Callable[[Worker, "Record"], None]
Progress = Callable[[str, float], None]  # what is done next, share of the workload that is done


@dataclass
class Record:
    """What is known of one contestant at one workload; seconds are of the turns after the first."""

    transfer_seconds: float = 0.0
    ahead_seconds: float = 0.0  # of compiling before the first turn
    first_seconds: float = 0.0  # of the first turn
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of the first epoch of every turn
    test_accuracy: float = math.nan
    turn_accuracy: float | None = None  # of the test rows after the first turn, where a turn is several epochs
    compiles: bool = False
    plan: str = ""  # what a backend's plan says of itself

    def note(self, number: int | None, seconds: float) -> None:
        """Keep the time of turn `number`; of None it does not count."""
        if number == 0:
            self.first_seconds = seconds
        elif number is not None:
            self.seconds.append(seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the figures; of the first turn, what it took beyond the median counts as compiling."""
        median = statistics.median(self.seconds)
        beyond = max(0.0, self.first_seconds - median) if self.compiles else 0.0
        figures = {
            "seconds": self.seconds,
            "median_seconds": median,
            "quartile_seconds": [float(q) for q in np.quantile(self.seconds, (0.25, 0.75))],
            "transfer_seconds": self.transfer_seconds,
            "compile_seconds": self.ahead_seconds + beyond,
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
    """Time a workload on every contestant.

    Args:
        workload: what is to be done.
        data: its rows.
        workers: the contestants' processes.
        turns: timed turns of each, after one that warms up.
        limit_seconds: no further round of turns is begun after this time and `LEAST_TURNS` turns.
        progress: told before each step.

    Returns:
        For each contestant its figures, or `{"failed": reason}`.
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
            trial.keep_turn_accuracy()
    if workload.measure == "epoch":
        trial.predict(share=0.95)
    return trial.results()


class _Trial:
    """One workload under way."""

    def __init__(self, workload: Workload, data: Dataset, workers: Sequence[Worker], progress: Progress) -> None:
        self.workload, self.data, self.workers, self.progress = workload, data, workers, progress
        self.records = {worker.name: Record() for worker in workers}
        self.failures: dict[str, str] = {}
        self.generator = np.random.default_rng(0)
        self.rounds = 0

    def prepare(self) -> None:
        """Hand the data and the task to every contestant."""

        def turn(worker: Worker, record: Record) -> None:
            task = task_of(self.workload, self.data, threads=worker.threads)
            worker.load(self.data)
            took = worker.ask("prepare", task)
            record.transfer_seconds, record.ahead_seconds = took["transfer_seconds"], took["compile_seconds"]
            record.compiles, record.plan = worker.ask("compiles"), worker.ask("description")

        self._go_round(turn, share=0.0)

    def train(self, *, share: float, number: int | None = None) -> None:
        """Let each contestant train for a turn, all in the same orders; number 0 warms up, None is not timed."""
        orders = draw_orders(self.workload, self.data, self.generator)

        def turn(worker: Worker, record: Record) -> None:
            took = worker.ask("run_epochs", orders)
            record.losses.append(took["loss"])
            record.note(number, took["seconds"])

        self._go_round(turn, share=share)

    def predict(self, *, share: float, number: int | None = None) -> None:
        """Let each contestant classify the test rows; number 0 warms up, None is not timed."""

        def turn(worker: Worker, record: Record) -> None:
            took = worker.ask("predict")
            record.test_accuracy = took["accuracy"]
            record.note(number, took["seconds"])

        self._go_round(turn, share=share)

    def keep_turn_accuracy(self) -> None:
        """Keep what the last predictions gave as the accuracy after the first turn."""
        for record in self.records.values():
            record.turn_accuracy = record.test_accuracy

    def results(self) -> dict[str, dict[str, Any]]:
        """Return everybody's figures, with a mark where they are not those of the first contestant that ended."""
        ended = {name: record for name, record in self.records.items() if name not in self.failures}
        reference = next(iter(ended.items()), None)
        results: dict[str, dict[str, Any]] = {}
        for name, record in self.records.items():
            if name in self.failures or reference is None:
                results[name] = {"failed": self.failures.get(name, "")}
            else:
                results[name] = {**record.to_json(), "mark": mark(record, reference[1], reference[0])}
        return results

    def _go_round(self, turn: Turn, *, share: float) -> None:
        """Let each contestant that has not failed take a turn; each round begins with another one."""
        shift = self.rounds % max(len(self.workers), 1)
        for worker in (*self.workers[shift:], *self.workers[:shift]):
            if worker.name in self.failures:
                continue
            self.progress(worker.name, share)
            try:
                turn(worker, self.records[worker.name])
            except WorkerFailed as failure:
                self.failures[worker.name] = str(failure)
        self.rounds += 1


def mark(record: Record, reference: Record, name: str) -> str:
    """Return in what a contestant did not do the same work as the reference of that name; empty if it did."""
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

"""Progress display: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..training.history import EpochResult
from ..training.run import Callback, TrainingRun
from .output import note

WIDE = 100  # columns of a terminal with room for a long bar
LINES = 10  # lines of a whole run where there is no bar


def progress_callback(*, quiet: bool, environ: Mapping[str, str] = os.environ) -> Progress:
    """Return a progress callback: silent, a bar on a capable terminal, else lines on stderr."""
    if quiet:
        return Progress()
    moves = sys.stderr.isatty() and environ.get("TERM", "") not in ("dumb", "unknown")
    return ProgressBar() if moves else ProgressLines()


def _figures(loss: float, train: float | None, result: EpochResult | None) -> str:
    """Format loss and available accuracies."""
    text = f"loss {loss:.4f}"
    named = (
        ("train", train),
        ("validation", result and result.validation_accuracy),
        ("test", result and result.test_accuracy),
    )
    return text + "".join(f"  {name} {accuracy:.2%}" for name, accuracy in named if accuracy is not None)


def _epochs_done(run: TrainingRun) -> float:
    """Return the number of epochs done, including the fraction of the current one."""
    return run.epoch - 1 + (run.position / run.rows_per_epoch if run.rows_per_epoch else 0.0)


class Progress(Callback):
    """Silent progress and base class; a context manager around the training."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the terminal."""


class ProgressBar(Progress):
    """Progress bar on stderr: epoch, loss, accuracies, examples per second, remaining time."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=20 if console.width >= WIDE else 10),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )

    def on_train_begin(self, run: TrainingRun) -> None:
        """Show the bar, at the current position of a resumed run."""
        self._task = self._bar.add_task("", total=run.epochs, epoch=f"{run.epoch}/{run.epochs}", figures="")
        self._bar.update(self._task, completed=_epochs_done(run))
        self._bar.start()

    def on_chunk_end(self, run: TrainingRun) -> None:
        """Advance the bar."""
        totals, last = run.totals, run.history[-1] if run.history else None
        are_classes = last is None or last.train_accuracy is not None
        figures = _figures(totals.loss, totals.accuracy if are_classes else None, last)
        epoch = f"{run.epoch}/{run.epochs}"
        if run.seconds > 0:
            figures += self._rate(totals.rows / run.seconds, beside=f"epoch {epoch} {'':10} {figures} 00:00")
        self._bar.update(self._task, completed=_epochs_done(run), epoch=epoch, figures=figures)

    def _rate(self, rate: float, *, beside: str) -> str:
        """Format the examples per second for the width of the terminal."""
        room = self._bar.console.width - len(beside)
        return next(
            (text for text in (f"  {rate:,.0f} examples/s", f"  {rate / 1000:,.0f}k/s") if len(text) <= room), ""
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar; rich restores cursor, stdout and stderr."""
        self._bar.stop()


class ProgressLines(Progress):
    """Progress lines on stderr: the first epoch, about ten in between, and the last."""

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """Print the metrics of some epochs."""
        if result.epoch in (1, run.epochs) or result.epoch % max(1, run.epochs // LINES) == 0:
            figures = _figures(result.train_loss, result.train_accuracy, result)
            rate = f"  {run.rows_per_epoch / result.seconds:,.0f} examples/s" if run.rows_per_epoch else ""
            note(f"epoch {result.epoch}/{run.epochs}  {figures}{rate}")

"""What a training shows while it runs: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..callbacks import Callback
from ..history import EpochResult
from ..training_run import TrainingRun

LINES = 10  # lines of a whole run where there is no bar


def progress_callback(*, quiet: bool) -> Progress:
    """Return what shows the progress: nothing, a bar where stderr is a terminal, else lines on stderr."""
    if quiet:
        return Progress()
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()


class Progress(Callback):
    """Shows nothing; base of what shows something, to be trained with inside its `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what was taken of the terminal, however the training ended."""


class ProgressBar(Progress):
    """Epoch, loss, both accuracies, examples a second, time left; on stderr, until its `with` block is left."""

    def __init__(self, console: Console | None = None) -> None:
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=console or Console(stderr=True),
            transient=True,
        )

    def on_train_begin(self, run: TrainingRun) -> None:
        """Show the bar; a resumed run begins where it was."""
        done = (run.epoch - 1) * run.rows_per_epoch + run.position
        self._task = self._bar.add_task(
            "", total=run.epochs * run.rows_per_epoch, completed=done, epoch=f"{run.epoch}/{run.epochs}", figures=""
        )
        self._bar.start()

    def on_chunk_end(self, run: TrainingRun) -> None:
        """Move on."""
        totals, last = run.totals, run.history[-1] if run.history else None
        figures = f"loss {totals.loss:.4f}  train {totals.accuracy:.2%}"
        if last is not None and last.test_accuracy is not None:
            figures += f"  test {last.test_accuracy:.2%}"
        if run.seconds > 0:
            figures += f"  {totals.rows / run.seconds:,.0f} examples/s"
        self._bar.update(
            self._task,
            completed=(run.epoch - 1) * run.rows_per_epoch + run.position,
            epoch=f"{run.epoch}/{run.epochs}",
            figures=figures,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away; rich shows the cursor again and lets go of stdout and stderr."""
        self._bar.stop()


class ProgressLines(Progress):
    """A line for the first epoch, about ten on the way, and the last; on stderr."""

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """Print the epoch's figures if it is its turn."""
        if result.epoch in (1, run.epochs) or result.epoch % max(1, run.epochs // LINES) == 0:
            test = "" if result.test_accuracy is None else f"  test {result.test_accuracy:.2%}"
            rate = run.rows_per_epoch / result.seconds if result.seconds else float("inf")
            print(  # noqa: T201
                f"epoch {result.epoch}/{run.epochs}  loss {result.train_loss:.4f}  train {result.train_accuracy:.2%}"
                f"{test}  {rate:,.0f} examples/s",
                file=sys.stderr,
            )

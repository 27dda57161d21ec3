"""Initial state of a run, and the messages of `xpnn train` before and after it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from ...backends import Backend
from ..datasets import Dataset
from ..files.atomic import read_whole
from ..files.limits import CONFIG_BYTES
from ..files.text import parse_object
from ..inputs.table import Table
from ..network.evaluation import Evaluation
from ..runs.config import RunConfig
from ..runs.folder import RunFolder
from ..training.checkpoint import Checkpoint
from ..training.history import EpochResult, History
from .options import data_words, resume_command, shell_words
from .output import answer, note, say


class Start(NamedTuple):
    """Initial state of a run with `ranks` processes; `checkpoint` is None for a run without one."""

    folder: RunFolder
    config: RunConfig
    data: Dataset
    backend: Backend
    checkpoint: Checkpoint | None
    resumed: bool
    ranks: int = 1

    def is_finished(self) -> bool:
        """Return whether the run is finished."""
        if self.checkpoint is None:
            return False
        training, stopping = self.config.recipe.training, self.config.recipe.training.early_stopping
        is_over = self.checkpoint.epoch > training.epochs or (
            stopping is not None and stopping.is_over(self.checkpoint.history)
        )
        return is_over and self.folder.summary.exists() and self.folder.model.exists()


def announce(start: Start, *, verbose: bool) -> None:
    """Print the network, data and backend."""
    recipe, data, backend = start.config.recipe, start.data, start.backend
    training = recipe.training
    sizes = "-".join(map(str, recipe.sizes_for(data)))
    batch = "full batch" if training.batch_size is None else f"batch {training.batch_size}"
    say(f"{recipe.name}: {sizes} on {data.name}, {len(data.train):,} rows, {training.optimizer.name}, {batch}")
    for line in data.notes:
        say(line)
    say(f"features: {data.inputs.describe()}")
    for line in data.inputs.lines() if isinstance(data.inputs, Table) else ():
        say(f"  {line}")
    if start.resumed and start.checkpoint is None:
        say("no checkpoint yet: starting from the first step")
    say(f"backend {backend.name}")
    if verbose and backend.reason:
        say(backend.reason)


def report(start: Start, history: History, judged: Evaluation | None) -> None:
    """Print the result, its location and next commands."""
    say(_result(start, history, judged))
    if warning := worse_than_guessing(start, history):
        note(warning)
    say(f"\nsaved in {shell_words(start.folder.path)}")
    for path, what in (
        (start.folder.model, "the network"),
        (
            start.folder.curves,
            "plot of the loss" if history[-1].train_accuracy is None else "plot of loss and accuracy",
        ),
        (start.folder.metrics, "the same as numbers, a line per epoch"),
        (start.folder.summary, "result, versions and hardware"),
    ):
        if path.exists():
            say(f"  {path.name:<18} {what}")
    say("\nnext")
    for line in _next(start):
        say(f"  {click.style(line, fg='cyan')}")


def worse_than_guessing(start: Start, history: Sequence[EpochResult]) -> str:
    """Return a warning if the loss exceeds that of uniform probabilities, else an empty string."""
    last = history[-1]
    guessing = (
        math.log(start.data.num_classes) if start.data.num_classes else 0.5
    )  # of the mean, in standard deviations
    if last.train_loss <= guessing:
        return ""
    is_falling = len(history) > 1 and last.train_loss < history[-2].train_loss
    advice = "take more --epochs, or scale the features to about 1" if is_falling else "lower --lr"
    return f"its loss, {last.train_loss:.3g}, is above that of guessing, {guessing:.3g}: {advice}"


def regression_figures(r2: float | None, mean_absolute_error: float, coverage: float | None) -> str:
    """Format the figures of a regression; R2 is None or NaN if all labels of the rows are equal."""
    shown = "not defined" if r2 is None or math.isnan(r2) else f"{r2:.4f}"
    covered = "" if coverage is None else f", coverage {coverage:.2%} (labels at or below the prediction)"
    return f"R2 {shown}, mean absolute error {mean_absolute_error:.4g}{covered}"


def _result(start: Start, history: History, judged: Evaluation | None) -> str:
    """Format the accuracies; losses without classes, and figures of a regression on the test rows."""
    stopping, rows = start.config.recipe.training.early_stopping, len(start.data.test)
    took = f", in {sum(result.seconds for result in history):.2f} s"
    last = history[-1] if stopping is None else stopping.kept(history)
    if last.epoch < len(history):
        took += f"\nno improvement since epoch {last.epoch} of {len(history)}, whose weights are kept"
    if last.train_accuracy is None:
        test = "" if last.test_loss is None else f", {last.test_loss:.4g} on the {rows:,} test rows"
        text = f"loss {last.train_loss:.4g} on the training rows{test}{took}"
        if judged is None or judged.mean_absolute_error is None:
            return text
        figures = regression_figures(judged.r2, judged.mean_absolute_error, judged.coverage)
        return f"{figures} on the {rows:,} test rows\n{text}"
    train = f"{last.train_accuracy:.2%} of the training rows"
    if last.test_accuracy is None:
        return f"{train} right{took}"
    return f"{click.style(f'{last.test_accuracy:.2%}', bold=True)} of the {rows:,} test rows right, {train}{took}"


def _next(start: Start) -> Iterator[str]:
    """Yield next commands, ready to paste."""
    path = start.folder.path
    yield shell_words("xpnn", "evaluate", path, *data_words(start.config.data), "--out", "pictures")
    if isinstance(start.data.inputs, Table):
        yield f"xpnn predict {shell_words(path)} new.csv --out predictions.csv"
        yield f"xpnn export {shell_words(path)} --onnx net.onnx"
    elif start.data.image_shape is not None:
        yield f"xpnn predict {shell_words(path)} picture.png"
        yield f"xpnn export {shell_words(path)} --html digit.html"
    else:
        yield f"xpnn explain {shell_words(path)}"


def tell_again(start: Start, *, as_json: bool, talk: bool) -> None:
    """Print the result of a finished run again."""
    if as_json:
        summary = parse_object(read_whole(start.folder.summary, limit=CONFIG_BYTES))
        answer(json.dumps({**summary, "out": str(start.folder.path)}))
    elif talk:
        say(f"{start.folder.path} is finished: all of its {start.config.recipe.training.epochs} epochs are done")


def command_to_resume(start: Start) -> str:
    """Return the command that resumes a run on as many processes."""
    command = resume_command(start.folder, start.config.data)
    return command if start.ranks == 1 else f"mpiexec -n {start.ranks} {command} --distributed"

"""A training's figures in the event files that TensorBoard shows."""

from __future__ import annotations

import os
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, MissingDependency, StorageError
from ..files.atomic import append
from .callbacks import Callback
from .history import EpochResult
from .run import TrainingRun

FILE_VERSION = "brain.Event:2"  # from which on readers drop what a restarted run does anew
SCALARS = {  # tag: the field of an epoch's result
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "loss/test": "test_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "accuracy/test": "test_accuracy",
    "seconds": "seconds",
}
LEARNING_RATE = "learning_rate"
BUCKETS = 50  # of a histogram


class TensorBoard(Callback):
    """Writes each epoch's figures into a folder that `tensorboard --logdir` is given, with the epoch as the step.

    The tags are `loss/train`, `loss/validation`, `loss/test`, `accuracy/...`, `seconds` and `learning_rate`, which is
    that of the epoch's last step; what a training has not is left out. A resumed training goes on in a file of its own:
    epochs that were done but not saved are done again, and TensorBoard shows them once. A new training in the same
    folder takes the place of the earlier one on the page; the earlier one's files stay.

    >>> nn.train(net, data, epochs=50, callbacks=[nn.TensorBoard("runs/first")])

    Args:
        folder: where the event files are put; it is made if need be.
        histograms: whether to write histograms of weights and biases too. Of full batches that are taken in one go, the
            last has them.

    Raises:
        MissingDependency: the package tensorboard is not installed.
        ConfigError: the folder is no path.
        StorageError: in training, where a file cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], *, histograms: bool = False) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise ConfigError(f"the folder must be a path, got {folder!r:.80}: name one such as runs/first")
        self._events = EventFile(Path(folder))
        self._histograms = histograms

    def on_train_begin(self, run: TrainingRun) -> None:
        """Begin a file: what an earlier one of this training lacks is written now, what is to be done again is void."""
        known = self._events.known_steps("loss/train") if run.history else set()
        finished = len(run.history)
        first = next((epoch for epoch in range(1, finished + 1) if epoch not in known), finished + 1)
        self._events.begin(first)
        for result in run.history[first - 1 :]:
            self._events.write(result.epoch, _scalars(run, result))

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """Write the figures of an epoch."""
        is_last = result.epoch == len(run.history)  # the network's weights are those of this epoch
        self._events.write(
            result.epoch, _scalars(run, result), run.net.parameters() if self._histograms and is_last else {}
        )


def _scalars(run: TrainingRun, result: EpochResult) -> dict[str, float]:
    """Return an epoch's figures by tag."""
    figures = {tag: getattr(result, name, None) for tag, name in SCALARS.items()}
    last_step = run.settings.first_step - 1 + result.epoch * run.settings.steps_per_epoch
    rate = run.plan.job.learning_rates(last_step, 1)[0]
    return {tag: float(number) for tag, number in figures.items() if number is not None} | {LEARNING_RATE: float(rate)}


class EventFile:
    """A file of TensorBoard's events, each of which is on its way to the disk when the call returns.

    Raises:
        MissingDependency: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise MissingDependency(
                f'TensorBoard\'s event files need the package tensorboard ({error}): pip install "xpnn[tensorboard]"'
            ) from error
        self._event, self._summary, self._writer = event_pb2, summary_pb2, RecordWriter
        self._folder = folder
        self._path: Path | None = None

    def known_steps(self, tag: str) -> set[int]:
        """Return the steps of a scalar that the folder's files hold; what is damaged in them is left out."""
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        known: set[int] = set()
        for path in sorted(self._folder.glob("*tfevents*")):
            if not path.is_file():  # a pipe may never end
                continue
            for event in EventFileLoader(os.fspath(path)).Load():
                if event.HasField("session_log") and event.session_log.status == self._event.SessionLog.START:
                    known = {step for step in known if step < event.step}
                if any(value.tag == tag for value in event.summary.value):
                    known.add(event.step)
        return known

    def begin(self, first_step: int) -> None:
        """Begin a new file; what earlier ones hold of this step and later ones is void.

        Raises:
            StorageError: it cannot be written.
        """
        seconds, rest = divmod(time.time_ns(), 10**9)
        # Readers take the files in the order of their names.
        self._path = self._folder / f"events.out.tfevents.{seconds:010}.{rest:09}.xpnn"
        session = self._event.SessionLog(status=self._event.SessionLog.START)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror or error}") from error
        self._append(
            self._event.Event(wall_time=time.time(), file_version=FILE_VERSION),
            self._event.Event(wall_time=time.time(), step=first_step, session_log=session),
        )

    def write(self, step: int, scalars: dict[str, float], arrays: dict[str, npt.NDArray[Any]] | None = None) -> None:
        """Write numbers by tag, and histograms of the arrays by tag, any shapes.

        Raises:
            StorageError: the file cannot be written; it is as long as before.
        """
        values = [self._summary.Summary.Value(tag=tag, simple_value=number) for tag, number in scalars.items()]
        values += [
            self._summary.Summary.Value(tag=tag, histo=self._summary.HistogramProto(**_histogram(array)))
            for tag, array in (arrays or {}).items()
        ]
        summary = self._summary.Summary(value=values)
        self._append(self._event.Event(wall_time=time.time(), step=step, summary=summary))

    def _append(self, *events: Any) -> None:
        """Add events to the file, all or none: what follows half an event would never be read."""
        assert self._path is not None  # `begin` came first
        records = BytesIO()
        writer = self._writer(records)
        for event in events:
            writer.write(event.SerializeToString())
        append(self._path, records.getvalue())


def _histogram(array: npt.NDArray[Any]) -> dict[str, Any]:
    """Return what TensorBoard's histogram holds of the numbers of an array, any shape."""
    values = array.astype(np.float64).reshape(-1)  # (values,)
    counts, edges = np.histogram(values, bins=BUCKETS)  # (buckets,), (buckets + 1,)
    # each bucket ends where the next begins; an empty one in front says where the first begins
    return {
        "min": values.min(), "max": values.max(), "num": values.size,
        "sum": values.sum(), "sum_squares": values @ values,
        "bucket_limit": edges.tolist(), "bucket": [0, *counts.tolist()],
    }  # fmt: skip

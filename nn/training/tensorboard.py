"""Callback that writes TensorBoard event files."""

from __future__ import annotations

import os
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from ...backends import ConfigError, MissingDependency, StorageError
from ..files.atomic import append
from .history import EpochResult
from .run import Callback, TrainingRun

SCALARS = {  # tag: the field of an epoch's result
    f"{figure}/{part}": f"{part}_{figure}"
    for figure in ("loss", "accuracy")
    for part in ("train", "validation", "test")
} | {"seconds": "seconds"}


class TensorBoard(Callback):
    """Write the metrics of each epoch to a folder for `tensorboard --logdir`, with the epoch as the step.

    The tags are `loss/train`, `loss/validation`, `loss/test`, `accuracy/...`, `seconds` and `learning_rate` of the
    epoch's last step, as far as the run has them. A resumed run writes a new file; TensorBoard shows repeated epochs
    once.
    A new run in the same folder replaces the earlier one in the display, but keeps its files.

    >>> nn.train(net, data, epochs=50, callbacks=[nn.TensorBoard("runs/first")])

    Args:
        folder: folder of the event files, created if missing.
        histograms: whether to write histograms of weights and biases. For several full-batch epochs in one chunk, only
            the last has them.

    Raises:
        MissingDependency: the package tensorboard is not installed.
        ConfigError: the folder is not a path.
        StorageError: in training, if a file cannot be written; its length is unchanged.
    """

    def __init__(self, folder: str | os.PathLike[str], *, histograms: bool = False) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise ConfigError(f"the folder must be a path, got {folder!r:.80}: name one such as runs/first")
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.plugins.histogram.summary_v2 import histogram_pb
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise MissingDependency(
                f'TensorBoard\'s event files need the package tensorboard ({error}): pip install "xpnn[tensorboard]"'
            ) from error
        self._event, self._summary = event_pb2, summary_pb2.Summary
        self._histogram, self._writer = histogram_pb, RecordWriter
        self._folder, self._path, self._histograms = Path(folder), Path(), histograms

    def on_train_begin(self, run: TrainingRun) -> None:
        """Begin a file: missing epochs of earlier files are written, epochs to be repeated are purged."""
        known = self._known_epochs() if run.history else set()
        finished = len(run.history)
        first = next((epoch for epoch in range(1, finished + 1) if epoch not in known), finished + 1)
        seconds, rest = divmod(time.time_ns(), 10**9)
        # Readers take the files in the order of their names.
        self._path = self._folder / f"events.out.tfevents.{seconds:010}.{rest:09}.xpnn"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror or error}") from error
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        # From this version on, readers drop what stands before a start and has its step or a later one.
        self._write({"file_version": "brain.Event:2"}, {"step": first, "session_log": start})
        for result in run.history[first - 1 :]:
            self._write({"step": result.epoch, "summary": self._scalars(run, result)})

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """Write the metrics of an epoch."""
        summary = self._scalars(run, result)
        if self._histograms and result.epoch == len(run.history):  # the network's weights are those of this epoch
            for name, array in run.net.parameters().items():
                summary.MergeFrom(self._histogram(name, array))
        self._write({"step": result.epoch, "summary": summary})

    def _known_epochs(self) -> set[int]:
        """Return the epochs in the folder's files, ignoring damaged parts."""
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        known: set[int] = set()
        for path in filter(Path.is_file, sorted(self._folder.glob("*tfevents*"))):  # a pipe may never end
            for event in EventFileLoader(os.fspath(path)).Load():
                if event.session_log.status == self._event.SessionLog.START:
                    known = {step for step in known if step < event.step}
                if any(value.tag == "loss/train" for value in event.summary.value):
                    known.add(event.step)
        return known

    def _scalars(self, run: TrainingRun, result: EpochResult) -> Any:
        steps = run.source.steps_per_epoch or 1  # where it is unknown, the rate is constant
        last_step = run.identity.first_step - 1 + result.epoch * steps
        figures = {tag: getattr(result, field) for tag, field in SCALARS.items()}
        figures["learning_rate"] = run.plan.job.learning_rates(last_step, 1)[0]
        return self._summary(
            value=[{"tag": tag, "simple_value": float(number)} for tag, number in figures.items() if number is not None]
        )

    def _write(self, *events: dict[str, Any]) -> None:
        """Append events to the file, all or none, since readers stop at a partial event."""
        records = BytesIO()
        for event in events:
            self._writer(records).write(self._event.Event(wall_time=time.time(), **event).SerializeToString())
        append(self._path, records.getvalue())

"""Callback that saves checkpoints."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ...backends import ConfigError
from ...backends.constraints import NOT_NEGATIVE
from ..files.data_file import existing_path
from .checkpoint import Checkpoint
from .run import Callback, TrainingRun


class SaveCheckpoints(Callback):
    """Save checkpoints before the first step, periodically, and at the end; a failed save keeps the last good one.

    >>> save = nn.SaveCheckpoints("run.safetensors")
    >>> nn.train(net, data, epochs=50, callbacks=[save])
    >>> nn.train(net, data, epochs=50, callbacks=[save], resume="run.safetensors")  # after a crash, bit for bit

    Args:
        path: the file.
        every_seconds: minimum time between two checkpoints.

    Raises:
        ConfigError: `every_seconds` is not a number; in training, if a new run finds the checkpoint of an earlier one.
        StorageError: in training, if the file cannot be written; an existing file is left unchanged.
    """

    def __init__(self, path: str | os.PathLike[str], *, every_seconds: float = 10.0) -> None:
        NOT_NEGATIVE.check("every_seconds", every_seconds)
        self._path, self._every_seconds = Path(path), every_seconds
        self._last = time.monotonic()

    def on_train_begin(self, run: TrainingRun) -> None:
        """Save the initial state, so that a file that cannot be written fails before the first step."""
        if not run.is_resumed and existing_path(self._path) is not None:
            raise ConfigError(
                f"{self._path} is the checkpoint of an earlier training: resume it with resume={str(self._path)!r}, "
                "or remove it"
            )
        self.save(run.checkpoint())

    def on_chunk_end(self, run: TrainingRun) -> None:
        """Save if `every_seconds` have passed."""
        if time.monotonic() - self._last >= self._every_seconds:
            self.save(run.checkpoint())

    def on_train_end(self, run: TrainingRun) -> None:
        """Save the final state, finished or stopped."""
        self.save(run.checkpoint())

    def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint."""
        checkpoint.save(self._path)
        self._last = time.monotonic()

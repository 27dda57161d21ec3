"""The folder that a training run leaves behind.

config.json             all that decides the run
metrics.jsonl           a line an epoch
checkpoint.safetensors  where the training stands, to resume from
model.safetensors       the network
curves.png              loss and accuracy
summary.json            the result
.lock                   held by the process that is at work here
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ...backends import ConfigError, ModelFileError, RunFolderInUse, StorageError
from ..files.atomic import append, is_temporary, read_whole, remove_temporaries, sync_folder, write_atomically
from ..files.limits import CONFIG_BYTES
from ..files.text import parse_object, reason_of
from ..training.checkpoint import FILE_NAME
from ..training.history import EpochResult, History
from ..training.run import TrainingRun
from ..training.save_checkpoints import SaveCheckpoints
from .config import RunConfig

if TYPE_CHECKING:
    from filelock import BaseFileLock

CHECKPOINT_SECONDS = 10.0  # shortest time between two checkpoints while training


class RunFolder:
    """Paths and files of one run; as a context manager, it gives back its claim on the folder in the end."""

    def __init__(self, path: Path) -> None:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            pass  # a new one
        except (OSError, ValueError) as error:  # a name that is too long, or a folder that may not be looked into
            raise ConfigError(f"{str(path)!r:.300} cannot be a run folder ({error!s:.100}): choose another") from error
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / FILE_NAME
        self.model = path / "model.safetensors"
        self.curves = path / "curves.png"
        self.summary = path / "summary.json"
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def claim(self) -> None:
        """Keep other processes out of the folder, and remove what a killed one left half written.

        Raises:
            RunFolderInUse: another process is at work in it.
            StorageError: it cannot be written.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise RunFolderInUse(
                f"another process is at work in {self.path}: wait until it has ended, or choose another --out"
            ) from None
        except OSError as error:
            raise StorageError(f"cannot write into the run folder {self.path}: {error.strerror or error}") from error
        self._lock = lock
        remove_temporaries(self.path)

    def refuse_links(self) -> None:
        """Make sure that what is read and written here lies here: a run never makes a link.

        Raises:
            ModelFileError: the folder holds one.
        """
        if self.path.is_dir() and (links := sorted(file for file in self.path.iterdir() if file.is_symlink())):
            raise ModelFileError(f"{links[0]} is a link, which no run folder holds: copy what it leads to in its place")

    def refuse_existing(self) -> None:
        """Make sure that a new run overwrites nothing.

        Raises:
            ConfigError: the folder exists and is not empty.
        """
        if not self.path.exists():
            return
        # A process that was killed before it wrote anything leaves its lock and temporary files.
        if not self.path.is_dir() or not all(
            file.name == ".lock" or is_temporary(file) for file in self.path.iterdir()
        ):
            raise ConfigError(f"{self.path} exists and is not empty; choose another --out, or go on with it: --resume")

    def create(self, config: RunConfig) -> None:
        """Make and claim the folder and write its configuration.

        Raises:
            ConfigError: the folder exists and is not empty, or another process is at work in it.
            StorageError: it cannot be made.
        """
        self.refuse_existing()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            sync_folder(self.path.parent)
        except OSError as error:
            raise StorageError(f"cannot make the run folder {self.path}: {error.strerror}") from error
        self.claim()
        self.refuse_existing()  # another run may have come first
        write_json(self.config, config.to_json())

    def has_results(self) -> bool:
        """Return whether a run here has finished an epoch or saved its network."""
        return self.model.exists() or (self.metrics.exists() and self.metrics.stat().st_size > 0)

    def files(self) -> list[str]:
        """Return the names of the files in it but for hidden ones, sorted."""
        return sorted(file.name for file in self.path.iterdir() if not file.name.startswith("."))

    def read_config(self) -> RunConfig:
        """Return the configuration of an earlier run.

        Raises:
            ModelFileError: there is none, or it is damaged.
        """
        self.refuse_links()
        if not self.config.exists():
            lacks = "it has no config.json" if self.path.exists() else "there is no such folder"
            raise ModelFileError(f"{self.path} is no run folder: {lacks}")
        text = read_whole(self.config, limit=CONFIG_BYTES)
        try:
            return RunConfig.from_json(parse_object(text))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(
                f"{self.config} is damaged or was written by another version: {reason_of(error)}"
            ) from error

    def write_metrics(self, history: History) -> None:
        """Write `metrics.jsonl` anew: one line for each of the results."""
        write_atomically(self.metrics, b"".join(map(_line, history)))


def _line(result: EpochResult) -> bytes:
    """Return the line of an epoch in `metrics.jsonl`."""
    return json.dumps(asdict(result), allow_nan=False).encode() + b"\n"


class RecordRun(SaveCheckpoints):
    """Makes the run folder; writes a line an epoch to `metrics.jsonl`, a checkpoint every ten seconds and at the end.

    Args:
        folder: where the run is recorded.
        config: of the run. The folder of a new one is made when the training begins, after all that could refuse it.
        resumed: whether the run goes on in its folder, whose configuration is then brought up to `config`.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, *, resumed: bool = False) -> None:
        super().__init__(folder.checkpoint, every_seconds=CHECKPOINT_SECONDS)
        self._folder, self._config, self._resumed = folder, config, resumed

    def on_train_begin(self, run: TrainingRun) -> None:
        """Make the folder, and `metrics.jsonl` as of where the run begins: lines past its checkpoint are dropped."""
        checkpoint = run.checkpoint()  # first: a device that fails here leaves no folder without a checkpoint
        if not self._resumed:
            self._folder.create(self._config)
        elif self._folder.read_config() != self._config:
            write_json(self._folder.config, self._config.to_json())
        self._folder.write_metrics(run.history)
        self.save(checkpoint)

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:  # noqa: ARG002
        """Append the epoch's line."""
        append(self._folder.metrics, _line(result))


def summarize(
    config: RunConfig, history: History, *, versions: Mapping[str, Any], hardware: Mapping[str, Any], ranks: int = 1
) -> dict[str, Any]:
    """Return the result of a run, as `summary.json` holds it.

    Args:
        config: what was run.
        history: results of its epochs, at least one.
        versions: of the packages that took part.
        hardware: what it ran on.
        ranks: number of processes that shared it.
    """
    stopping, seconds = config.recipe.training.early_stopping, [result.seconds for result in history]
    last, kept = history[-1], history[-1] if stopping is None else stopping.kept(history)
    return {
        "recipe": config.recipe.name,
        "backend": config.backend,
        "dtype": config.recipe.dtype,
        "seed": config.seed,
        "ranks": ranks,
        "epochs": last.epoch,
        "kept_epoch": kept.epoch,
        "train_accuracy": kept.train_accuracy,
        "test_accuracy": kept.test_accuracy,
        "train_loss": kept.train_loss,
        "test_loss": kept.test_loss,
        "total_seconds": sum(seconds),
        "median_epoch_seconds": statistics.median(seconds),
        "versions": dict(versions),
        "hardware": dict(hardware),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON object, indented, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

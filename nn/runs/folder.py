"""Run folders.

config.json             configuration of the run
metrics.jsonl           a line per epoch
checkpoint.safetensors  state to resume from
model.safetensors       the network
curves.png              loss, and accuracy of classes
summary.json            the result
.lock                   held by the process that uses the folder
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ...backends import ConfigError, ModelFileError, RunFolderInUse, StorageError
from ..files.atomic import append, is_temporary, read_whole, remove_temporaries, sync_folder, write_atomically
from ..files.limits import CONFIG_BYTES
from ..files.text import parse_object, reason_of
from ..network.evaluation import Evaluation
from ..training.checkpoint import FILE_NAME
from ..training.history import EpochResult, History
from ..training.run import TrainingRun
from ..training.save_checkpoints import SaveCheckpoints
from .config import RunConfig

if TYPE_CHECKING:
    from filelock import BaseFileLock

CHECKPOINT_SECONDS = 10.0  # shortest time between two checkpoints while training


class RunFolder:
    """Paths and files of a run; a context manager that releases the lock at the end."""

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

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def claim(self) -> None:
        """Lock the folder, and remove temporary files of killed processes.

        Raises:
            RunFolderInUse: another process is using it.
            StorageError: it cannot be written.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise RunFolderInUse(
                f"another process is using {self.path}: wait until it ends, or choose another --out"
            ) from None
        except OSError as error:
            raise StorageError(f"cannot write into the run folder {self.path}: {error.strerror or error}") from error
        self._lock = lock
        remove_temporaries(self.path)

    def refuse_links(self) -> None:
        """Check that the folder has no symbolic links, which a run never creates.

        Raises:
            ModelFileError: the folder has one.
        """
        if self.path.is_dir() and (links := sorted(file for file in self.path.iterdir() if file.is_symlink())):
            raise ModelFileError(f"{links[0]} is a symbolic link: replace it by its target")

    def refuse_existing(self) -> None:
        """Check that a new run does not overwrite anything.

        Raises:
            ConfigError: the folder exists and is not empty.
        """
        if not self.path.exists():
            return
        # A process that was killed before it wrote anything leaves its lock and temporary files.
        if not self.path.is_dir() or not all(
            file.name == ".lock" or is_temporary(file) for file in self.path.iterdir()
        ):
            raise ConfigError(f"{self.path} exists and is not empty; choose another --out, or resume it with --resume")

    def create(self, config: RunConfig) -> None:
        """Create and lock the folder, and write the configuration.

        Raises:
            ConfigError: the folder exists and is not empty, or another process is using it.
            StorageError: it cannot be created.
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
        """Return whether the run has finished an epoch or saved its network."""
        return self.model.exists() or (self.metrics.exists() and self.metrics.stat().st_size > 0)

    def read_config(self) -> RunConfig:
        """Read the configuration.

        Raises:
            ModelFileError: it is missing or damaged.
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
        """Rewrite `metrics.jsonl` with one line per result."""
        write_atomically(self.metrics, b"".join(map(_line, history)), always_atomic=True)


def _line(result: EpochResult) -> bytes:
    """Format the line of an epoch in `metrics.jsonl`."""
    return json.dumps(asdict(result), allow_nan=False).encode() + b"\n"


class RecordRun(SaveCheckpoints):
    """Callback that creates the run folder, appends to `metrics.jsonl`, and saves checkpoints periodically.

    Args:
        folder: folder of the run.
        config: configuration. A new folder is created when training begins, after all checks.
        resumed: whether the run resumes in its folder, whose configuration is then updated to `config`.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, *, resumed: bool = False) -> None:
        super().__init__(folder.checkpoint, every_seconds=CHECKPOINT_SECONDS)
        self._folder, self._config, self._resumed = folder, config, resumed

    def on_train_begin(self, run: TrainingRun) -> None:
        """Create the folder, and truncate `metrics.jsonl` to the checkpoint."""
        checkpoint = run.checkpoint()  # first: a device that fails here leaves no folder without a checkpoint
        if not self._resumed:
            self._folder.create(self._config)
        elif self._folder.read_config() != self._config:
            write_json(self._folder.config, self._config.to_json())
        self._folder.summary.unlink(missing_ok=True)  # it is of fewer epochs
        self._folder.write_metrics(run.history)
        self.save(checkpoint)

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:  # noqa: ARG002
        """Append the line of the epoch."""
        append(self._folder.metrics, _line(result))


def summarize(
    config: RunConfig,
    history: History,
    *,
    versions: Mapping[str, Any],
    hardware: Mapping[str, Any],
    ranks: int = 1,
    judged: Evaluation | None = None,
) -> dict[str, Any]:
    """Return the result of a run, the content of `summary.json`.

    Args:
        config: configuration.
        history: results of the epochs, at least one.
        versions: package versions.
        hardware: description of the hardware.
        ranks: number of processes.
        judged: evaluation of a regression on the test rows, or None.
    """
    stopping, seconds = config.recipe.training.early_stopping, [result.seconds for result in history]
    last, kept = history[-1], history[-1] if stopping is None else stopping.kept(history)
    of_regression = {} if judged is None else {
        "test_r2": defined(judged.r2), "test_mean_absolute_error": judged.mean_absolute_error,
        **({} if judged.coverage is None else {"test_coverage": judged.coverage}),
    }  # fmt: skip
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
        **of_regression,
        "total_seconds": sum(seconds),
        "median_epoch_seconds": statistics.median(seconds),
        "versions": dict(versions),
        "hardware": dict(hardware),
    }


def defined(number: float | None) -> float | None:
    """Return a figure for JSON, with None for NaN."""
    return None if number is None or math.isnan(number) else number


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an indented JSON object atomically."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode(), always_atomic=True)

"""Ending a training in good order when the user or the system asks for it."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, NoReturn

from ..callbacks import Callback
from ..training_run import TrainingRun

SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides


class StopOnSignal(Callback):
    """Ends the training after the present chunk on the first SIGINT or SIGTERM; the second one ends the process.

    Before the training has begun there is nothing to save, and the first one ends the process.

    Attributes:
        received: number of the signal, or 0.
    """

    def __init__(self) -> None:
        self.received = 0
        self._run: TrainingRun | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_train_begin(self, run: TrainingRun) -> None:
        """Remember the run, whose stop it is from now on."""
        self._run = run

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._run is None:
            end_at_once(number, "interrupted before the first step")
        if self.received:
            end_at_once(number, "ended at once; the last checkpoint is whole")
        self.received = number
        self._run.stop()


def end_at_once(number: int, words: str) -> NoReturn:
    """End the process as a signal does; an exception could be swallowed where a compiler calls back."""
    shown = SHOW_CURSOR if sys.stderr.isatty() else ""
    os.write(2, f"{shown}xpnn: {words}\n".encode())
    os._exit(128 + number)

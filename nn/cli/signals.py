"""Ending a training in good order when the user or the system asks for it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from ..callbacks import Callback
from ..training_run import TrainingRun


class Interrupted(BaseException):
    """A signal came before the training began.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


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
        self._restore()

    def on_train_begin(self, run: TrainingRun) -> None:
        """Remember the run, whose stop it is from now on."""
        self._run = run

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received = number
        self._restore()
        if self._run is None:
            raise Interrupted(number)
        self._run.stop()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

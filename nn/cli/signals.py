"""Graceful stop on signals."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any, NoReturn

from ..distributed.world import abort
from ..files.atomic import remove_unfinished
from ..training.run import Callback, TrainingRun
from .streams import write_last_words

SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides
# What asks for an end: Ctrl-C, the system, a terminal that is closed, Ctrl-Break on Windows. Not every system has all.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
HANG_UP = getattr(signal, "SIGHUP", None)


class StopOnSignal(Callback):
    """Stop training after the current chunk on the first signal of `NAMES`; the second one ends the process.

    Before training begins, the first signal ends the process. A SIGHUP that is ignored, as under nohup, stays
    ignored.

    Args:
        speaks: whether to print a message when it ends the process.

    Attributes:
        received: number of the received signal, or 0.
    """

    every_rank = True  # a launcher passes signals on to all of them

    def __init__(self, *, speaks: bool = True) -> None:
        self.received = 0
        self._speaks = speaks
        self._run: TrainingRun | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        for number in numbers():
            if number == HANG_UP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_train_begin(self, run: TrainingRun) -> None:
        """Store the run to stop."""
        self._run = run

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._run is None:
            end_at_once(number, "interrupted before the first step" if self._speaks else "")
        if self.received:
            end_at_once(number, "ended at once; the last checkpoint is intact" if self._speaks else "")
        self.received = number
        self._run.stop()


def numbers(names: Any = signal) -> list[int]:
    """Return the numbers of the signals in `NAMES` that the system has.

    Args:
        names: namespace of the signals, such as the module `signal`.
    """
    return [int(getattr(names, name)) for name in NAMES if hasattr(names, name)]


def end_on_signals() -> None:
    """Make Ctrl-C raise KeyboardInterrupt once; the next one, and other signals of `NAMES`, end the process at once.

    Signals that are ignored, as Ctrl-C is behind a `&` and SIGHUP under nohup, stay ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
        signal.signal(number, lambda number, _: end_at_once(number, "interrupted"))
        raise KeyboardInterrupt

    for number in numbers():
        if signal.getsignal(number) is signal.default_int_handler:
            signal.signal(number, interrupt)
        elif signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _: end_at_once(number, f"ended by {signal.Signals(number).name}"))


def end_at_once(number: int, words: str) -> NoReturn:
    """Remove temporary files and end the process as a signal does; a callback might swallow an exception."""
    remove_unfinished()
    shown = SHOW_CURSOR if _is_terminal(2) else ""
    if shown or words:
        write_last_words(f"{shown}xpnn: {words}\n" if words else shown)
    abort(128 + number)
    os._exit(128 + number)


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:  # it is closed
        return False

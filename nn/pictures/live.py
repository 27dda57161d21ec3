"""Live training curves, in a matplotlib window if possible, else in a file."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.run import Callback
from .curves import CURVES_SIZE, draw_curves, save_curves
from .style import import_matplotlib, picture_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..training.history import EpochResult
    from ..training.run import TrainingRun

DRAWING_SHARE = 0.1  # of the time at most: a redraw of thousands of epochs takes about half a second


def open_window() -> Figure:
    """Open a window in matplotlib's interactive mode, with the toolkit of MPLBACKEND if set.

    Raises:
        Exception: of any type, including the toolkit's: no window can be opened.
    """
    import_matplotlib()
    import matplotlib.pyplot as plt

    if threading.current_thread() is not threading.main_thread():
        raise OSError("toolkits open windows in the main thread alone")
    with plt.ion():  # or the window would wait for `plt.show`, which waits for its end
        figure = plt.figure(figsize=CURVES_SIZE)
    if figure.canvas.required_interactive_framework is None:
        plt.close(figure)
        raise OSError(f"matplotlib's backend {plt.get_backend()} has none; is there a display?")
    return figure


class LiveCurves(Callback):
    """Callback that plots loss and accuracy during training.

    The first plot is saved before the first step, so that a bad path fails at once. Later errors do not stop the
    training; if the window is closed or fails, the file is used instead.

    Args:
        path: file of the plot, as in `save_curves`.
        title: title of the plot.
        every_seconds: minimum time between redraws; longer if drawing takes more than a tenth of the time.
        clock: monotonic clock in seconds.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._title = Path(path), title
        self._every_seconds, self._clock = every_seconds, clock
        self._figure: Figure | None = None

    def on_train_begin(self, run: TrainingRun) -> None:
        """Save the first plot, and open the window.

        Raises:
            ConfigError, RunError, MissingDependency: as in `save_curves`.
        """
        save_curves(run.history, self._path, title=self._title)
        try:
            self._figure = open_window()
        except Exception as error:  # not built in, not installed, no display: each toolkit has its own kind
            logging.getLogger("xpnn").info("no window (%s): %s is redrawn instead", error, self._path)
        else:
            self._redraw(run)
        self._next_redraw = self._clock() + self._every_seconds

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:  # noqa: ARG002 - it is in the history
        """Redraw if `every_seconds` have passed."""
        began = self._clock()
        if began >= self._next_redraw:
            self._redraw(run)
            ended = self._clock()
            self._next_redraw = ended + max(self._every_seconds, (ended - began) * (1 / DRAWING_SHARE - 1))

    def on_train_end(self, run: TrainingRun) -> None:
        """Draw the final curves, in the window and in the file."""
        self._redraw(run)
        if self._figure is not None:
            self._save(run)

    def _redraw(self, run: TrainingRun) -> None:
        """Draw in the window, or in the file without one."""
        if (figure := self._figure) is not None:
            import matplotlib.pyplot as plt

            try:
                if plt.fignum_exists(figure.number):
                    with picture_style():
                        draw_curves(figure, run.history, title=self._title)
                        figure.canvas.draw()
                    figure.canvas.flush_events()  # the toolkit sees to the mouse, and to the window's closing
                    return
            except Exception:  # any toolkit's own kind of error
                plt.close(figure)  # or its last picture would stay
            self._figure = None
        self._save(run)

    def _save(self, run: TrainingRun) -> None:
        """Draw in the file, if there is room."""
        with suppress(Exception):  # saving the network reports a full disk, and the last picture the rest
            save_curves(run.history, self._path, title=self._title)

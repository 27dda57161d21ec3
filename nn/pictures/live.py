"""The curves of a run, redrawn while it trains: in a window where there is a display, else in a file."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ...backends import ConfigError, XpnnError
from ..training.callbacks import Callback
from .curves import CURVES_SIZE, draw_curves, save_curves
from .style import picture_style, require_matplotlib

if TYPE_CHECKING:
    from ..training.history import EpochResult
    from ..training.run import TrainingRun

DRAWING_SHARE = 0.1  # of the time at most: a redraw of thousands of epochs takes about half a second
TOOLKITS = ("macosx", "tkagg", "qtagg")  # matplotlib's interactive backends, in the order they are tried


class Window(Protocol):
    """Where curves can be shown."""

    @property
    def closed(self) -> bool:
        """Whether the user has closed it."""

    def show(self, history: Sequence[EpochResult], title: str | None) -> None:
        """Draw the curves so that they are seen on return; whatever it raises means that the window is gone."""


class LiveCurves(Callback):
    """Shows loss and accuracy while the network trains.

    The first picture is drawn before the first step, so that a path that cannot be written is told at once. From
    then on nothing that happens to the window or the file stops the training: a window that fails or is closed gives
    way to the file, and a file that cannot be written at the end is a warning. The file is always there at the end.

    Args:
        path: where the picture is written, as for `save_curves`.
        every_seconds: the shortest time between two redraws, and longer if drawing would take more than a tenth of it.
        title: what stands above the picture.
        clock: gives seconds that never go back.
        open_window: gives the window, or None where there can be none.

    Raises:
        ConfigError: `every_seconds` is negative.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_seconds: float = 1.0,
        title: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        open_window: Callable[[], Window | None] | None = None,
    ) -> None:
        if not every_seconds >= 0:
            raise ConfigError(f"every_seconds must be 0 or more, got {every_seconds}")
        self._path = Path(path)
        self._every_seconds = every_seconds
        self._title = title
        self._clock = clock
        self._open_window = open_window if open_window is not None else open_matplotlib_window
        self._window: Window | None = None
        self._next_redraw = 0.0  # seconds of the clock

    def on_train_begin(self, run: TrainingRun) -> None:
        """Write the first picture, and open the window where there can be one.

        Raises:
            ConfigError, RunError, MissingDependency: as for `save_curves`.
        """
        save_curves(run.history, self._path, title=self._title)
        try:
            self._window = self._open_window()
        except Exception:  # any toolkit's own kind of error
            self._window = None
        self._show(run)
        self._next_redraw = self._clock() + self._every_seconds

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:  # noqa: ARG002 - it is in the history
        """Redraw if the time has come."""
        began = self._clock()
        if began < self._next_redraw:
            return
        if not self._show(run):
            with contextlib.suppress(XpnnError):  # a full disk may have room again; on_train_end warns if it has not
                save_curves(run.history, self._path, title=self._title)
        ended = self._clock()
        self._next_redraw = ended + max(self._every_seconds, (ended - began) * (1 / DRAWING_SHARE - 1))

    def on_train_end(self, run: TrainingRun) -> None:
        """Show the final curves and write them to the file."""
        self._show(run)
        try:
            save_curves(run.history, self._path, title=self._title)
        except XpnnError as error:
            warnings.warn(f"the curves of this run are not saved: {error}", RuntimeWarning, stacklevel=2)

    def _show(self, run: TrainingRun) -> bool:
        """Draw in the window; False where there is none, any more."""
        if self._window is None or self._window.closed:
            self._window = None
            return False
        try:
            self._window.show(run.history, self._title)
        except Exception:  # any toolkit's own kind of error
            self._window = None
            return False
        return True


def has_display(platform: str = sys.platform, environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether windows can be seen here: Windows, macOS but over SSH, elsewhere with an X11 or Wayland display.

    Args:
        platform: as `sys.platform`.
        environ: environment variables.
    """
    if platform in ("win32", "cygwin"):
        return True
    if platform == "darwin":
        return "SSH_CONNECTION" not in environ
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def open_matplotlib_window() -> Window | None:
    """Open a window with the first of matplotlib's interactive backends that works; None where none does.

    The environment variable MPLBACKEND, where it is set, decides alone: with `agg` there is no window.
    """
    if not has_display() or threading.current_thread() is not threading.main_thread():
        return None  # toolkits want the main thread; some end the process elsewhere
    chosen = os.environ.get("MPLBACKEND")
    for toolkit in TOOLKITS if chosen is None else (chosen.lower(),):
        try:
            return MatplotlibWindow(toolkit)
        except Exception:  # not built in, not installed, or no connection to the display: each has its own error
            continue
    return None


class MatplotlibWindow:
    """A window of one of matplotlib's interactive backends, without pyplot and its global state.

    Args:
        toolkit: name of the backend, such as "tkagg".

    Raises:
        Exception: of any type, where the backend is not interactive or its window cannot be opened.
    """

    def __init__(self, toolkit: str) -> None:
        require_matplotlib()
        from matplotlib.figure import Figure

        canvas_type = importlib.import_module(f"matplotlib.backends.backend_{toolkit}").FigureCanvas
        if canvas_type.required_interactive_framework is None:
            raise ConfigError(f"matplotlib's backend {toolkit} has no windows; use one of {', '.join(TOOLKITS)}")
        with picture_style():
            self._figure = Figure(figsize=CURVES_SIZE)
            draw_curves(self._figure, ())
            self._manager = canvas_type.new_manager(self._figure, 1)
        self._closed = False
        self._figure.canvas.mpl_connect("close_event", lambda _: self._close())
        self._manager.show()

    @property
    def closed(self) -> bool:
        """Whether the user has closed it; events are seen to in `show`."""
        return self._closed

    def show(self, history: Sequence[EpochResult], title: str | None) -> None:
        """Draw the curves, and let the toolkit see to its events."""
        with picture_style():
            draw_curves(self._figure, history, title=title)
            self._figure.canvas.draw()
        self._figure.canvas.flush_events()

    def _close(self) -> None:
        self._closed = True

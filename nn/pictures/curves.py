"""Training curves: loss and accuracy against epoch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .style import FAINT_COLOUR, TEST_COLOUR, TRAIN_COLOUR, VALIDATION_COLOUR, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..training.history import EpochResult

CURVES_SIZE = (9.6, 3.8)  # inches
MAX_MARKED_EPOCHS = 30  # up to here each epoch is a visible point
LINE_SHARE = 0.09  # of the height of the axes, what a line of text takes
STYLES = {  # rows -> colour and dashes of their line
    "train": (TRAIN_COLOUR, "solid"),
    "test": (TEST_COLOUR, (0, (4, 1.5))),
    "validation": (VALIDATION_COLOUR, (0, (1, 1))),
}


def save_curves(history: Sequence[EpochResult], path: str | os.PathLike[str], *, title: str | None = None) -> None:
    """Save a plot of loss and accuracy against epoch, atomically.

    Args:
        history: results of the epochs, possibly empty; test and validation metrics may be None. Without accuracies,
            as for a regression, only the loss is plotted.
        path: file in a format of matplotlib (png, svg, pdf), by its suffix.
        title: title of the plot.

    Raises:
        ConfigError: the suffix is not supported.
        RunError: the file cannot be written.
        MissingDependency: matplotlib is not installed.
    """

    def draw(figure: Figure) -> None:
        figure.set_size_inches(*CURVES_SIZE)
        draw_curves(figure, history, title=title)

    save_picture(draw, path)


def draw_curves(figure: Figure, history: Sequence[EpochResult], *, title: str | None = None) -> None:
    """Draw loss and accuracy side by side on a figure, which is cleared; arguments as in `save_curves`."""
    figure.clear()
    figure.set_layout_engine("constrained", wspace=0.06, w_pad=0.1, h_pad=0.08)
    if title is not None:
        figure.suptitle(title, fontweight="bold")
    has_accuracy = bool(history) and history[-1].train_accuracy is not None
    panels = [("loss", "{:.4g}", 1.0, "loss"), ("accuracy, %", "{:.2f} %", 100.0, "accuracy")][: 1 + has_accuracy]
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, unit, factor, figure_name) in zip(all_axes, panels, strict=True):
        axes.set_title(name, loc="left")
        axes.set_xlabel("epoch")
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        if not history:
            axes.text(0.5, 0.5, "no epoch yet", transform=axes.transAxes, ha="center", color=FAINT_COLOUR)
        figures = {rows: [getattr(result, f"{rows}_{figure_name}") for result in history] for rows in STYLES}
        series = {rows: factor * np.array(of_rows, dtype=np.float64) for rows, of_rows in figures.items()}  # None: NaN
        _draw_lines(axes, [r.epoch for r in history], unit, series, lowest=0 if figure_name == "loss" else None)


def _draw_lines(
    axes: Axes, epochs: list[int], unit: str, series: dict[str, npt.NDArray[np.float64]], *, lowest: float | None
) -> None:
    """Draw a line for each series with values, labelled with its last value."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    ends = []
    for name, heights in series.items():
        is_known = np.isfinite(heights)  # an epoch without an evaluation breaks no line
        known, at = heights[is_known], np.array(epochs)[is_known]
        if len(known):
            colour, dashes = STYLES[name]
            dots = "o" if len(known) <= MAX_MARKED_EPOCHS else ""  # the only value would be no line
            axes.plot(at, known, color=colour, linestyle=dashes, marker=dots, markersize=4, linewidth=1.8, label=name)
            ends.append((float(known[-1]), f"{name} {unit.format(known[-1])}", colour))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.set_xticks(epochs)
    if ends:
        axes.set_ylim(bottom=lowest)
    _write_ends(axes, sorted(ends, reverse=True))


def _write_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Place labels beside line ends, sorted from top to bottom, without overlap."""
    low, high = axes.get_ylim()
    line = LINE_SHARE * (high - low)  # height of a line of text
    places = [height for height, _, _ in ends]
    for _ in ends:  # neighbours push each other apart, evenly
        for k in range(len(places) - 1):
            lacking = max(line - (places[k] - places[k + 1]), 0) / 2
            places[k], places[k + 1] = places[k] + lacking, places[k + 1] - lacking
    for place, (_, words, colour) in zip(places, ends, strict=True):
        axes.annotate(
            words, (1, place), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", color=colour, fontweight="bold", fontsize=10, annotation_clip=False,
        )  # fmt: skip

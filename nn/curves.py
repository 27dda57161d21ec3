"""The curves of a training run: loss and accuracy against epoch, drawn on a figure or saved to a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .pictures import FAINT_COLOUR, TEST_COLOUR, TRAIN_COLOUR, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .history import EpochResult

CURVES_SIZE = (9.6, 3.8)  # inches
MAX_MARKED_EPOCHS = 30  # up to here each epoch is a visible point


def save_curves(history: Sequence[EpochResult], path: str | os.PathLike[str], *, title: str | None = None) -> None:
    """Save a picture of loss and accuracy against epoch; the file is there whole or not at all.

    Args:
        history: results of the epochs, in order; there may be none yet, and those of the test rows may be None.
        path: a file in any format that matplotlib writes (png, svg, pdf); the suffix decides.
        title: what stands above the picture.

    Raises:
        ConfigError: the suffix is of no such format.
        RunError: the file cannot be written.
        MissingDependency: matplotlib is not installed.
    """

    def draw(figure: Figure) -> None:
        figure.set_size_inches(*CURVES_SIZE)
        draw_curves(figure, history, title=title)

    save_picture(draw, path)


def draw_curves(figure: Figure, history: Sequence[EpochResult], *, title: str | None = None) -> None:
    """Draw loss and accuracy side by side on an empty or a used figure; arguments as for `save_curves`."""
    figure.clear()
    figure.set_layout_engine("constrained", wspace=0.06, w_pad=0.1, h_pad=0.08)
    if title is not None:
        figure.suptitle(title, fontweight="bold")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [result.epoch for result in history]
    for axes, name, unit, train, test in (
        (losses, "loss", "{:.4g}", [r.train_loss for r in history], [r.test_loss for r in history]),
        (
            accuracies,
            "accuracy, %",
            "{:.2f} %",
            [100 * r.train_accuracy for r in history],
            [None if r.test_accuracy is None else 100 * r.test_accuracy for r in history],
        ),
    ):
        axes.set_title(name, loc="left")
        axes.set_xlabel("epoch")
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        if not history:
            axes.text(0.5, 0.5, "no epoch yet", transform=axes.transAxes, ha="center", color=FAINT_COLOUR)
        _draw_lines(axes, epochs, unit, {"train": train, "test": test}, lowest=0 if axes is losses else None)


def _draw_lines(
    axes: Axes, epochs: list[int], unit: str, series: dict[str, Sequence[float | None]], *, lowest: float | None
) -> None:
    """Draw a line for each series that has values, and write the last value at its end."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    ends = []
    for (name, values), colour, dashes in zip(
        series.items(), (TRAIN_COLOUR, TEST_COLOUR), ("solid", (0, (4, 1.5))), strict=True
    ):
        heights = np.array([np.nan if v is None else v for v in values], dtype=np.float64)  # (epochs,)
        is_known = np.isfinite(heights)  # an epoch without an evaluation breaks no line
        known, at = heights[is_known], np.array(epochs)[is_known]
        if len(known):
            dots = "o" if len(known) <= MAX_MARKED_EPOCHS else ""  # the only value would be no line
            axes.plot(at, known, color=colour, linestyle=dashes, marker=dots, markersize=4, linewidth=1.8, label=name)
            ends.append((float(known[-1]), f"{name} {unit.format(known[-1])}", colour))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.set_xticks(epochs)
    if len(ends) == 2 and ends[0][0] < ends[1][0]:
        ends.reverse()
    if ends:
        axes.set_ylim(bottom=lowest)
    low, high = axes.get_ylim()
    too_close = len(ends) == 2 and ends[0][0] - ends[1][0] < 0.09 * (high - low)  # a line of text
    for place, (height, words, colour) in enumerate(ends):
        raised = 0.0 if not too_close else (6.5, -6.5)[place]  # points
        axes.annotate(
            words, (1, height), (6, raised), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", color=colour, fontweight="bold", fontsize=10, annotation_clip=False,
        )  # fmt: skip

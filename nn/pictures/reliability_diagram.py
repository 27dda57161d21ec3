"""A picture of how well a network's probabilities hold: accuracy against confidence, and how many rows have it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ..network.metrics import Calibration
from .style import FAINT_COLOUR, INK_COLOUR, TEST_COLOUR, TRAIN_COLOUR, save_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIAGRAM_SIZE = (4.8, 5.6)  # inches


def save_reliability_diagram(calibration: Calibration, path: str | os.PathLike[str]) -> None:
    """Save a reliability diagram.

    Args:
        calibration: what `metrics.calibration_error` gives.
        path: as for `curves.save_curves`.

    Raises:
        ConfigError, RunError, MissingDependency: as for `curves.save_curves`.
    """
    save_picture(lambda figure: draw_reliability_diagram(figure, calibration), path)


def draw_reliability_diagram(figure: Figure, calibration: Calibration) -> None:
    """Draw the accuracy of each bin against its mean confidence, and the bins' rows below; see the saving function."""
    bins, width = len(calibration.rows), 1 / len(calibration.rows)
    starts = np.arange(bins) * width  # (bins,)
    has_rows = calibration.rows > 0  # (bins,)
    confidence, accuracy = calibration.confidence[has_rows], calibration.accuracy[has_rows]  # (bins with rows,) each
    figure.clear()
    figure.set_size_inches(*DIAGRAM_SIZE)
    figure.set_layout_engine("constrained", h_pad=0.06)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    upper.plot([0, 1], [0, 1], color=FAINT_COLOUR, linestyle=(0, (4, 1.5)), linewidth=1.2)
    upper.bar(starts[has_rows], accuracy, width, align="edge", color=TRAIN_COLOUR, edgecolor="white")
    # the gap is drawn where the rows are, not in the middle of their bin
    upper.vlines(confidence, accuracy, confidence, color=TEST_COLOUR, linewidth=2)
    upper.plot(confidence, confidence, "o", color=TEST_COLOUR, markersize=3.5)
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.set_ylabel("share of rows that are right")
    upper.set_title(f"calibration error {100 * calibration.error:.2f} %", loc="left")
    upper.annotate(
        "below the line:\nmore sure than right", (0.03, 0.97), xycoords="axes fraction", va="top",
        fontsize=9, color=INK_COLOUR,
    )  # fmt: skip
    lower.bar(starts, calibration.rows / max(int(calibration.rows.sum()), 1), width, align="edge", color=FAINT_COLOUR)
    lower.set_ylabel("share of rows")
    lower.set_xlabel("probability of the predicted class")

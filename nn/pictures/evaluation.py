"""Plots of an evaluation: confusion matrix, reliability diagram, worst mistakes, and predictions of a regression.

Each function draws on a figure; `style.save_picture` creates the figure and saves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...backends import DataError
from ..network.metrics import Calibration
from .style import FAINT_COLOUR, INK_COLOUR, TEST_COLOUR, TRAIN_COLOUR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 100  # cells and pixels grow with the square
DIAGRAM_SIZE = (4.8, 5.6)  # inches
SQUARE_SIZE = 4.8  # inches
MOST_MISTAKES = 25  # in one picture


def draw_confusion_matrix(figure: Figure, matrix: npt.NDArray[np.integer[Any]], class_names: Sequence[str]) -> None:
    """Draw a confusion matrix, shaded by the fractions of each row.

    Args:
        figure: figure to draw on.
        matrix: counts, (true class, predicted class).
        class_names: one name per class, 2 to 100.

    Raises:
        DataError: there are too few or too many classes.
    """
    from matplotlib.colors import PowerNorm

    num_classes = len(class_names)
    if not 2 <= num_classes <= MAX_CLASSES:
        raise DataError(f"a confusion matrix is drawn for 2 to {MAX_CLASSES} classes, got {num_classes}")
    digits = len(str(matrix.max()))
    cell = max(0.34, 0.092 * digits + 0.1, 3.6 / num_classes)  # inches, room for the longest count and the title
    figure.clear()
    longest = max(len(name) for name in class_names)
    figure.set_size_inches(num_classes * cell + 1.6 + 0.08 * longest, num_classes * cell + 1.5 + 0.05 * longest)
    figure.set_layout_engine("compressed")
    axes = figure.subplots()
    rows = matrix.sum(axis=1, keepdims=True)  # (true classes, 1)
    shares = matrix / np.maximum(rows, 1)  # (true classes, predicted classes)
    # the square root of the share, so that a mistake in a hundred can be seen beside 99 hits
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    for (true, predicted), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if shares[true, predicted] > 0.3 else INK_COLOUR
            axes.text(predicted, true, str(count), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(num_classes), class_names, rotation=90 if longest > 3 else 0)
    axes.set_yticks(range(num_classes), class_names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(num_classes - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(num_classes - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    correct, total = int(np.trace(matrix)), int(matrix.sum())
    axes.set_title(f"{correct} of {total} correct" + (f", {100 * correct / total:.2f} %" if total else ""), loc="left")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, ticks=[0, 0.01, 0.1, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "10 %", "50 %", "100 %"])
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)


def draw_predictions(figure: Figure, labels: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> None:
    """Draw the predictions of a regression against the labels, with the line on which both are equal.

    Args:
        figure: figure to draw on.
        labels: (samples, outputs).
        predictions: likewise, in the same units.
    """
    ends = [float(min(labels.min(), predictions.min())), float(max(labels.max(), predictions.max()))]
    figure.clear()
    figure.set_size_inches(SQUARE_SIZE, SQUARE_SIZE)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.plot(ends, ends, color=FAINT_COLOUR, linewidth=1)
    axes.scatter(labels, predictions, s=8, alpha=0.5, linewidths=0, color=TEST_COLOUR)
    axes.set_xlabel("label")
    axes.set_ylabel("prediction")


def draw_worst_mistakes(
    figure: Figure,
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    probabilities: npt.NDArray[np.floating[Any]],
    class_names: Sequence[str],
    image_shape: tuple[int, int],
) -> None:
    """Draw the misclassified rows with the lowest probabilities of the true class, at most 25.

    Args:
        figure: figure to draw on.
        images: (samples, features).
        labels: true classes, (samples,).
        probabilities: predicted probabilities, (samples, classes), in [0, 1].
        class_names: one name per class.
        image_shape: (rows, columns) of an image.
    """
    predicted = probabilities.argmax(axis=1)  # (samples,)
    mistakes = np.flatnonzero(predicted != labels)  # (mistakes,)
    of_truth = probabilities[mistakes, labels[mistakes]]  # (mistakes,)
    worst = mistakes[np.argsort(of_truth, kind="stable")[:MOST_MISTAKES]]  # (shown,)
    columns = min(5, max(3, len(worst)))
    lines = max(1, -(-len(worst) // columns))
    figure.clear()
    figure.set_size_inches(1.75 * columns, 2.1 * lines + 0.9)
    figure.set_layout_engine("constrained", h_pad=0.06)
    figure.suptitle(f"{len(mistakes)} mistakes in {len(labels)} rows", fontweight="bold")
    if not len(worst):
        figure.text(0.5, 0.45, "no mistakes", ha="center", va="center", fontsize=16, color=FAINT_COLOUR)
        return
    figure.supxlabel("true class → predicted class, and the probability given to it", fontsize=10)
    brightest = images[worst].max()
    for place, row in enumerate(worst, start=1):
        axes = figure.add_subplot(lines, columns, place)
        axes.imshow(images[row].reshape(image_shape), cmap="gray", vmin=0, vmax=brightest)  # (rows, columns)
        axes.set_axis_off()
        true, taken_for = (_shorten(class_names[k]) for k in (labels[row], predicted[row]))
        parting = " " if len(true + taken_for) <= 10 else "\n"
        axes.set_title(f"{true}{parting}→ {taken_for}, {probabilities[row, predicted[row]]:.2f}", fontsize=10)


def draw_reliability_diagram(figure: Figure, calibration: Calibration) -> None:
    """Draw a reliability diagram: accuracy against mean confidence, and below it the fraction of rows, in each bin."""
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


def _shorten(name: str) -> str:
    """Shorten a name to the width of an image."""
    return name if len(name) <= 14 else name[:13] + "…"

"""Pictures of a training run: its curves, which classes it confuses, and what it gets most wrong.

Each picture is drawn by a function that returns the figure, and saved by one that writes it to a file.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..backends import ConfigError, DataError, MissingDependency
from .files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .history import EpochResult

TRAIN_COLOUR = "#0072B2"  # blue and vermilion of the palette for colour-blind readers, Okabe and Ito,
TEST_COLOUR = "#D55E00"  # "Color Universal Design", https://jfly.uni-koeln.de/color/
INK_COLOUR = "#333333"
FAINT_COLOUR = "#999999"
STYLE = {
    "axes.edgecolor": FAINT_COLOUR,
    "axes.grid": False,
    "axes.labelcolor": INK_COLOUR,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK_COLOUR,
    "figure.facecolor": "white",
    "font.size": 11.0,
    "text.color": INK_COLOUR,
    "text.parse_math": False,  # a dollar in a class name is a dollar
    "xtick.color": INK_COLOUR,
    "ytick.color": INK_COLOUR,
}
DOTS_PER_INCH = 150
CURVES_SIZE = (9.6, 3.8)  # inches
MAX_MARKED_EPOCHS = 30  # up to here each epoch is a visible point
MAX_CLASSES = 100  # cells and pixels grow with the square


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

    _save(draw, path)


def save_confusion_matrix(
    matrix: npt.NDArray[np.integer[Any]], class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Save a picture of how often each class is taken for each other.

    Args:
        matrix: counts, (true class, predicted class).
        class_names: one name a class, 2 to 100 of them.
        path: as for `save_curves`.

    Raises:
        DataError: the matrix is not square, has no row and column for each name, or a negative count.
        ConfigError, RunError, MissingDependency: as for `save_curves`.
    """
    _save(lambda figure: draw_confusion_matrix(figure, matrix, class_names), path, crop=True)


def save_worst_mistakes(
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    probabilities: npt.NDArray[np.floating[Any]],
    class_names: Sequence[str],
    image_shape: tuple[int, int] | None,
    path: str | os.PathLike[str],
    *,
    count: int = 25,
) -> bool:
    """Save a picture of the misclassified rows whose true class was given the lowest probabilities.

    Args:
        images: (samples, features).
        labels: the true classes, (samples,).
        probabilities: those that the network gives, (samples, classes), in [0, 1].
        class_names: one name a class.
        image_shape: (rows, columns) of one image, or None where the features are no picture.
        path: as for `save_curves`.
        count: how many images to show at most.

    Returns:
        Whether a picture was saved: False where `image_shape` is None.

    Raises:
        DataError: the arrays do not fit together.
        ConfigError: `count` is not positive, or the path as for `save_curves`.
        RunError, MissingDependency: as for `save_curves`.
    """
    if image_shape is None:
        return False
    _save(
        lambda figure: draw_worst_mistakes(
            figure, images, labels, probabilities, class_names, image_shape, count=count
        ),
        path,
    )
    return True


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


def draw_confusion_matrix(figure: Figure, matrix: npt.NDArray[np.integer[Any]], class_names: Sequence[str]) -> None:
    """Draw the counts on a figure, each row shaded by its shares; arguments as for `save_confusion_matrix`."""
    from matplotlib.colors import PowerNorm

    num_classes = len(class_names)
    if not 2 <= num_classes <= MAX_CLASSES:
        raise DataError(f"a confusion matrix is drawn for 2 to {MAX_CLASSES} classes, got {num_classes}")
    if matrix.shape != (num_classes, num_classes):
        raise DataError(f"matrix must be {(num_classes, num_classes)}, a row and a column a class; got {matrix.shape}")
    if matrix.min() < 0:
        raise DataError(f"matrix must hold counts from 0, got {matrix.min()}; count rows per (true, predicted) class")
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


def draw_worst_mistakes(
    figure: Figure,
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    probabilities: npt.NDArray[np.floating[Any]],
    class_names: Sequence[str],
    image_shape: tuple[int, int],
    *,
    count: int = 25,
) -> None:
    """Draw the worst mistakes on a figure as a grid; arguments as for `save_worst_mistakes`."""
    if count < 1:
        raise ConfigError(f"count must be at least 1, got {count}")
    wanted = (len(labels), image_shape[0] * image_shape[1]), (len(labels), len(class_names))
    if (images.shape, probabilities.shape) != wanted:
        raise DataError(
            f"images and probabilities must be {wanted[0]} and {wanted[1]}, a row a label; "
            f"got {images.shape} and {probabilities.shape}"
        )
    predicted = probabilities.argmax(axis=1)  # (samples,)
    mistakes = np.flatnonzero(predicted != labels)  # (mistakes,)
    of_truth = probabilities[mistakes, labels[mistakes]]  # (mistakes,)
    worst = mistakes[np.argsort(of_truth, kind="stable")[:count]]  # (shown,)
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


def _shorten(name: str) -> str:
    """Cut a name that would run into the next picture."""
    return name if len(name) <= 14 else name[:13] + "…"


def _draw_lines(
    axes: Axes, epochs: list[int], unit: str, series: dict[str, Sequence[float | None]], *, lowest: float | None
) -> None:
    """Draw a line for each series that has values, and write the last value at its end."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    marker = "o" if len(epochs) <= MAX_MARKED_EPOCHS else ""
    ends = []
    for (name, values), colour, dashes in zip(
        series.items(), (TRAIN_COLOUR, TEST_COLOUR), ("solid", (0, (4, 1.5))), strict=True
    ):
        heights = np.array([np.nan if v is None else v for v in values], dtype=np.float64)  # (epochs,)
        known = heights[np.isfinite(heights)]
        if len(known):
            axes.plot(
                epochs, heights, color=colour, linestyle=dashes, marker=marker, markersize=4, linewidth=1.8, label=name
            )
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


def _save(draw: Callable[[Figure], None], path: str | os.PathLike[str], *, crop: bool = False) -> None:
    """Draw on a new figure in this module's style, and write it in the format that the suffix names."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target = Path(path)
    formats = FigureCanvasAgg.get_supported_filetypes()
    suffix = target.suffix[1:].lower()
    if suffix not in formats:
        raise ConfigError(f"{target} has no suffix of a picture that can be written; use one of {', '.join(formats)}")
    content = io.BytesIO()
    with picture_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a class name in a script that the font lacks
        figure = Figure()
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(content, format=suffix, dpi=DOTS_PER_INCH, bbox_inches="tight" if crop else None)
    write_atomically(target, content.getvalue())


def require_matplotlib() -> None:
    """Make sure that matplotlib can be imported.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependency('drawing needs matplotlib: pip install "xpnn[cli]"') from error


def picture_style() -> AbstractContextManager[None]:
    """Give the context in which to draw: the same pictures whatever the user's own matplotlib settings."""
    import matplotlib.style

    return matplotlib.style.context(["default", STYLE])

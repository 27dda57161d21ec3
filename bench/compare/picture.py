"""Plot of a sweep: epoch time against hidden width and batch size, one line per contestant."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...backends import ConfigError
from ...nn.pictures.style import FAINT_COLOUR, save_picture
from .contestants import ALL_PEERS, title_of
from .workloads import BATCH_SIZES_OF_WIDTHS, TRAIN_ROWS, WIDTHS_OF_BATCH_SIZES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (11.5, 7.6)  # inches
COLOURS = {  # of the palette for colour-blind readers, Okabe and Ito; ours are the strong ones
    "script": "#999999",
    "sklearn": "#E69F00",
    "torch": "#CC79A7",
    "torch-compile": "#F0E442",
    "jax": "#009E73",
    "numpy": "#56B4E9",
    "numba": "#0072B2",
    "cupy": "#D55E00",
}
Points = dict[str, dict[tuple[int, int], float]]  # contestant -> (width, batch size) -> seconds


def sweep_points(content: Mapping[str, Any]) -> Points:
    """Return the median seconds per epoch of 60,000 rows; shorter epochs are scaled up."""
    points: Points = {}
    for entry in content["workloads"].values():
        workload = entry["workload"]
        place = workload["sizes"][1], workload["batch_size"]
        for name, figures in entry["contestants"].items():
            if "failed" not in figures:
                seconds = figures["median_seconds"] * TRAIN_ROWS / entry["train_rows"]
                points.setdefault(name, {})[place] = seconds
    return points


def save_sweep_picture(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Plot a sweep and save it in a format of matplotlib.

    Raises:
        ConfigError: there are no points.
        RunError: the file cannot be written.
    """
    points = sweep_points(content)
    if not points:
        raise ConfigError("there is nothing to draw: no contestant has finished a workload of the sweep")

    def draw(figure: Figure) -> None:
        figure.set_size_inches(*SIZE)
        figure.set_layout_engine("constrained", h_pad=0.08)
        machine = f"{content['hardware']['processor']}, {content['threads']} threads, {content['date'][:10]}"
        figure.suptitle(f"Time of an epoch, 784-width-10 on 60,000 rows: {machine}")
        panels = figure.subplots(2, 3, sharey=True)
        for axes, batch in zip(panels[0], BATCH_SIZES_OF_WIDTHS, strict=True):
            _draw(axes, points, fixed=1, value=batch, title=f"batch {batch:,}", label="hidden width")
        for axes, width in zip(panels[1], WIDTHS_OF_BATCH_SIZES, strict=True):
            _draw(axes, points, fixed=0, value=width, title=f"width {width:,}", label="batch size")
        handles = {line.get_label(): line for axes in panels.flat for line in axes.get_lines()}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)

    save_picture(draw, path)


def _draw(axes: Axes, points: Points, *, fixed: int, value: int, title: str, label: str) -> None:
    """Draw one panel: points of fixed width (`fixed` 0) or batch size (1) `value`, against the other."""
    for name, seconds in points.items():
        line = sorted((place[1 - fixed], time) for place, time in seconds.items() if place[fixed] == value)
        ours = name not in ALL_PEERS
        axes.plot(
            [place for place, _ in line],
            [time for _, time in line],
            label=title_of(name),
            color=COLOURS.get(name, "#000000"),
            linewidth=2.4 if ours else 1.4,
            linestyle="-" if ours else "--",
            marker="o",
            markersize=4 if ours else 3,
        )
    axes.set(xscale="log", yscale="log", title=title, xlabel=label)
    ticks = sorted({place[1 - fixed] for seconds in points.values() for place in seconds if place[fixed] == value})
    axes.set_xticks(ticks, [str(tick) if tick < 1000 else f"{tick / 1000:.0f}k" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(True, color=FAINT_COLOUR, alpha=0.3, linewidth=0.6)
    axes.yaxis.set_major_formatter("{x:g} s")

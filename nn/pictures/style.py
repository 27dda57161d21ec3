"""Colours and style of plots, and saving of figures."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...backends import ConfigError, MissingDependency
from ...backends.working_folder import edited
from ..files.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Blue, vermilion and bluish green of the palette for colour-blind readers: Okabe and Ito, "Color Universal Design",
# https://jfly.uni-koeln.de/color/
TRAIN_COLOUR = "#0072B2"
TEST_COLOUR = "#D55E00"
VALIDATION_COLOUR = "#009E73"
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


def save_picture(draw: Callable[[Figure], None], path: str | os.PathLike[str], *, crop: bool = False) -> None:
    """Draw on a new figure in this module's style and save it in the format of the suffix.

    Args:
        draw: function that draws on an empty figure.
        path: file in a format of matplotlib (png, svg, pdf), written atomically.
        crop: whether to crop the figure to its contents.

    Raises:
        ConfigError: the suffix is not supported, or matplotlib's settings are damaged.
        RunError: the file cannot be written.
        MissingDependency: matplotlib is not installed.
    """
    try:
        style = picture_style()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(f'drawing needs matplotlib ({error}): pip install "xpnn[cli]"') from error
    target = Path(path)
    formats = FigureCanvasAgg.get_supported_filetypes()
    suffix = target.suffix[1:].lower()
    if suffix not in formats:
        raise ConfigError(f"{target} has no suffix of a picture that can be written; use one of {', '.join(formats)}")
    content = io.BytesIO()
    with style, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a class name in a script that the font lacks
        figure = Figure()
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(content, format=suffix, dpi=DOTS_PER_INCH, bbox_inches="tight" if crop else None)
    write_atomically(target, content.getvalue())


def picture_style() -> AbstractContextManager[None]:
    """Return a context with this module's style, independent of the user's matplotlib settings."""
    import_matplotlib()
    import matplotlib.style

    return matplotlib.style.context(["default", STYLE])


def import_matplotlib() -> None:
    """Import matplotlib without what the working folder or a notebook's environment says.

    A file `matplotlibrc` in the working folder is not read, as matplotlib 3.10 lets it run code. MPLBACKEND, which a
    notebook sets for all that it starts in whatever environment, may name a backend that is not installed: pictures are
    drawn by Agg without asking for it. Other settings, of the user and by MATPLOTLIBRC, count where no style of ours is
    set.

    Raises:
        ImportError: matplotlib is not installed.
        ConfigError: there is a matplotlibrc that it cannot read.
    """
    if "matplotlib" in sys.modules:
        return
    chosen = os.environ.pop("MPLBACKEND", None)
    try:
        with edited("matplotlib", "yield 'matplotlibrc'", "yield from ()", file="matplotlibrc"):
            import matplotlib
    except (ValueError, OSError) as error:
        raise ConfigError(f"matplotlib cannot be imported: {error}; correct or remove its file matplotlibrc") from error
    finally:
        if chosen is not None:
            os.environ["MPLBACKEND"] = chosen
    if chosen:
        with suppress(ValueError):  # as matplotlib does
            matplotlib.rcParams["backend"] = chosen

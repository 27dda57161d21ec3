"""Image files as grey levels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError, MissingDependency
from ..files import limits
from ..files.data_file import opened

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.float32]

# Pillow knows forty more; for one of them, EPS, it starts Ghostscript, which runs the program that the file is.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
# Full white in pictures of wide numbers, the first that no level is above: a 16-bit file may hold the levels of 8 bits,
# or the 10, 12 or 14 bits of a camera, and floating numbers may be in [0, 1].
FULL_LEVELS = (1.0, *(float(2**bits - 1) for bits in (8, 10, 12, 14, 16)))
WORKING_SIDE = 1024  # a longer picture is first shrunk to this: finer detail is lost in 28 pixels anyway


def read_grey(path: Path) -> Pixels:
    """Read an image file as grey levels.

    Args:
        path: a file in one of the `FORMATS`, of any size; transparent parts are white.

    Returns:
        The levels, (height, width), in [0, 255]; an image longer than `WORKING_SIDE` is shrunk to it.

    Raises:
        DataError: the file cannot be read, is empty, not an image, damaged, or exceeds `limits`.
        MissingDependency: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise MissingDependency('reading images needs Pillow: pip install "xpnn[cli]"') from error
    too_large = f"{path} has more than {limits.PICTURE_PIXELS} pixels; scale the image down or crop it to the digit"
    with opened(path) as (file, size), warnings.catch_warnings():
        if size == 0:
            raise DataError(f"{path} is empty (0 bytes); give an image file, for instance a PNG")
        if size > limits.PICTURE_BYTES:
            raise DataError(
                f"{path} has {size} bytes, more than the limit of {limits.PICTURE_BYTES}; scale the image down"
            )
        warnings.simplefilter("ignore")  # what Pillow says of odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=FORMATS) as picture:
                if 0 in picture.size:
                    raise DataError(f"{path} has no pixels ({picture.width}x{picture.height}); save it again")
                if picture.width * picture.height > limits.PICTURE_PIXELS:
                    raise DataError(too_large)
                ImageOps.exif_transpose(picture, in_place=True)  # else it makes a copy, turned or not
                return _shrink(_to_grey(picture), WORKING_SIDE)
        except DataError:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(too_large) from error
        except UnidentifiedImageError as error:
            raise DataError(f"{path} is no image in a supported format; give one of {', '.join(FORMATS)}") from error
        except Exception as error:  # decoders raise whatever they trip over in a broken file
            raise DataError(f"{path} is a damaged image ({error!s:.200}); save it again") from error


def resize(levels: Pixels, shape: tuple[int, int]) -> Pixels:
    """Resize grey levels, by area averaging to shrink and Lanczos to enlarge.

    Args:
        levels: (height, width).
        shape: (rows, columns) of the result, at least 1 each.

    Returns:
        The scaled levels, (rows, columns).
    """
    from PIL import Image

    rows, columns = (max(1, side) for side in shape)
    way = Image.Resampling.BOX if rows <= levels.shape[0] else Image.Resampling.LANCZOS
    scaled = Image.fromarray(np.ascontiguousarray(levels)).resize((columns, rows), way)
    return np.asarray(scaled, dtype=np.float32)  # (rows, columns)


def _to_grey(picture: Image.Image) -> Pixels:
    """Convert an image of any mode to grey levels, (height, width), in [0, 255]."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits
        levels = np.nan_to_num(np.asarray(picture, dtype=np.float32), posinf=0, neginf=0)  # (height, width)
        peak = float(levels.max())
        full = next((full for full in FULL_LEVELS if full >= peak), peak)
        return (levels.clip(0) * np.float32(255 / full)).astype(np.float32)
    if picture.mode == "LAB":
        return np.asarray(picture.getchannel("L"), dtype=np.float32)
    if "A" in picture.mode.upper() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        for paper in ("white", "black"):  # black only for white ink, which cannot be seen on white
            sheet = Image.alpha_composite(Image.new("RGBA", rgba.size, paper), rgba)
            grey = np.asarray(sheet.convert("L"), dtype=np.float32)  # (height, width)
            if np.ptp(grey) > 0:
                break
        return grey
    return np.asarray(picture.convert("L"), dtype=np.float32)


def _shrink(grey: Pixels, longest: int) -> Pixels:
    """Shrink by area averaging until no side is longer than `longest`."""
    factor = longest / max(grey.shape)
    return grey if factor >= 1 else resize(grey, (round(grey.shape[0] * factor), round(grey.shape[1] * factor)))

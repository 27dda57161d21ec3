"""Preprocessing of images of digits to inputs like the training data.

MNIST's digits are light ink on black, scaled with their aspect ratio to a box of 20x20 pixels, and centred by mass in
28x28 (LeCun, Cortes and Burges, "The MNIST database of handwritten digits", http://yann.lecun.com/exdb/mnist/).
`load_digit` does the same for scans, photographs and drawings.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ...backends.errors import ConfigError, DataError
from .grey_image import Pixels, read_grey, resize

MIN_CONTRAST = 12  # of 255 levels; less than this is the texture of the paper, not ink
NOISE_FACTOR = 6  # ink stands out of the background by this many standard deviations of its noise
SMALL_SIDE = 16  # pixels; shorter frames are made like the 8x8 digits, the others like MNIST
EDGE = 0.2  # of the full ink: where the ink begins in a picture with pixels to spare
THIN_STROKE = 1.3  # pixels of the frame; 99 % of the first 600 test rows of MNIST are drawn with broader strokes
PEN_WIDTH = 2.0  # pixels of the frame, what thinner ones are widened to; the middle of those rows is 2.3
DUST = 0.03  # a blot with less ink than this share of the largest one is no part of the digit


def load_digit(
    path: str | os.PathLike[str], *, image_shape: tuple[int, int], largest: int = 255
) -> npt.NDArray[np.uint8]:
    """Load an image of a digit as an input like the training data, light ink on black.

    An image of the right shape with a dark background is returned unchanged. For others the background is removed, and
    the ink is cropped, scaled to the content box and centred by mass; dark ink is inverted. The box is 20/28 of each
    side from 16 pixels on, as in MNIST, and the whole image if smaller, as in the 8x8 digits.

    Args:
        path: a file in one of the `grey_image.FORMATS`, of any size; transparent parts are white.
        image_shape: (rows, columns) of the training images.
        largest: value of full ink in the training data: 255 for MNIST, 16 for the 8x8 digits.

    Returns:
        The pixels, (rows * columns,), in [0, largest].

    Raises:
        DataError: the file cannot be read, is empty, not an image, too large, or without ink.
        ConfigError: `image_shape` or `largest` is invalid.
        MissingDependency: Pillow is not installed.
    """
    box = content_box(image_shape)
    scale_to(np.zeros(1, dtype=np.uint8), largest)  # a wrong `largest` is told before any work
    grey = read_grey(Path(path))  # (height, width)
    units = largest if grey.max() <= largest else 255  # the picture may be written in those of the data set
    if np.ptp(grey) == 0:
        raise _no_ink(path)
    if grey.shape != image_shape or not _has_dark_background(grey):
        spare = min(grey.shape) >= 2 * max(image_shape)
        ink = _find_ink(grey, with_pixels_to_spare=spare)  # (ink rows, ink columns)
        if ink is None:
            raise _no_ink(path)
        if spare:
            ink = _widen(ink, min(box[0] / ink.shape[0], box[1] / ink.shape[1]))  # (ink rows, ink columns)
        grey = 255 * _frame(ink, box, image_shape)  # (rows, columns)
    elif np.ptp(grey) < MIN_CONTRAST * units / 255:
        raise _no_ink(path)
    elif units == largest:
        return np.rint(grey).astype(np.uint8).reshape(-1)  # (rows * columns,)
    return scale_to(np.rint(grey).astype(np.uint8).reshape(-1), largest)  # (rows * columns,)


def scale_to(row: npt.NDArray[np.uint8], largest: int) -> npt.NDArray[np.uint8]:
    """Scale 8-bit pixels to the range of the training data.

    Args:
        row: pixels of any shape, in [0, 255].
        largest: value that 255 is mapped to; the network's input scale is 1 / largest.

    Returns:
        Pixels in the same shape, in [0, largest], rounded.

    Raises:
        ConfigError: `largest` is not in [1, 255].
    """
    if not 1 <= largest <= 255:
        raise ConfigError(f"largest must be in [1, 255], got {largest}; use 255 for MNIST and 16 for the 8x8 digits")
    scaled: npt.NDArray[np.uint8] = np.rint(row * (largest / 255)).astype(np.uint8)
    return scaled


def content_box(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the (rows, columns) of the content box."""
    if min(image_shape) < 1:
        raise ConfigError(f"image_shape must be two sides of at least 1 pixel, got {image_shape}")
    rows, columns = (round(side * 20 / 28) if side >= SMALL_SIDE else side for side in image_shape)
    return rows, columns


def _no_ink(path: str | os.PathLike[str]) -> DataError:
    return DataError(f"no ink found in {path}: it is uniform or too faint; give a picture with one clear digit")


def _border(grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the border pixels, in a ring of 1/20 of the shorter side: (pixels, ...)."""
    ring = np.ones(grey.shape[:2], dtype=bool)  # (height, width)
    width = max(1, min(ring.shape) // 20)
    ring[width:-width, width:-width] = False
    pixels: npt.NDArray[Any] = grey[ring]
    return pixels


def _has_dark_background(grey: Pixels) -> bool:
    """Return whether the border or the corners are dark; a garment may fill one, a stroke may touch the other."""
    corners = grey[[0, 0, -1, -1], [0, -1, 0, -1]]  # (4,)
    return bool(min(np.median(_border(grey)), np.median(corners)) < 127.5)


def _background(grey: Pixels) -> Pixels:
    """Fit the background: a plane through the border, then a quadratic through all pixels near it.

    Pixels beyond 2.5 robust standard deviations (1.4826 times the median absolute deviation) are excluded from the next
    fit, so that ink at the border does not distort it.
    """
    height, width = grey.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)  # (height, width, 6)
    surface = np.full(grey.shape, np.median(_border(grey)))  # (height, width)
    everywhere = max(1, grey.size // 5_000)  # enough pixels for six numbers
    for num_terms in (3, 3, 3, 6, 6):
        if num_terms == 3:
            samples, levels, off = _border(terms), _border(grey), _border(grey - surface)
        else:
            samples = terms.reshape(-1, 6)[::everywhere]
            levels, off = grey.reshape(-1)[::everywhere], (grey - surface).reshape(-1)[::everywhere]
        near = np.abs(off) <= max(2.5 * _spread(_border(grey - surface)), 2.0)
        if near.sum() > 2 * num_terms:
            weights = np.linalg.lstsq(samples[near, :num_terms], levels[near], rcond=None)[0]  # (num_terms,)
            surface = terms[:, :, :num_terms] @ weights  # (height, width)
    return surface.astype(np.float32)


def _spread(values: npt.NDArray[Any]) -> float:
    """Estimate the standard deviation robustly."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _find_ink(grey: Pixels, *, with_pixels_to_spare: bool) -> Pixels | None:
    """Separate ink from background: (ink rows, ink columns) in [0, 1], cropped; None without ink."""
    signal = grey - _background(grey)  # (height, width)
    smooth = ndimage.uniform_filter(signal, 3) if with_pixels_to_spare else signal  # (height, width)
    if np.sum(smooth.astype(np.float64) ** 3) < 0:  # ink is rare and strong: the long tail tells its sign
        signal, smooth = -signal, -smooth
    top = float(smooth.max())
    floor = max(NOISE_FACTOR * _spread(_border(smooth)), MIN_CONTRAST)
    if top <= floor:
        return None
    blots, num_blots = ndimage.label(
        smooth > (max(floor, EDGE * top) if with_pixels_to_spare else floor), np.ones((3, 3))
    )
    mass = ndimage.sum_labels(smooth, blots, np.arange(num_blots + 1))  # (num_blots + 1,); 0 is the background
    mass[0] = 0
    mask = (mass >= DUST * mass.max())[blots] & (blots > 0)  # (height, width)
    core = mask
    if with_pixels_to_spare:
        mask = ndimage.binary_dilation(mask, iterations=2)  # the faint outer pixels of smooth edges
    strong = signal[mask & (smooth > smooth[mask].max() / 2)]  # (pixels,)
    full_ink = max(float(np.percentile(strong, 75)), top / 2)
    ink = np.where(mask, signal / full_ink, 0).clip(0, 1).astype(np.float32)  # (height, width)
    solid = core & (ink > (EDGE if with_pixels_to_spare else 0))  # (height, width)
    if not solid.any():
        return None  # specks, each of them alone
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # (ink rows, ink columns)


def _widen(ink: Pixels, factor: float) -> Pixels:
    """Dilate strokes that would be thinner than MNIST's after scaling by `factor`."""
    inside = ndimage.distance_transform_edt(np.pad(ink > 0.5, 1))  # (ink rows + 2, ink columns + 2)
    # across a band of w pixels the distances to the outside are 1, 2 .. w/2, w/2 .. 2, 1, in the mean w/4 + 1/2
    width = 4 * float(inside[inside > 0].mean()) - 2
    if width * factor >= THIN_STROKE:
        return ink
    reach = (PEN_WIDTH / factor - width) / 2  # pixels on either side
    wider = np.pad(ink, int(np.ceil(reach)))  # (ink rows, ink columns), grown by the reach
    outside = ndimage.distance_transform_edt(wider <= 0.5).astype(np.float32)  # the same shape
    drawn: Pixels = (reach + 1 - outside).clip(0, 1)
    return np.maximum(drawn, wider, out=drawn)


def _frame(ink: Pixels, box: tuple[int, int], image_shape: tuple[int, int]) -> Pixels:
    """Scale the ink to the box and centre it by mass in a black frame, as far as it fits.

    Frames from 16 pixels on use whole-pixel shifts, as in MNIST. For smaller frames the ink is centred at its original
    resolution before scaling.
    """
    factor = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    if min(image_shape) >= SMALL_SIDE:
        content = resize(ink, (round(ink.shape[0] * factor), round(ink.shape[1] * factor)))
        # the middle is pixel 14 of 0..27: over MNIST's test rows the centre averages 14.0 and lies in [13.5, 14.5)
        frame = _place(content, image_shape, (image_shape[0] / 2, image_shape[1] / 2))  # (rows, columns)
    else:
        height, width = (max(round(image_shape[k] / factor), ink.shape[k]) for k in (0, 1))
        # the centre of the 8x8 digits averages 3.5 and 3.6 of 0..7
        sheet = _place(ink, (height, width), ((height - 1) / 2, (width - 1) / 2))  # (height, width)
        frame = resize(sheet, image_shape)  # (rows, columns)
    strong: Pixels = frame / frame.max()  # strokes that became thin and faint get their full strength back
    return strong.clip(0, 1)


def _place(content: Pixels, shape: tuple[int, int], middle: tuple[float, float]) -> Pixels:
    """Place the content on a black sheet, centred by mass to half a pixel if it fits."""
    sheet = np.zeros(shape, dtype=np.float32)  # (height, width)
    centres = ndimage.center_of_mass(content)
    top, left = (
        int(np.clip(np.ceil(middle[axis] - centres[axis] - 0.5), 0, shape[axis] - content.shape[axis]))
        for axis in (0, 1)
    )
    sheet[top : top + content.shape[0], left : left + content.shape[1]] = content
    return sheet

"""`xpnn predict`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rich_click as click

from ...backends import DataError
from ..network.model_file import load
from ..pictures.digit_images import load_digit
from .options import UserPath, backend_option, examples, json_option, model_argument, model_path

COLUMNS = 80
LONGEST_BAR = 30  # characters, for a probability of 1


@click.command(epilog=examples("xpnn predict runs/mnist-98 seven.png", "xpnn predict runs/mnist-98 *.png --json"))
@model_argument
@click.argument("images", nargs=-1, required=True, type=UserPath(), metavar="IMAGE...")
@backend_option
@json_option
def predict(model: Path, images: tuple[Path, ...], backend: str, as_json: bool) -> None:
    """Print the class probabilities of image files.

    An IMAGE may have any size and shows one figure, dark on light or light on dark; it is cropped, scaled and centred
    like the training images.
    """
    net = load(model_path(model), backend=backend)
    if net.image_shape is None:
        raise DataError(f"{model} was not trained on images, but on rows of {net.features} features")
    if net.input_scale == 1:
        raise DataError(
            f"{model} was trained on images of floating numbers, and has no known value of full ink: train it "
            "on whole numbers in [0, 255], or scale your rows yourself and call net.predict"
        )
    largest = round(1 / net.input_scale)  # the value of full ink in the training images
    rows = np.stack(
        [load_digit(path, image_shape=net.image_shape, largest=largest) for path in images]
    )  # (n, features)
    probabilities = net.predict_proba(rows)  # (n, classes)
    if net.outputs.has_classes:
        predictions = [net.names[k] for k in probabilities.argmax(axis=1)]
    else:  # each row may have several labels, or none
        is_label = net.predict(rows) == 1  # (n, outputs)
        predictions = [", ".join(np.array(net.names)[row]) or "none of the labels" for row in is_label]
    if as_json:
        results = [
            {"image": str(path), "prediction": name, "probabilities": dict(zip(net.names, row.tolist(), strict=True))}
            for path, name, row in zip(images, predictions, probabilities, strict=True)
        ]
        click.echo(json.dumps({"predictions": results}))
        return
    for path, name, row in zip(images, predictions, probabilities, strict=True):  # row: (classes,)
        click.echo(f"{path}: {name} ({row.max():.3f})")
        for line in _bars(net.names, row.tolist()):
            click.echo(line)


def _bars(names: Sequence[str], probabilities: Sequence[float]) -> Iterator[str]:
    """Yield an aligned line for each class, at most `COLUMNS` wide if names permit."""
    width = max(map(len, names))
    longest = max(min(LONGEST_BAR, COLUMNS - len(f"  {'':{width}}  0.000 ")), 0)
    for name, probability in zip(names, probabilities, strict=True):
        yield f"  {name:{width}}  {probability:.3f} {'#' * round(longest * probability)}".rstrip()

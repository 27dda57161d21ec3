"""`xpnn predict`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from ...backends import DataError
from ..digit_images import load_digit
from ..mlp import MLP
from ..model_file import load
from .model_argument import model_argument, model_path
from .options import backend_option, json_option


@click.command(epilog="Example: xpnn predict runs/mnist-98 seven.png")
@model_argument
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@backend_option
@json_option
def predict(model: Path, images: tuple[Path, ...], backend: str, as_json: bool) -> None:
    """Print the class probabilities of image files.

    An IMAGE is a file of any size that shows one figure, dark on light or light on dark; it is cropped, scaled and
    centred as the training images were.
    """
    net = load(model_path(model), backend=backend)
    if net.image_shape is None:
        raise DataError(f"{model} was not trained on images, but on rows of {net.features} features")
    largest = round(1 / net.input_scale)  # the value of full ink in the training images
    rows = np.stack(
        [load_digit(path, image_shape=net.image_shape, largest=largest) for path in images]
    )  # (n, features)
    probabilities = net.predict_proba(rows)  # (n, classes)
    names = class_names(net)
    if as_json:
        results = [
            {
                "image": str(path),
                "prediction": names[int(row.argmax())],
                "probabilities": dict(zip(names, row.tolist(), strict=True)),
            }
            for path, row in zip(images, probabilities, strict=True)
        ]
        click.echo(json.dumps({"predictions": results}))
        return
    table = Table("image", "prediction", *names, box=None)
    for path, row in zip(images, probabilities, strict=True):
        table.add_row(str(path), names[int(row.argmax())], *(f"{value:.3f}" for value in row))
    Console().print(table)


def class_names(net: MLP) -> tuple[str, ...]:
    """Return the names of the classes, their numbers where they have none."""
    return net.class_names or tuple(map(str, range(net.num_classes)))

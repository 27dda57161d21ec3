"""`xpnn evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from ...backends import ConfigError, DataError, RunError
from ..datasets import Dataset, Split, load_dataset
from ..evaluation import confusion_matrix
from ..evaluation import evaluate as measure
from ..evaluation_pictures import save_confusion_matrix, save_worst_mistakes
from ..mlp import MLP
from ..model_file import load
from ..run_folder import RunFolder, write_json
from .model_argument import model_argument, model_path
from .options import backend_option, data_options, json_option
from .predict import class_names


@click.command(epilog="Example: xpnn evaluate runs/mnist-98 --out pictures")
@model_argument
@backend_option
@data_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split of --data.")
@click.option(
    "--part",
    type=click.Choice(["test", "train", "all"]),
    default="test",
    show_default=True,
    help="Which rows; all suits a file of nothing but new rows.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for evaluation.json and the pictures.")
@json_option
def evaluate(
    model: Path,
    backend: str,
    data: str | None,
    label_column: str,
    test_fraction: float,
    stratify: bool,
    seed: int,
    part: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure a trained network on the rows of its run, or of --data.

    With --out, also draws the confusion matrix and the worst mistakes.
    """
    net = load(model_path(model), backend=backend)
    if data is not None:
        dataset = load_dataset(
            data, label_column=label_column, test_fraction=test_fraction, seed=seed, stratify=stratify
        )
    elif model.is_dir():
        config = RunFolder(model).read_config()
        dataset = config.data.load(config.recipe, seed=config.seed)
    else:
        raise ConfigError(
            f"{model} is a model file and does not name its data; add --data SOURCE, or name a run folder"
        )
    if net.class_names is not None and dataset.class_names != net.class_names:
        raise DataError(
            f"the network tells {', '.join(net.class_names)} apart, but {dataset.name} holds "
            f"{', '.join(dataset.class_names)}: evaluate it on data with the same classes"
        )
    rows = _part(dataset, part)
    result = _evaluate(net, rows)
    if out is not None:
        _draw(net, rows, result, out)
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(f"{dataset.name}: {result['rows']:,} rows, loss {result['loss']:.4f}, {result['accuracy']:.2%} right")
    for name, recall in result["recall"].items():
        click.echo(f"  {name:<12} {'none' if recall is None else f'{recall:.2%}'}")
    if out is not None:
        click.echo(f"saved in {out}")


def _part(dataset: Dataset, part: str) -> Split:
    """Return the test rows, the training rows, or both."""
    if part == "all":
        splits = (dataset.train, dataset.test)
        return Split(np.concatenate([s.images for s in splits]), np.concatenate([s.labels for s in splits]))
    return dataset.test if part == "test" else dataset.train


def _evaluate(net: MLP, rows: Split) -> dict[str, Any]:
    """Return the figures: rows, loss, accuracy, the share of each class that was recognised, the confusion matrix."""
    loss, accuracy = measure(net, rows)
    counts = confusion_matrix(rows.labels, net.predict(rows.images), net.num_classes)  # (classes, classes)
    of_class = counts.sum(axis=1)  # (classes,)
    recall = [int(counts[k, k]) / int(of_class[k]) if of_class[k] else None for k in range(net.num_classes)]
    return {
        "rows": len(rows),
        "loss": loss,
        "accuracy": accuracy,
        "recall": dict(zip(class_names(net), recall, strict=True)),
        "confusion_matrix": counts.tolist(),
    }


def _draw(net: MLP, rows: Split, result: dict[str, Any], out: Path) -> None:
    """Write the figures and the pictures into a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {out}: {error.strerror}") from error
    write_json(out / "evaluation.json", result)
    names = class_names(net)
    save_confusion_matrix(np.array(result["confusion_matrix"]), names, out / "confusion_matrix.png")
    probabilities = net.predict_proba(rows.images)  # (samples, classes)
    save_worst_mistakes(rows.images, rows.labels, probabilities, names, net.image_shape, out / "worst_mistakes.png")

"""`xpnn evaluate`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from ...backends import ConfigError, DataError, RunError, StorageError, log_softmax
from ..datasets import Dataset, Split, load_dataset
from ..evaluation import check_rows, confusion_matrix, evaluate_logits
from ..evaluation_pictures import save_confusion_matrix, save_worst_mistakes
from ..mlp import MLP
from ..model_file import load
from ..run_folder import RunFolder, write_json
from .model_argument import model_argument, model_path
from .options import backend_option, json_option, run_data_options


@click.command(epilog="Example: xpnn evaluate runs/mnist-98 --out pictures")
@model_argument
@backend_option
@run_data_options
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
    model: Path, backend: str, seed: int | None, part: str, out: Path | None, as_json: bool, **choice: Any
) -> None:
    """Measure a trained network on the rows of its run, or of --data.

    A run's own seed and split hold for --data too, so that its file is divided as it was for the training. With
    --out, also draws the confusion matrix and the worst mistakes.
    """
    net = load(model_path(model), backend=backend)
    given = {name: value for name, value in choice.items() if value is not None}
    dataset = _load(model, seed, source=given.pop("data", None), **given)
    _check(net, dataset)
    rows = _part(dataset, part)
    check_rows(net, rows)
    logits = net.logits(rows.images)  # (samples, classes)
    result = _figures(net, logits, rows.labels)
    if out is not None:
        _draw(net, rows, logits, result, out)
    if as_json:
        click.echo(json.dumps(result))
        return
    which = {"test": "test rows", "train": "training rows", "all": "rows"}[part]
    click.echo(f"{dataset.name}: {result['rows']:,} {which}, loss {result['loss']:.4f}, {result['accuracy']:.2%} right")
    click.echo("of each class, recognised:")
    for name, recall in result["recall"].items():
        click.echo(f"  {name:<12} {'none' if recall is None else f'{recall:.2%}'}")
    if out is not None:
        click.echo(f"saved in {out}")


def _load(model: Path, seed: int | None, *, source: str | None, **split: Any) -> Dataset:
    """Load the rows as the run did, but for what is given; without a run, by the defaults."""
    if model.is_dir():
        config = RunFolder(model).read_config()
        chosen = replace(config.data_from(source), **split)
        chosen.refuse_idle(split, config.recipe)
        return chosen.load(config.recipe, seed=config.seed if seed is None else seed)
    if source is None:
        raise ConfigError(
            f"{model} is a model file and does not name its data; add --data SOURCE, or name a run folder"
        )
    return load_dataset(source, seed=seed or 0, **split)


def _check(net: MLP, dataset: Dataset) -> None:
    """Refuse data that the network reads otherwise than those of its training."""
    if net.class_names is not None and dataset.class_names != net.class_names:
        raise DataError(
            f"the network tells {', '.join(net.class_names)} apart, but {dataset.name} holds "
            f"{', '.join(dataset.class_names)}: evaluate it on data with the same classes"
        )
    if dataset.train.images.dtype.kind == "f" and net.input_scale != 1:
        raise DataError(
            f"the network was trained on whole numbers, which it multiplies by {net.input_scale:.4g}, but "
            f"{dataset.name} holds {dataset.train.images.dtype}: give whole numbers in [0, 255] in every cell"
        )


def _part(dataset: Dataset, part: str) -> Split:
    """Return the test rows, the training rows, or both."""
    if part == "all":
        splits = (dataset.train, dataset.test)
        return Split(np.concatenate([s.images for s in splits]), np.concatenate([s.labels for s in splits]))
    return dataset.test if part == "test" else dataset.train


def _figures(net: MLP, logits: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the figures: rows, loss, accuracy, the share of each class that was recognised, the confusion matrix.

    Args:
        net: gives the names of the classes.
        logits: (samples, classes).
        labels: (samples,).
    """
    loss, accuracy = evaluate_logits(logits, labels)
    if not math.isfinite(loss):
        raise RunError(f"the loss must be finite, got {loss}: are features of these rows far larger than in training?")
    counts = confusion_matrix(labels, logits.argmax(axis=1), net.num_classes)  # (classes, classes)
    of_class = counts.sum(axis=1)  # (classes,)
    recall = [int(counts[k, k]) / int(of_class[k]) if of_class[k] else None for k in range(net.num_classes)]
    return {
        "rows": len(labels),
        "loss": loss,
        "accuracy": accuracy,
        "recall": dict(zip(net.names, recall, strict=True)),
        "confusion_matrix": counts.tolist(),
    }


def _draw(net: MLP, rows: Split, logits: npt.NDArray[Any], result: dict[str, Any], out: Path) -> None:
    """Write the figures and the pictures into a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {out}: {error.strerror}") from error
    write_json(out / "evaluation.json", result)
    save_confusion_matrix(np.array(result["confusion_matrix"]), net.names, out / "confusion_matrix.png")
    probabilities = np.exp(log_softmax(np, logits))  # (samples, classes)
    path = out / "worst_mistakes.png"
    save_worst_mistakes(rows.images, rows.labels, probabilities, net.names, net.image_shape, path)

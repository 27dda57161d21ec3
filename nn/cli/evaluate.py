"""`xpnn evaluate`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rich_click as click

from ...backends import ConfigError, DataError, RunError, StorageError, log_softmax
from ...backends.mapped import is_mapped
from ..datasets import Dataset, Split, load_dataset
from ..network.evaluation import check_rows, evaluate_logits
from ..network.metrics import calibration_error, confusion_matrix, precision_recall
from ..network.mlp import MLP
from ..network.model_file import load
from ..pictures import evaluation as pictures
from ..pictures.style import save_picture
from ..runs.folder import RunFolder, write_json
from .options import (
    AT_LEAST_0,
    UserPath,
    backend_option,
    data_options,
    examples,
    json_option,
    model_argument,
    model_path,
    option,
)


@click.command(
    epilog=examples(
        "xpnn evaluate runs/mnist-98 --out pictures", "xpnn evaluate runs/mnist-98 --data new.csv --part all"
    )
)
@model_argument
@data_options(label_column=None, stratify=None, whose="run")
@option("--seed", "Data", "Seed of the split; by default the run's.", AT_LEAST_0, "N")
@option(
    "--part", "Data", "Rows: test (the default), train or all; use all for new data.",
    click.Choice(["test", "train", "all"]), "PART", default="test",
)  # fmt: skip
@backend_option
@option("--out", "Output", "Folder for evaluation.json and the plots.", UserPath(), "FOLDER")
@json_option
def evaluate(
    model: Path, backend: str, seed: int | None, part: str, out: Path | None, as_json: bool, **choice: Any
) -> None:
    """Evaluate a trained network on the data of its run, or on --data.

    The run's seed and split also apply to --data, so that a file is split as in training. --out adds plots: confusion
    matrix, reliability diagram and worst mistakes.
    """
    net = load(model_path(model), backend=backend)
    given = {name: value for name, value in choice.items() if value is not None}
    dataset = _load(model, seed, source=given.pop("data", None), **given)
    _check(net, dataset)
    rows = _part(dataset, part)
    check_rows(net, rows)
    logits = net.logits(rows.images)  # (samples, classes)
    loss, accuracy = evaluate_logits(logits, rows.labels)
    if not math.isfinite(loss):
        raise RunError(f"the loss must be finite, got {loss}: are features of these rows far larger than in training?")
    probabilities = np.exp(log_softmax(np, logits))  # (samples, classes)
    result = {"rows": len(rows), "loss": loss, "accuracy": accuracy, **_figures(net, probabilities, rows.labels)}
    if out is not None:
        _draw(net, rows, probabilities, result, out)
    if as_json:
        click.echo(json.dumps(result))
        return
    which = {"test": "test rows", "train": "training rows", "all": "rows"}[part]
    click.echo(f"{dataset.name}: {len(rows):,} {which}, loss {loss:.4f}, {accuracy:.2%} right")
    click.echo(f"calibration error {result['calibration_error']:.2%}: gap between confidence and accuracy")
    _print_classes(result)
    if out is not None:
        click.echo(f"saved in {out}")


def _load(model: Path, seed: int | None, *, source: str | None, **split: Any) -> Dataset:
    """Load the rows as in the run, except for given options; with defaults without a run."""
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
    """Check that scale, classes and image shape of the data are those of training."""
    if net.class_names is not None and dataset.class_names != net.class_names:
        raise DataError(
            f"the network has the classes {', '.join(net.class_names)}, but {dataset.name} holds "
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
        if any(is_mapped(each.images) for each in splits):
            raise ConfigError(
                f"all rows together would come into memory, but those of {dataset.name} are mapped from files: "
                "use --part train and --part test"
            )
        return Split(np.concatenate([s.images for s in splits]), np.concatenate([s.labels for s in splits]))
    return dataset.test if part == "test" else dataset.train


def _figures(net: MLP, probabilities: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return class metrics, calibration and confusion matrix; None for undefined values."""
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), net.num_outputs)  # (classes, classes)
    scores, calibration = precision_recall(counts), calibration_error(probabilities, labels)
    return {
        **{name: dict(zip(net.names, _numbers(values), strict=True)) for name, values in scores._asdict().items()},
        "calibration_error": calibration.error,
        "calibration_bins": {
            name: _numbers(values) for name, values in calibration._asdict().items() if name != "error"
        },
        "confusion_matrix": counts.tolist(),
    }


def _numbers(values: npt.NDArray[Any]) -> list[int | float | None]:
    """Return numbers, (n,), for JSON, with None for NaN."""
    return [None if math.isnan(number) else number for number in values.tolist()]


def _print_classes(result: dict[str, Any]) -> None:
    """Print the metrics of each class."""
    width = max(12, *map(len, result["support"]))
    click.echo(f"  {'class':<{width}}  precision    recall        F1      rows")
    for name, rows in result["support"].items():
        shares = (result[figure][name] for figure in ("precision", "recall", "f1"))
        columns = "".join(f"{'none' if share is None else f'{share:.2%}':>10}" for share in shares)
        click.echo(f"  {name:<{width}} {columns}{rows:>10,}")


def _draw(net: MLP, rows: Split, probabilities: npt.NDArray[Any], result: dict[str, Any], out: Path) -> None:
    """Write metrics and plots to a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {out}: {error.strerror}") from error
    write_json(out / "evaluation.json", result)
    matrix, calibration = np.array(result["confusion_matrix"]), calibration_error(probabilities, rows.labels)
    save_picture(
        partial(pictures.draw_confusion_matrix, matrix=matrix, class_names=net.names),
        out / "confusion_matrix.png",
        crop=True,
    )
    save_picture(partial(pictures.draw_reliability_diagram, calibration=calibration), out / "reliability.png")
    if net.image_shape is not None:
        draw_mistakes = partial(
            pictures.draw_worst_mistakes, images=rows.images, labels=rows.labels, probabilities=probabilities,
            class_names=net.names, image_shape=net.image_shape,
        )  # fmt: skip
        save_picture(draw_mistakes, out / "worst_mistakes.png")

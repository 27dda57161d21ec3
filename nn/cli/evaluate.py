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

from ...backends import ConfigError, RunError, StorageError, log_softmax
from ...backends.mapped import is_mapped
from ..datasets import Split
from ..files.mapped_files import with_files_named
from ..inputs.inputs import Numbers
from ..network import evaluation
from ..network.evaluation import held_rows
from ..network.metrics import calibration_error, confusion_matrix, precision_recall
from ..network.mlp import MLP
from ..pictures import evaluation as pictures
from ..pictures.style import save_picture
from ..runs.data_choice import DataChoice
from ..runs.folder import RunFolder, defined, write_json
from ..runs.recipes import RECIPES
from .options import (
    AT_LEAST_0,
    UserPath,
    backend_option,
    data_options,
    examples,
    json_option,
    load_network,
    model_argument,
    option,
)
from .output import answer, say
from .train_report import regression_figures


@click.command(epilog=examples("xpnn evaluate runs/mnist-98 --out pictures", "xpnn evaluate runs/wine --data new.csv"))
@model_argument
@data_options(stratify=None, whose="run")
@option("--seed", "Data", "Seed of the split; by default the run's.", AT_LEAST_0, "N")
@option(
    "--part", "Data", "Rows: test, train or all; by default test, or all of a file that the run did not have.",
    click.Choice(["test", "train", "all"]), "PART",
)  # fmt: skip
@backend_option
@option("--out", "Output", "Folder for evaluation.json and the plots.", UserPath(), "FOLDER")
@json_option
def evaluate(
    model: Path, backend: str, seed: int | None, part: str | None, out: Path | None, as_json: bool, **choice: Any
) -> None:
    """Evaluate a trained network on the data of its run, or on --data.

    Rows are read as in training: columns and classes are found by name. The run's own file is split as in training.
    --out adds plots: confusion matrix, reliability diagram and worst mistakes, or predictions against labels.
    """
    net = load_network(model, backend=backend)
    if net.inputs is None:
        net.inputs = Numbers(count=net.features)
    given = {name: value for name, value in choice.items() if value is not None}
    name, rows, part = _load(net, model, seed, part, source=given.pop("data", None), **given)
    result = with_files_named([rows.images], partial(_judge, net, rows, out))
    if as_json:
        answer(json.dumps(result))
        return
    which = {"test": "test rows", "train": "training rows", "all": "rows"}[part]
    head = f"{name}: {len(rows):,} {which}, loss {result['loss']:.4f}"
    if net.outputs.has_accuracy:
        say(f"{head}, {result['accuracy']:.2%} right")
    else:
        say(f"{head}, {regression_figures(result['r2'], result['mean_absolute_error'], result.get('coverage'))}")
    if net.outputs.has_classes:
        say(f"calibration error {result['calibration_error']:.2%}: gap between confidence and accuracy")
        _print_classes(result)
    if out is not None:
        say(f"saved in {out}")


def _judge(net: MLP, rows: Split, out: Path | None) -> dict[str, Any]:
    """Return the figures of an evaluation, and write them and the plots to a folder, if there is one."""
    rows = held_rows(net, rows)
    result = (_of_classes if net.outputs.has_classes else _of_numbers)(net, rows)
    if not math.isfinite(result["loss"]):
        raise RunError(
            f"the loss must be finite, got {result['loss']}: are features of these rows far larger than in training?"
        )
    if out is not None:
        _draw(net, rows, result, out)
    return result


def _load(
    net: MLP, model: Path, seed: int | None, part: str | None, *, source: str | None, **given: Any
) -> tuple[str, Split, str]:
    """Load the rows as the network reads them; return the name of the data, the rows, and which part they are."""
    if model.is_dir():
        config = RunFolder(model).read_config()
        chosen = replace(config.data_from(source), **given)
        chosen.refuse_idle(given, config.recipe)
        recipe, seed = config.recipe, config.seed if seed is None else seed
        is_own = (chosen.source or recipe.dataset) == (config.data.source or recipe.dataset)
    elif source is None:
        raise ConfigError(
            f"{model} is a model file and does not name its data; add --data SOURCE, or name a run folder"
        )
    else:
        chosen, recipe, seed = DataChoice(source=source, **given), RECIPES["quickstart"], seed or 0
        is_own = True
    if part is None:
        part = "test" if is_own or chosen.has_test_rows(recipe) else "all"
    regression = not net.outputs.has_classes
    is_whole = part == "all" and not chosen.has_test_rows(recipe)
    data = chosen.load(recipe, seed=seed, regression=regression, inputs=net.inputs, is_whole=is_whole)
    if part != "all":
        return data.name, data.test if part == "test" else data.train, part
    if not len(data.test):
        return data.name, data.train, part
    splits = (data.train, data.test)
    if any(is_mapped(each.images) for each in splits):
        raise ConfigError(
            f"all rows together would come into memory, but those of {data.name} are mapped from files: "
            "use --part train and --part test"
        )
    images, labels = (np.concatenate([getattr(each, name) for each in splits]) for name in ("images", "labels"))
    return data.name, Split(images, labels, inputs=data.inputs), part


def _of_numbers(net: MLP, rows: Split) -> dict[str, Any]:
    """Return loss, R2 and mean absolute error of a regression, or loss and accuracy of labels."""
    result = evaluation.evaluate(net, rows)
    return {
        "rows": len(rows), "loss": result.loss, "accuracy": result.accuracy, "r2": defined(result.r2),
        "mean_absolute_error": result.mean_absolute_error,
        **({} if result.coverage is None else {"coverage": result.coverage}),
    }  # fmt: skip


def _of_classes(net: MLP, rows: Split) -> dict[str, Any]:
    """Return loss, accuracy and the figures of each class."""
    logits = net.logits(rows)  # (samples, classes)
    loss, accuracy = evaluation.evaluate_logits(logits, rows.labels)
    probabilities = np.exp(log_softmax(np, logits))  # (samples, classes)
    head = {"rows": len(rows), "loss": loss, "accuracy": accuracy}
    return {**head, **_figures(net, probabilities, rows.labels)} if math.isfinite(loss) else head


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
    return [defined(number) for number in values.tolist()]


def _print_classes(result: dict[str, Any]) -> None:
    """Print the metrics of each class."""
    width = max(12, *map(len, result["support"]))
    say(f"  {'class':<{width}}  precision    recall        F1      rows")
    for name, rows in result["support"].items():
        shares = (result[figure][name] for figure in ("precision", "recall", "f1"))
        columns = "".join(f"{'none' if share is None else f'{share:.2%}':>10}" for share in shares)
        say(f"  {name:<{width}} {columns}{rows:>10,}")


def _draw(net: MLP, rows: Split, result: dict[str, Any], out: Path) -> None:
    """Write metrics and plots to a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {out}: {error.strerror}") from error
    write_json(out / "evaluation.json", result)
    if not net.outputs.has_classes:
        predictions = net.predict(rows)  # (samples, outputs)
        draw = partial(pictures.draw_predictions, labels=rows.labels, predictions=predictions)
        save_picture(draw, out / "predictions.png")
        return
    probabilities = net.predict_proba(rows)  # (samples, classes)
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

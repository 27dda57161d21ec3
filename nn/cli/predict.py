"""`xpnn predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rich_click as click

from ...backends import ConfigError, DataError
from ...backends.lookup import did_you_mean
from ..datasets.table import LABELS
from ..datasets.table_file import PARQUET_SUFFIXES, TableFile, TableOptions, is_table, read_table
from ..files.atomic import is_stdout, write_atomically
from ..files.text import listed
from ..inputs.inputs import BYTE, Pixels
from ..inputs.table import Table
from ..network.mlp import MLP
from ..pictures.digit_images import load_digit
from .options import (
    UserPath,
    backend_option,
    examples,
    json_option,
    load_network,
    model_argument,
    option,
    table_options,
)
from .output import answer, note, say, say_beside

COLUMNS = 80
LONGEST_BAR = 30  # characters, for a probability of 1
BAD_INPUT = 2  # exit code
MEDIAN = "for which the training rows' median stands"
PICTURE_ID, PICTURE_LABEL = "ImageId", "Label"  # headers for tables of pictures, as Kaggle asks for


class Answers(NamedTuple):
    """Predictions of some rows.

    Attributes:
        predictions: class, labels or number of each row, (rows,).
        probabilities: (rows, outputs); None for regression.
    """

    predictions: list[Any]
    probabilities: npt.NDArray[Any] | None


@click.command(
    epilog=examples(
        "xpnn predict runs/mnist-98 seven.png",
        "xpnn predict runs/mnist-98 *.png --json",
        "xpnn predict runs/table rows.csv --out predictions.csv",
    )
)
@model_argument
@click.argument("files", nargs=-1, required=True, type=UserPath(), metavar="FILE...")
@table_options
@backend_option
@option(
    "--out",
    "Output",
    "File for the predictions of a table, a .csv or .parquet; - for standard output.",
    UserPath(allow_dash=True),
    "FILE",
)
@option("--proba", "Output", "Add a column of probabilities for each class.", is_flag=True)
@json_option
def predict(
    model: Path,
    files: tuple[Path, ...],
    id_column: str | None,
    delimiter: str | None,
    decimal: str | None,
    header: bool | None,
    backend: str,
    out: Path | None,
    proba: bool,
    as_json: bool,
) -> None:
    """Predict the rows of a table, or the class of pictures.

    A table has the columns of the training, in any order; the identifier's column goes with the predictions. A picture
    may have any size and shows one figure, dark on light or light on dark; it is cropped, scaled and centred like the
    training images.
    """
    net = load_network(model, backend=backend)
    tables = [path for path in files if is_table(path)]
    if tables and len(files) > 1:
        raise ConfigError(f"predictions are of one table at a time, got {len(files)} files: call it for each")
    if proba and not net.outputs.has_probabilities:
        raise ConfigError("--proba is for classes, and this network predicts numbers: leave it out")
    if tables:
        table = read_table(tables[0], TableOptions(delimiter, decimal, header))
        _predict_table(net, table, tables[0], id_column, out=out, proba=proba, as_json=as_json)
        return
    if out is not None or proba:
        raise ConfigError("--out and --proba are for tables: pictures are answered on the screen, or by --json")
    _predict_pictures(net, model, files, as_json=as_json)


def answers(net: MLP, rows: Any) -> Answers:
    """Predict rows of any library, with classes by name."""
    if not net.outputs.has_probabilities:
        numbers = np.asarray(net.predict(rows))  # (rows, outputs)
        return Answers(numbers[:, 0].tolist() if numbers.shape[1] == 1 else numbers.tolist(), None)
    probabilities = np.asarray(net.predict_proba(rows))  # (rows, outputs)
    if net.outputs.has_classes:
        return Answers([net.names[k] for k in probabilities.argmax(axis=1)], probabilities)
    names, is_label = np.array(net.names), probabilities > 0.5  # (outputs,), (rows, outputs)
    return Answers([", ".join(names[row]) or "none of the labels" for row in is_label], probabilities)


def _predict_table(
    net: MLP, file: TableFile, path: Path, id_column: str | None, *, out: Path | None, proba: bool, as_json: bool
) -> None:
    """Predict the rows of a table, and write or print them as a table."""
    import polars as pl

    inputs, frame = net.inputs, file.frame
    named = inputs if isinstance(inputs, Table) else None
    identifier = _identifier(file, named, id_column)
    rows = frame if named is not None and named.is_named else _numbers(net, frame, identifier, path)
    with file.origin.located():
        predictions, probabilities = answers(net, rows)
    if named is not None and named.is_named:
        _say_missing(named, frame)
    is_picture = isinstance(inputs, Pixels)
    label = (named.label if named is not None else None) or (PICTURE_LABEL if is_picture else "prediction")
    ids = frame[identifier] if identifier else pl.Series(
        PICTURE_ID if is_picture else "row", np.arange(1, len(frame) + 1)
    )  # fmt: skip
    answered = pl.Series(label if label != ids.name else "prediction", predictions)
    if answered.dtype == pl.Float64 and net.dtype == "float32":
        answered = answered.cast(pl.Float32)  # with no more digits than it has
    columns: dict[str, Any] = {ids.name: ids, answered.name: answered}
    if proba and probabilities is not None:
        columns |= {f"probability of {name}": probabilities[:, k] for k, name in enumerate(net.names)}
    table = pl.DataFrame(columns)
    say_saved = say_beside([out] if out else [], as_json=as_json)
    if out is not None:
        write_atomically(out, _content(table, out))
    if as_json:
        answer(json.dumps({"predictions": table.to_dicts()}, default=str))
    elif out is None:
        answer(table.write_csv(), newline=False)
    else:
        say_saved(f"saved {out}, {len(table):,} predictions")


def _say_missing(inputs: Table, frame: Any) -> None:
    """Say in which columns values are missing that were complete in training."""
    kinds = {column.name: column.kind for column in inputs.columns}
    for name, count in inputs.missing(frame).items():
        meaning = "which are in no category" if kinds[name] == "category" else MEDIAN
        note(f"column {name}: {count:,} missing values, {meaning}")


def _content(table: Any, out: Path) -> bytes:
    """Return a table as the content of a file."""
    import io

    content = io.BytesIO()
    if out.suffix.lower() in PARQUET_SUFFIXES:
        table.write_parquet(content)
    elif out.suffix.lower() == ".csv" or is_stdout(out) or out.is_fifo() or out.is_char_device():
        table.write_csv(content)
    else:
        raise ConfigError(f"predictions are written as .csv or .parquet, got {out}: name such a file")
    return content.getvalue()


def _identifier(file: TableFile, inputs: Table | None, id_column: str | None) -> str | None:
    """Return the column that identifies the rows: as said, as in training, or one without a name."""
    names = file.frame.columns
    if id_column == "none":
        return None
    if id_column is not None:
        if id_column not in names:
            raise ConfigError(
                f"--id-column must name a column, got {id_column!r:.80}{did_you_mean(id_column, names)}: there are "
                f"{listed(names)}"
            )
        return id_column
    known = inputs.identifier if inputs is not None else None
    if known in names:
        return known
    learned = {column.name for column in inputs.columns} if inputs is not None else set()
    return next((name for name in file.unnamed if name not in learned), None)


def _numbers(net: MLP, frame: Any, identifier: str | None, path: Path) -> Any:
    """Return the columns of numbers for a network whose columns have no names: all but identifier and label."""
    rows = frame.drop(identifier) if identifier else frame
    if rows.width == net.features + 1:
        rows = rows.drop([name for name in rows.columns if name.lower() in LABELS])
    if rows.width != net.features:
        raise DataError(f"{path} must have {net.features} columns of numbers, got {rows.width}: leave out the others")
    return rows


def _predict_pictures(net: MLP, model: Path, files: Sequence[Path], *, as_json: bool) -> None:
    """Print an answer for each picture in order: class probabilities, or why it cannot be read."""
    if net.image_shape is None:
        raise DataError(f"{model} was not trained on images, but on {_rows_of(net)}: pass a table of such rows")
    largest = round(1 / net.input_scale)  # the value of full ink in the training images
    read: list[npt.NDArray[Any] | DataError] = []
    for path in files:
        try:
            row = load_digit(path, image_shape=net.image_shape, largest=min(largest, BYTE))  # (features,)
            read.append(row if largest <= BYTE else row / BYTE)  # pixels, or scaled to [0, 1]
        except DataError as error:
            read.append(error)
    results = _results(net, files, read)
    errors = [result["error"] for result in results if "error" in result]
    if as_json:
        answer(json.dumps({"predictions": results}))
    else:
        for line in (line for result in results if "error" not in result for line in _lines(result)):
            say(line)
    for reason in errors:
        note(f"xpnn: {reason}")
    if errors:
        sys.exit(BAD_INPUT)


def _results(net: MLP, files: Sequence[Path], read: Sequence[npt.NDArray[Any] | DataError]) -> list[dict[str, Any]]:
    """Return the answer for each picture as JSON.

    Args:
        net: the network.
        files: the pictures.
        read: row of each, (features,), or the error of reading it.
    """
    rows = [row for row in read if not isinstance(row, DataError)]
    predictions, probabilities = answers(net, np.stack(rows)) if rows else Answers([], None)
    results: list[dict[str, Any]] = []
    answered = 0
    for path, row in zip(files, read, strict=True):
        result: dict[str, Any] = {"image": str(path)}
        if isinstance(row, DataError):
            result["error"] = str(row)
        else:
            result["prediction"] = predictions[answered]
            if probabilities is not None:
                result["probabilities"] = dict(zip(net.names, probabilities[answered].tolist(), strict=True))
            answered += 1
        results.append(result)
    return results


def _lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of an answer."""
    probabilities = result.get("probabilities", {})
    largest = f" ({max(probabilities.values()):.3f})" if probabilities else ""
    yield f"{result['image']}: {result['prediction']}{largest}"
    if probabilities:
        yield from _bars(tuple(probabilities), tuple(probabilities.values()))


def _rows_of(net: MLP) -> str:
    return f"rows of {net.features} features" if net.inputs is None else net.inputs.describe()


def _bars(names: Sequence[str], probabilities: Sequence[float]) -> Iterator[str]:
    """Yield an aligned line for each class, at most `COLUMNS` wide if names permit."""
    width = max(map(len, names))
    longest = max(min(LONGEST_BAR, COLUMNS - len(f"  {'':{width}}  0.000 ")), 0)
    for name, probability in zip(names, probabilities, strict=True):
        yield f"  {name:{width}}  {probability:.3f} {'#' * round(longest * probability)}".rstrip()

"""`xpnn export`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import rich_click as click

from ...backends import ConfigError
from ..datasets import Split, load_dataset
from ..datasets.load import NAMED
from ..export.c_source import CSource, c_source, write_c_files
from ..export.contents import as_path
from ..export.npz_file import npz_bytes
from ..export.onnx_model import INPUT_TYPES, model_inputs, onnx_bytes
from ..export.page import html_bytes
from ..files.atomic import write_atomically
from ..files.mapped_files import with_files_named
from ..network.mlp import MLP
from ..runs.folder import RunFolder
from .options import UserPath, examples, json_option, load_network, model_argument, model_path, offer, option
from .output import answer, say_beside


@click.command(
    epilog=examples(
        "xpnn export runs/mnist-98 --html digit.html",
        "xpnn export runs/mnist-98 --onnx net.onnx --npz net.npz",
        "xpnn export runs/mnist-98 --c firmware/network --int8",
    )
)
@model_argument
@option("--html", "Formats", "Web page to draw on.", UserPath(allow_dash=True), "FILE")
@option("--onnx", "Formats", "ONNX model, including input scaling.", UserPath(allow_dash=True), "FILE")
@option("--npz", "Formats", "Weights as NumPy arrays.", UserPath(allow_dash=True), "FILE")
@option("--c", "Formats", "C99 source, network.h and network.c in a folder.", UserPath(), "FOLDER")
@option(
    ("--input", "input_type"),
    "Formats",
    "What the ONNX model takes: pixels as in files (uint8, uint16), or rows already scaled (float); auto is what the "
    "network was trained on.",
    click.Choice(INPUT_TYPES),
    default="auto",
    show_default=True,
)
@option("--int8", "Formats", "Quantize the C source to 8-bit integers, by the run's training rows.", is_flag=True)
@option(
    "--data",
    "Formats",
    "Source of the training rows, for --int8; needed if the run has them from a path.",
    str,
    "SOURCE",
    shell_complete=offer(lambda: NAMED, files=True),
)
@json_option
def export(
    model: Path, c: Path | None, int8: bool, data: str | None, input_type: str, as_json: bool, **files: Path | None
) -> None:
    """Export a trained network: ONNX, plain NumPy, C source, or a web page to draw on.

    The page is a single file that works offline.
    """
    targets = {kind: path for kind in ("html", "onnx", "npz") if (path := files[kind]) is not None}
    if not targets and c is None:
        raise click.UsageError("Choose a format: --onnx FILE, --npz FILE, --html FILE or --c FOLDER.")
    if input_type != "auto" and "onnx" not in targets:
        raise click.UsageError("--input applies to ONNX only; add --onnx FILE.")
    if int8 and c is None:
        raise click.UsageError("--int8 applies to C only; add --c FOLDER.")
    if data is not None and not int8:
        raise click.UsageError("--data applies to --int8 only; add it, or leave --data out.")
    _check_targets(targets, c, model_path(model))
    say = say_beside(targets.values(), as_json=as_json)
    net = load_network(model, backend="numpy")
    makers: dict[str, Callable[[], bytes]] = {
        "onnx": lambda: onnx_bytes(net, input_type=input_type),
        "npz": lambda: npz_bytes(net),
        "html": lambda: html_bytes(net),
    }
    contents = {kind: makers[kind]() for kind in targets}  # all of them, before the first is written
    made = None
    if c is not None:
        rows = _training_rows(net, model, data) if int8 else None
        mapped = [] if rows is None else [rows.images]
        made = with_files_named(mapped, partial(c_source, net, int8=int8, calibration=rows))
        write_c_files(c, made.files)
    for kind, path in targets.items():
        write_atomically(path, contents[kind])
    if as_json:
        written: dict[str, dict[str, str | int]] = {
            kind: {"path": str(path), "bytes": len(contents[kind])} for kind, path in targets.items()
        }
        if made is not None:
            memory = {"flash_bytes": made.flash_bytes, "ram_bytes": made.ram_bytes}
            written["c"] = {"path": str(c), "bytes": sum(map(len, made.files.values())), **memory}
        answer(json.dumps({"files": written}))
        return
    for kind, path in targets.items():
        say(f"saved {path}, {len(contents[kind]):,} bytes")
        say(f"  {_next(kind, path, net, input_type)}")
    if c is not None and made is not None:
        _print_c(c, made, say)


def _next(kind: str, path: Path, net: MLP, input_type: str) -> str:
    """Describe the use of a file."""
    if kind == "html":
        return "open it in a browser, also on a phone, and draw"
    if kind == "npz":
        return f"numpy.load({str(path)!r}); xpnn.nn.export.to_npz documents the forward pass"
    taken = model_inputs(net, input_type)
    rows = "; ".join(f"{name}: {dtype}, (any number, {columns})" for name, (dtype, columns) in taken.items())
    given = ", ".join(f'"{name}": {name}' for name in taken)
    return f"onnxruntime.InferenceSession({str(path)!r}).run(None, {{{given}}}); {rows}"


def _print_c(folder: Path, made: CSource, say: Callable[[str], None]) -> None:
    """Print the files of the C source, and the memory that they need."""
    for name, content in made.files.items():
        say(f"saved {folder / name}, {len(content):,} bytes")
    say(f"  {made.flash_bytes:,} bytes of flash beside the code, {made.ram_bytes:,} bytes of RAM, on the stack")


def _training_rows(net: MLP, model: Path, source: str | None) -> Split:
    """Load the training rows of a run, or of a source, as the network reads them.

    Raises:
        ConfigError: the run has its rows from a path, or there is no run, and `source` is None.
    """
    regression = not net.outputs.has_classes
    if model.is_dir():
        config = RunFolder(model).read_config()
        choice = config.data_from(source)
        return choice.load(config.recipe, seed=config.seed, regression=regression, inputs=net.inputs).train
    if source is None:
        raise ConfigError(f"--int8 needs training rows, and {model} does not name them: add --data SOURCE")
    return load_dataset(source, regression=regression, inputs=net.inputs).train


def _check_targets(targets: dict[str, Path], folder: Path | None, source: Path) -> None:
    """Check that no export overwrites the model or another export.

    Args:
        targets: file of each format.
        folder: folder of the C source, or None.
        source: the model.
    """
    files = list(targets.items())
    if folder is not None:
        files += [("c", folder / name) for name in ("network.h", "network.c")]
    taken = {os.path.realpath(source): "the model itself"}
    for kind, path in files:
        place = os.path.realpath(as_path(path))
        if place in taken:
            raise ConfigError(f"--{kind} {path} would overwrite {taken[place]}: name another file")
        taken[place] = f"the file of --{kind}"

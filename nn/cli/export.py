"""`xpnn export`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import rich_click as click

from ...backends import ConfigError
from ..export.contents import as_path
from ..export.npz_file import npz_bytes
from ..export.onnx_model import INPUT_TYPES, input_dtype, onnx_bytes
from ..export.page import html_bytes
from ..files.atomic import write_atomically
from ..network.mlp import MLP
from ..network.model_file import load
from .options import UserPath, examples, json_option, model_argument, model_path, option


@click.command(
    epilog=examples(
        "xpnn export runs/mnist-98 --html digit.html", "xpnn export runs/mnist-98 --onnx net.onnx --npz net.npz"
    )
)
@model_argument
@option("--html", "Formats", "Web page to draw on.", UserPath(), "FILE")
@option("--onnx", "Formats", "ONNX model, including input scaling.", UserPath(), "FILE")
@option("--npz", "Formats", "Weights as NumPy arrays.", UserPath(), "FILE")
@option(
    ("--input", "input_type"),
    "Formats",
    "What the ONNX model takes: pixels as in files (uint8), or rows already scaled (float); auto is what the "
    "network was trained on.",
    click.Choice(INPUT_TYPES),
    default="auto",
    show_default=True,
)
@json_option
def export(model: Path, html: Path | None, onnx: Path | None, npz: Path | None, input_type: str, as_json: bool) -> None:
    """Export a trained network: ONNX, plain NumPy, or a web page to draw on.

    The page is a single file that works offline.
    """
    given = {"html": html, "onnx": onnx, "npz": npz}
    targets = {kind: path for kind, path in given.items() if path is not None}
    if not targets:
        raise click.UsageError("Choose a format: --onnx FILE, --npz FILE or --html FILE.")
    if input_type != "auto" and onnx is None:
        raise click.UsageError("--input applies to ONNX only; add --onnx FILE.")
    source = model_path(model)
    _check_targets(targets, source)
    net = load(source, backend="numpy")
    makers: dict[str, Callable[[], bytes]] = {
        "onnx": lambda: onnx_bytes(net, input_type=input_type),
        "npz": lambda: npz_bytes(net),
        "html": lambda: html_bytes(net),
    }
    contents = {kind: makers[kind]() for kind in targets}  # all of them, before the first is written
    for kind, path in targets.items():
        write_atomically(path, contents[kind])
    if as_json:
        written = {kind: {"path": str(path), "bytes": len(contents[kind])} for kind, path in targets.items()}
        click.echo(json.dumps({"files": written}))
        return
    for kind, path in targets.items():
        click.echo(f"saved {path}, {len(contents[kind]):,} bytes")
        click.echo(f"  {_next(kind, path, net, input_type)}")


def _next(kind: str, path: Path, net: MLP, input_type: str) -> str:
    """Describe the use of a file."""
    if kind == "html":
        return "open it in a browser, also on a phone, and draw"
    if kind == "npz":
        return f"numpy.load({str(path)!r}); xpnn.nn.export.to_npz documents the forward pass"
    rows = f"rows: {input_dtype(net, input_type)}, (any number, {net.features})"
    return f'onnxruntime.InferenceSession({str(path)!r}).run(None, {{"images": rows}}); {rows}'


def _check_targets(targets: dict[str, Path], source: Path) -> None:
    """Check that no export overwrites the model or another export."""
    taken = {os.path.realpath(source): "the model itself"}
    for kind, path in targets.items():
        place = os.path.realpath(as_path(path))
        if place in taken:
            raise ConfigError(f"--{kind} {path} would overwrite {taken[place]}: name another file")
        taken[place] = f"the file of --{kind}"

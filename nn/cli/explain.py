"""`xpnn explain`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import rich_click as click

from ...backends import look_up
from ..datasets.load import PIXELS
from ..files.data_file import existing_path
from ..inputs.inputs import Inputs, Numbers
from ..inputs.table import Table
from ..network import explain as explanation
from ..runs.folder import RunFolder
from ..runs.recipes import RECIPES, Recipe
from .options import examples, load_network, source_argument
from .output import say


@click.command(epilog=examples("xpnn explain deep-32", "xpnn explain runs/mnist-98"))
@source_argument
def explain(source: str) -> None:
    """Print the tensors of a network and the formulas of forward, backward and update, with shapes.

    The network is that of a RECIPE or of a run folder; a model file alone does not contain the optimizer. Of a run on a
    table, the columns are listed.
    """
    recipe: Recipe | None
    inputs: Inputs | None
    found, path = existing_path(source), Path(source)
    if source not in RECIPES and (found is not None or path.name != source):  # what looks like a path is meant as one
        path = found or path
        net = load_network(path, backend="numpy")
        sizes, activation, loss, inputs = net.sizes, net.activation, net.loss, net.inputs
        recipe = RunFolder(path).read_config().recipe if path.is_dir() else None
    else:
        recipe = look_up("recipe", source, RECIPES)
        sizes, activation, inputs = recipe.sizes, recipe.activation, PIXELS.get(recipe.dataset)
        loss = recipe.loss or "softmax_cross_entropy"
    rows = "columns of the table, standardized by the training rows"
    if inputs is not None or not (recipe and recipe.by_rows):
        rows = (inputs or Numbers()).describe()
    say(f"{source}: {'-'.join(map(str, sizes))}, {activation}\n")
    if recipe is not None and recipe.by_rows:
        say("the numbers of features, hidden units and outputs follow from the table: explain a run to see them\n")
    if isinstance(inputs, Table):
        say("columns")
        for column in inputs.lines():
            say(f"  {column}")
        say()
    _print("tensors", explanation.tensors(sizes))
    _print("forward, for a batch of rows", explanation.forward(sizes, activation, loss=loss, rows=rows))
    _print("backward, grad_a being d loss / d a", explanation.backward(sizes, activation, loss=loss))
    if recipe is None:
        return  # a model file does not say how it was trained
    training = recipe.training
    say(f"update of each parameter p by its gradient g: {training.optimizer.name}")
    for formula in explanation.update(training.optimizer, l2=training.l2, schedule=training.schedule):
        say(f"  {formula}")


def _print(title: str, lines: Iterable[explanation.Line]) -> None:
    """Print one table."""
    say(title)
    for line in lines:
        say(f"  {line.name:<13} {line.shape:<12} {line.text}")
    say()

"""`xpnn train`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ...backends import Backend, ConfigError, MissingDependency, get_backend, look_up
from ...backends.machine import hardware, versions
from ..callbacks import Callback
from ..checkpoint import Checkpoint
from ..curves import save_curves
from ..datasets import Dataset
from ..history import History
from ..live import LiveCurves
from ..model_file import save
from ..recipes import RECIPES, DataChoice, Recipe
from ..run_folder import RecordRun, RunConfig, RunFolder, summarize, write_json
from .options import backend_option, batch_size, data_options, json_option, recipe_argument, recipe_list
from .progress import progress_callback
from .signals import StopOnSignal

RESUMABLE = {"resume", "live", "as_json", "quiet"}  # the options that go with --resume


@click.command(epilog="Example: xpnn train mnist-98 --backend numba --seed 1", help=f"Train RECIPE.\n\n{recipe_list()}")
@recipe_argument
@backend_option
@data_options
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training rows; the recipe's by default.")
@click.option(
    "--batch-size", callback=batch_size, metavar="ROWS|full", help="Rows of one step, or all; the recipe's by default."
)
@click.option("--lr", type=float, help="Learning rate; the recipe's by default.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="The recipe's by default.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights, split and order.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; runs/<recipe>-<time> by default.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with the run in this folder.")
@click.option("--live", is_flag=True, help="Redraw curves.png while training, in a window if there is a display.")
@json_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def train(  # noqa: D103 - the help is in the decorator
    ctx: click.Context,
    /,
    recipe: str | None,
    backend: str,
    data: str | None,
    label_column: str,
    test_fraction: float,
    stratify: bool,
    seed: int,
    out: Path | None,
    resume: Path | None,
    live: bool,
    as_json: bool,
    quiet: bool,
    **changes: Any,
) -> None:
    if resume is not None:
        _refuse_other_options(ctx)
        folder = RunFolder(resume)
        config = folder.read_config()
        dataset = config.data.load(config.recipe, seed=config.seed)
        chosen, checkpoint = get_backend(config.backend), Checkpoint.load(folder.checkpoint)
    else:
        plan = _changed(look_up("recipe", recipe or "quickstart", RECIPES), **changes)
        choice = DataChoice(data, label_column, test_fraction, stratify).absolute()
        dataset, checkpoint = choice.load(plan, seed=seed), None
        chosen = get_backend(backend, multiply_adds=plan.multiply_adds(dataset))
        config = RunConfig(plan, choice, chosen.name, seed)
        folder = RunFolder(out or Path("runs") / f"{plan.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        folder.create(config)

    talk = not (quiet or as_json)
    if talk:
        _announce(config, dataset, chosen)
    listeners: list[Callback] = [progress_callback(quiet=not talk), RecordRun(folder)]
    if live:
        listeners.append(LiveCurves(folder.curves, title=config.recipe.name))
    with StopOnSignal() as signals:
        net = config.recipe.network(dataset, backend=chosen, seed=config.seed)
        history = config.recipe.train(
            net, dataset, seed=config.seed, callbacks=[*listeners, signals], resume=checkpoint
        )
    save(net, folder.model)
    if signals.received:
        click.echo(f"stopped and saved; go on with: xpnn train --resume {folder.path}", err=True)
        sys.exit(128 + signals.received)
    summary = summarize(config, history, versions=versions(), hardware=hardware())
    write_json(folder.summary, summary)
    with suppress(MissingDependency):  # the run is done; its picture is not worth failing for
        save_curves(history, folder.curves, title=config.recipe.name)
    if as_json:
        click.echo(json.dumps({**summary, "out": str(folder.path)}))
    elif talk:
        _report(folder, history, dataset)


def _changed(
    recipe: Recipe, *, epochs: int | None, batch_size: int | None, lr: float | None, dtype: str | None
) -> Recipe:
    """Work the command line's options into the recipe."""
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=epochs)
    if batch_size is not None:
        recipe = dataclasses.replace(recipe, batch_size=batch_size or None)
    if lr is not None:
        recipe = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, learning_rate=lr))
    if dtype is not None:
        recipe = dataclasses.replace(recipe, dtype=dtype)
    return recipe


def _refuse_other_options(ctx: click.Context) -> None:
    """A resumed run takes its settings from its folder."""
    given = [name for name in ctx.params if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if others := sorted(set(given) - RESUMABLE):
        raise ConfigError(f"--resume goes on with the run's own settings; leave out {', '.join(others)}")


def _announce(config: RunConfig, data: Dataset, backend: Backend) -> None:
    """Say what is trained on what."""
    recipe = config.recipe
    sizes = "-".join(map(str, recipe.sizes_for(data)))
    batch = "full batch" if recipe.batch_size is None else f"batch {recipe.batch_size}"
    click.echo(f"{recipe.name}: {sizes} on {data.name}, {len(data.train):,} rows, {recipe.optimizer.name}, {batch}")
    click.echo(f"backend {backend.name}" + (f" ({backend.reason})" if backend.reason else ""))


def _report(folder: RunFolder, history: History, data: Dataset) -> None:
    """Say what came out, where it is and what to do next."""
    last, seconds = history[-1], sum(result.seconds for result in history)
    test = "" if last.test_accuracy is None else f", {last.test_accuracy:.2%} of the {len(data.test):,} test rows"
    click.echo(f"{last.train_accuracy:.2%} of the training rows right{test}, after {seconds:.2f} s of training")
    click.echo(f"saved in {folder.path}: model.safetensors, curves.png, metrics.jsonl, summary.json")
    click.echo(f"next: xpnn evaluate {folder.path} --out {folder.path / 'evaluation'}")

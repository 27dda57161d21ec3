"""`xpnn train`."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import click

from ...backends import Backend, ConfigError, DeviceError, MissingDependency, StorageError, get_backend, look_up
from ...backends.machine import hardware, versions
from ..callbacks import Callback
from ..checkpoint import Checkpoint
from ..curves import save_curves
from ..datasets import Dataset
from ..files import read_whole
from ..history import History
from ..limits import CONFIG_BYTES
from ..live import LiveCurves
from ..model_file import save
from ..recipes import RECIPES, DataChoice, Recipe
from ..run_config import RunConfig, data_option
from ..run_folder import RecordRun, RunFolder, summarize, write_json
from ..strict_json import parse_object
from ..training_run import TrainingRun
from .options import backend_option, batch_size, data_options, json_option, recipe_argument, recipe_list
from .progress import Progress, progress_callback
from .signals import StopOnSignal

# The options that go with --resume.
RESUMABLE = {"resume", "backend", "precision", "data", "detect_anomaly", "live", "as_json", "quiet", "verbose"}


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
@click.option("--precision", type=click.Choice(["full", "bfloat16"]), help="Of products on a GPU; full by default.")
@click.option(
    "--evaluate-every",
    type=click.IntRange(min=1),
    metavar="EPOCHS",
    help="Epochs per evaluation on the test rows; 1 by default.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights, split and order.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; runs/<recipe>-<time> by default.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with the run in this folder.")
@click.option(
    "--detect-anomaly", is_flag=True, help="Look at each operation's result; name the first not finite. Slow."
)
@click.option("--live", is_flag=True, help="Redraw curves.png while training, in a window if there is a display.")
@json_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say why the backend was chosen, and what plan it made.")
@click.pass_context
def train(  # noqa: D103 - the help is in the decorator
    ctx: click.Context,
    /,
    recipe_name: str | None,
    backend: str,
    data: str | None,
    label_column: str,
    test_fraction: float | None,
    stratify: bool,
    seed: int,
    out: Path | None,
    resume: Path | None,
    detect_anomaly: bool,
    live: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **changes: Any,
) -> None:
    talk = not (quiet or as_json)
    if not talk:
        logging.getLogger("xpnn").setLevel(logging.WARNING)
    recipe = None
    if resume is not None:
        _refuse_other_options(ctx)
        folder = RunFolder(resume)
    else:
        recipe = _changed(look_up("recipe", recipe_name or "quickstart", RECIPES), **changes)
        folder = RunFolder(out or Path("runs") / f"{recipe.name}-{_now()}")
    with folder, StopOnSignal() as signals:
        if recipe is None:
            start = _resumed(folder, backend if "backend" in _given(ctx) else None, changes["precision"], data)
        else:
            choice = DataChoice(data, label_column, test_fraction, stratify)
            choice.refuse_idle(_given(ctx), recipe)
            start = _new(folder, recipe, choice, backend, seed)
        if start.is_finished():
            _tell_again(start, as_json=as_json, talk=talk)
            return
        if talk:
            _announce(start, verbose=verbose)
        listeners: list[Callback] = [SayPlan()] if talk and verbose else []
        if live:
            listeners.append(LiveCurves(folder.curves, title=start.config.recipe.name))
        progress = progress_callback(quiet=not talk)
        history = _run(start, [*listeners, signals], progress=progress, detect_anomaly=detect_anomaly)
        if signals.received:  # without a picture: it would take longer than the system may wait
            click.echo(f"stopped and saved; go on with: {_going_on(start)}", err=True)
            sys.exit(128 + signals.received)
        with suppress(MissingDependency):  # the run is done; its picture is not worth failing for
            save_curves(history, folder.curves, title=start.config.recipe.name)
        summary = summarize(start.config, history, versions=versions(), hardware=hardware())
        write_json(folder.summary, summary)
        if as_json:
            click.echo(json.dumps({**summary, "out": str(folder.path)}))
        elif talk:
            _report(start, history)
        if signals.received:  # after the last step: all is done and saved
            sys.exit(128 + signals.received)


def _now() -> str:
    """Return the time to the millisecond, for the name of a run folder."""
    return datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]


class Start(NamedTuple):
    """What a run begins with; `checkpoint` is None for a new one, and for one that was killed before it had any."""

    folder: RunFolder
    config: RunConfig
    data: Dataset
    backend: Backend
    checkpoint: Checkpoint | None
    resumed: bool

    def is_finished(self) -> bool:
        """Return whether there is nothing left to do."""
        is_over = self.checkpoint is not None and self.checkpoint.epoch > self.config.recipe.epochs
        return is_over and self.folder.summary.exists() and self.folder.model.exists()


def _new(folder: RunFolder, recipe: Recipe, choice: DataChoice, backend: str, seed: int) -> Start:
    """Prepare a new run; nothing is written yet."""
    folder.refuse_existing()
    choice = choice.absolute()
    data = choice.load(recipe, seed=seed)
    chosen = get_backend(backend, job=recipe.outline(data))
    return Start(folder, RunConfig(recipe, choice, chosen.name, seed), data, chosen, None, resumed=False)


def _resumed(folder: RunFolder, backend: str | None, precision: str | None, source: str | None) -> Start:
    """Prepare to go on with an earlier run, on its own backend and with its own precision or others."""
    folder.read_config()  # what is no run folder is left alone
    folder.claim()
    config = folder.read_config()
    if precision is not None:
        config = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, precision=precision))
    checkpoint = None
    if folder.checkpoint.exists() or folder.has_results():
        checkpoint = Checkpoint.load(folder.checkpoint)
    choice = config.data_from(source)
    data = choice.load(config.recipe, seed=config.seed)
    if checkpoint is not None:
        checkpoint.check_sizes(config.recipe.sizes_for(data))
    chosen = get_backend(backend or config.backend, job=config.recipe.outline(data))
    config = dataclasses.replace(config, data=choice, backend=chosen.name)
    return Start(folder, config, data, chosen, checkpoint, resumed=True)


class SayPlan(Callback):
    """Says what plan the backend made."""

    def on_train_begin(self, run: TrainingRun) -> None:
        """See `Callback`."""
        click.echo(f"plan {run.plan.description}")


def _run(start: Start, listeners: Sequence[Callback], *, progress: Progress, detect_anomaly: bool) -> History:
    """Train, and save the network, whether the training ended or was stopped."""
    recipe, seed = start.config.recipe, start.config.seed
    record = RecordRun(start.folder, start.config, resumed=start.resumed)
    try:
        with progress:
            net = recipe.network(start.data, backend=start.backend, seed=seed)
            history = recipe.train(
                net, start.data, seed=seed, callbacks=[record, progress, *listeners],
                resume=start.checkpoint, detect_anomaly=detect_anomaly,
            )  # fmt: skip
            save(net, start.folder.model)
    except StorageError as error:
        if not start.folder.checkpoint.is_file():
            raise
        raise StorageError(f"{error}; the last checkpoint is whole: make room, then {_going_on(start)}") from error
    except DeviceError as error:  # nothing more is asked of the device: the last checkpoint stays as it is
        if not start.folder.checkpoint.is_file():
            raise
        raise type(error)(
            f"{error}; the last checkpoint is in {start.folder.path}: go on with {_going_on(start)}, "
            f"or on another backend with {_going_on(start)} --backend NAME"
        ) from error
    return history


def _going_on(start: Start) -> str:
    """Return the command that goes on with a run."""
    return " ".join(
        filter(None, ("xpnn train --resume", quote(str(start.folder.path)), data_option(start.config.data)))
    )


def _changed(recipe: Recipe, *, batch_size: int | None, lr: float | None, **others: Any) -> Recipe:
    """Work the command line's options into the recipe; the others are fields of its own."""
    recipe = dataclasses.replace(recipe, **{name: value for name, value in others.items() if value is not None})
    if batch_size is not None:
        recipe = dataclasses.replace(recipe, batch_size=batch_size or None)
    if lr is not None:
        recipe = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, learning_rate=lr))
    return recipe


def _given(ctx: click.Context) -> set[str]:
    """Return the parameters that stand on the command line."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE}


def _refuse_other_options(ctx: click.Context) -> None:
    """A resumed run takes its settings from its folder, but for backend and precision where they are given."""
    shown = {param.name: param.opts[0] if isinstance(param, click.Option) else "RECIPE" for param in ctx.command.params}
    if others := sorted(_given(ctx) - RESUMABLE):
        names = ", ".join(str(shown[name]) for name in others)
        raise ConfigError(f"--resume goes on with the run's own settings; leave out {names}")


def _announce(start: Start, *, verbose: bool) -> None:
    """Say what is trained on what."""
    recipe, data, backend = start.config.recipe, start.data, start.backend
    sizes = "-".join(map(str, recipe.sizes_for(data)))
    batch = "full batch" if recipe.batch_size is None else f"batch {recipe.batch_size}"
    click.echo(f"{recipe.name}: {sizes} on {data.name}, {len(data.train):,} rows, {recipe.optimizer.name}, {batch}")
    if start.resumed and start.checkpoint is None:
        click.echo("it had not begun: from the first step")
    click.echo(f"backend {backend.name}" + (f": {backend.reason}" if verbose and backend.reason else ""))


def _tell_again(start: Start, *, as_json: bool, talk: bool) -> None:
    """Say what came out of a run that is finished; nothing is written."""
    if as_json:
        summary = parse_object(read_whole(start.folder.summary, limit=CONFIG_BYTES))
        click.echo(json.dumps({**summary, "out": str(start.folder.path)}))
    elif talk:
        click.echo(f"{start.folder.path} is finished: all of its {start.config.recipe.epochs} epochs are done")


def _report(start: Start, history: History) -> None:
    """Say what came out, where it is and what to do next."""
    last, seconds, path = history[-1], sum(result.seconds for result in history), start.folder.path
    test = "" if last.test_accuracy is None else f", {last.test_accuracy:.2%} of the {len(start.data.test):,} test rows"
    click.echo(f"{last.train_accuracy:.2%} of the training rows right{test}, after {seconds:.2f} s of training")
    guessing = math.log(start.data.num_classes)
    if last.train_loss > guessing:
        click.echo(f"its loss, {last.train_loss:.3g}, is above that of guessing, {guessing:.3g}: lower --lr", err=True)
    click.echo(f"saved in {path}: {', '.join(start.folder.files())}")
    data = data_option(start.config.data)
    click.echo(f"next: xpnn evaluate {quote(str(path))}{data and ' ' + data} --out {quote(str(path / 'evaluation'))}")

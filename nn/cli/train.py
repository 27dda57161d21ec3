"""`xpnn train`."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click
from click.core import ParameterSource

from ...backends import ConfigError, DeviceError, StorageError, get_backend
from ...backends.communicator import Communicator
from ...backends.machine import hardware, versions
from ...backends.override import override
from ...backends.threads import at_most_threads
from ..datasets.load import NAMED
from ..files.mapped_files import with_files_named
from ..inputs.table import Table
from ..network.evaluation import evaluate
from ..network.mlp import MLP
from ..network.model_file import save
from ..network.outputs import outputs_of
from ..pictures.curves import save_curves
from ..pictures.live import LiveCurves
from ..runs.config import RunConfig
from ..runs.data_choice import DataChoice
from ..runs.folder import RecordRun, RunFolder, summarize, write_json
from ..runs.recipes import RECIPES, Recipe
from ..training.checkpoint import Checkpoint
from ..training.history import History
from ..training.run import Callback, TrainingRun
from ..training.tensorboard import TensorBoard
from .distributed import agreed_signal, follow, join, lead, leave, say_if_several
from .options import (
    AT_LEAST_0,
    AT_LEAST_1,
    UserPath,
    backend_option,
    changed,
    complete_runs,
    data_options,
    examples,
    json_option,
    option,
    quiet_option,
    recipe_argument,
    recipe_for,
    take_data_choice,
    training_options,
)
from .output import answer, note, say
from .progress import Progress, progress_callback
from .signals import StopOnSignal
from .train_report import Start, announce, command_to_resume, report, tell_again

# The options that go with --resume.
RESUMABLE = {
    "resume", "backend", "precision", "data", "detect_anomaly", "threads", "distributed", "live", "tensorboard",
    "as_json", "quiet", "verbose",
}  # fmt: skip


@click.command(
    epilog=examples(
        "xpnn train                       # seconds, no download",
        "xpnn train mnist-98              # past 98 % on MNIST",
        "xpnn train --data rows.csv --label-column kind",
        "xpnn train --resume runs/mnist-98",
    ),
    help="Train from a RECIPE, quickstart by default; options change its settings.\n\n\b\nRecipes:\n"
    + "\n".join(f"  {recipe.name:<11} {recipe.summary}" for recipe in RECIPES.values()),
)
@recipe_argument
@data_options()
@training_options
@option("--seed", "Training", "Seed of weights, split and order; 0 by default.", AT_LEAST_0, "N", default=0)
@option("--detect-anomaly", "Training", "Locate the first result that is not finite. Slow.", is_flag=True)
@option("--resume", "Training", "Resume the run in this folder.", UserPath(), "RUN", shell_complete=complete_runs)
@backend_option
@option("--threads", "Speed", "Maximum threads of Numba and BLAS; all cores by default.", AT_LEAST_1, "N")
@option("--distributed", "Speed", "Divide each batch among the processes of mpiexec.", is_flag=True)
@option("--out", "Output", "Run folder; by default runs/<recipe>-<time>.", UserPath(), "FOLDER")
@option("--live", "Output", "Redraw the curves while training, in a window if possible.", is_flag=True)
@option("--tensorboard", "Output", "Write TensorBoard event files to the run folder.", is_flag=True)
@json_option
@quiet_option
@option(("-v", "--verbose"), "Output", "Print the choice of backend and its plan.", is_flag=True)
@click.pass_context
def train(  # noqa: D103 - the help is in the decorator
    ctx: click.Context,
    /,
    recipe_name: str | None,
    backend: str,
    seed: int,
    out: Path | None,
    resume: Path | None,
    detect_anomaly: bool,
    threads: int | None,
    distributed: bool,
    live: bool,
    tensorboard: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **others: Any,
) -> None:
    data = others["data"]
    choice = take_data_choice(others)
    changes = others
    talk = not (quiet or as_json)
    if not talk:
        logging.getLogger("xpnn").setLevel(logging.WARNING)
    communicator = join(ctx) if distributed else None
    if not distributed:
        say_if_several(ctx)
    if communicator is not None and communicator.rank > 0:
        follow(communicator, data, threads=threads, detect_anomaly=detect_anomaly)
        return
    ranks = 1 if communicator is None else communicator.size
    recipe = None
    if resume is not None:
        _refuse_other_options(ctx)
        folder = RunFolder(resume)
    else:
        if recipe_name in NAMED:
            raise ConfigError(f"{recipe_name} is a data set, not a recipe: xpnn train --data {recipe_name}")
        recipe = recipe_for(recipe_name, choice)
        changed(recipe, **changes)  # refuses what cannot be, before any data are read
        now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]  # to the millisecond
        folder = RunFolder(out or Path("runs") / f"{recipe.name}-{now}")
    with folder, at_most_threads(threads), StopOnSignal() as signals:
        if recipe is None:
            start = _resumed(folder, backend if "backend" in _given(ctx) else None, changes["precision"], data, ranks)
        else:
            choice.refuse_idle(_given(ctx), recipe)
            start = _new(folder, recipe, changes, choice, backend, seed, ranks)
        processes = None if communicator is None else lead(communicator, start)
        if start.is_finished():
            tell_again(start, as_json=as_json, talk=talk)
            return
        if talk:
            announce(start, verbose=verbose)
            if distributed:
                say(processes or "1 process: mpiexec -n N starts more of them")
        listeners: list[Callback] = [SayPlan()] if talk and verbose else []
        if live:
            listeners.append(LiveCurves(folder.curves, title=start.config.recipe.name))
        if tensorboard:
            listeners.append(TensorBoard(folder.path))
        progress = progress_callback(quiet=not talk)
        net, history = _run(
            start, [*listeners, signals], progress=progress, detect_anomaly=detect_anomaly, communicator=communicator
        )
        if received := agreed_signal(communicator, signals):
            # Without a picture: it would take longer than the system may wait.
            note(f"stopped and saved; resume with: {command_to_resume(start)}")
            leave(128 + received)
        judged = None
        if len(start.data.test) and not net.outputs.has_accuracy:
            judged = with_files_named([start.data.test.images], partial(evaluate, net, start.data.test))
        summary = summarize(start.config, history, versions=versions(), hardware=hardware(), ranks=ranks, judged=judged)
        try:
            save_curves(history, folder.curves, title=start.config.recipe.name)
        except StorageError:  # no room: the run is finished by --resume
            raise
        except Exception as error:  # of any kind: the run is done, and its result is worth more than its picture
            note(f"without {folder.curves.name}: {error}")
        write_json(folder.summary, summary)  # last: without it the run is not finished
        if as_json:
            answer(json.dumps({**summary, "out": str(folder.path)}))
        elif talk:
            report(start, history, judged)
        if signals.received:  # after the last step: all is done and saved
            leave(128 + signals.received)


def _new(
    folder: RunFolder,
    recipe: Recipe,
    changes: dict[str, Any],
    choice: DataChoice,
    backend: str,
    seed: int,
    ranks: int,
) -> Start:
    """Prepare a new run, without writing anything."""
    folder.refuse_existing()
    choice = choice.absolute()
    loss = changes.get("loss")
    data = choice.load(recipe, seed=seed, regression=None if loss is None else not outputs_of(loss).has_accuracy)
    if recipe.by_rows and not isinstance(data.inputs, Table):  # pictures in a table
        recipe = RECIPES["quickstart"]
    recipe = changed(recipe.fitted_to(data), **changes)
    chosen = get_backend(backend, job=recipe.outline(data))
    return Start(folder, RunConfig(recipe, choice, chosen.name, seed), data, chosen, None, resumed=False, ranks=ranks)


def _resumed(folder: RunFolder, backend: str | None, precision: str | None, source: str | None, ranks: int) -> Start:
    """Prepare to resume a run, optionally with another backend or precision."""
    folder.read_config()  # what is no run folder is left alone
    folder.claim()
    config = folder.read_config()
    if precision is not None:
        config = dataclasses.replace(config, recipe=changed(config.recipe, precision=precision))
    checkpoint = None
    if folder.checkpoint.exists() or folder.has_results():
        checkpoint = Checkpoint.load(folder.checkpoint)
    choice = config.data_from(source)
    data = choice.load(config.recipe, seed=config.seed, regression=config.recipe.is_regression)
    if checkpoint is not None:
        checkpoint.check_sizes(config.recipe.sizes_for(data))
    chosen = get_backend(backend or config.backend, job=config.recipe.outline(data))
    config = dataclasses.replace(config, data=choice, backend=chosen.name)
    return Start(folder, config, data, chosen, checkpoint, resumed=True, ranks=ranks)


class SayPlan(Callback):
    """Callback that prints the backend's plan."""

    @override
    def on_train_begin(self, run: TrainingRun) -> None:
        say(f"plan {run.plan.description}")


def _run(
    start: Start,
    listeners: Sequence[Callback],
    *,
    progress: Progress,
    detect_anomaly: bool,
    communicator: Communicator | None,
) -> tuple[MLP, History]:
    """Train and save the network, also if training was stopped."""
    recipe, seed = start.config.recipe, start.config.seed
    record = RecordRun(start.folder, start.config, resumed=start.resumed)
    try:
        with progress:
            net = recipe.network(start.data, backend=start.backend, seed=seed)
            train_rows = partial(
                recipe.train, net, start.data, seed=seed, callbacks=[record, progress, *listeners],
                resume=start.checkpoint, detect_anomaly=detect_anomaly, communicator=communicator,
            )  # fmt: skip
            history = with_files_named([start.data.train.images, start.data.test.images], train_rows)
            save(net, start.folder.model)
    except StorageError as error:
        if not start.folder.checkpoint.is_file():
            raise
        raise StorageError(
            f"{error}; the last checkpoint is intact: free space, then {command_to_resume(start)}"
        ) from error
    except DeviceError as error:  # nothing more is asked of the device: the last checkpoint stays as it is
        if not start.folder.checkpoint.is_file():
            raise
        raise type(error)(
            f"{error}; the last checkpoint is in {start.folder.path}: resume with {command_to_resume(start)}, "
            f"or on another backend with {command_to_resume(start)} --backend NAME"
        ) from error
    return net, history


def _given(ctx: click.Context) -> set[str]:
    """Return the parameters given on the command line."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE}


def _refuse_other_options(ctx: click.Context) -> None:
    """Reject options other than backend and precision, as a resumed run has its settings in its folder."""
    shown = {param.name: param.opts[0] if isinstance(param, click.Option) else "RECIPE" for param in ctx.command.params}
    if others := sorted(_given(ctx) - RESUMABLE):
        names = ", ".join(str(shown[name]) for name in others)
        raise ConfigError(f"--resume uses the run's own settings; leave out {names}")

"""Shared options and arguments of commands, and shell quoting."""

from __future__ import annotations

import csv
import logging
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rich_click as click
from click.shell_completion import CompletionItem

from ...backends import ACTIVATIONS, OPTIMIZERS, ConfigError, ModelFileError, look_up, registered_backends
from ...backends.constraints import options_of
from ..datasets.load import NAMED
from ..datasets.table_file import is_table
from ..files.data_file import existing_path
from ..network.mlp import MLP
from ..network.model_file import load
from ..runs.data_choice import DataChoice
from ..runs.folder import RunFolder
from ..runs.recipes import RECIPES, Recipe
from ..training.checkpoint import Checkpoint
from ..training.early_stopping import EarlyStopping
from ..training.options import TrainingOptions
from ..training.schedules import SCHEDULES
from .output import note

Command = TypeVar("Command", bound=Callable[..., Any])
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


if TYPE_CHECKING:
    ParamType = click.ParamType[Any, Any]
else:
    ParamType = click.ParamType  # which was not generic before click 8.4


class Names(ParamType):
    """Names separated by commas, of which one that holds a comma is quoted as in a csv."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names; see click."""
        return value if isinstance(value, tuple) else tuple(name.strip() for name in next(csv.reader([value]), []))


class Units(ParamType):
    """Units of the hidden layers, separated by commas; none for no hidden layer."""

    name = "units"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the units; see click."""
        if isinstance(value, tuple):
            return value
        words = [] if value == "none" else [word.strip() for word in value.split(",")]
        if not all(word.isdecimal() and int(word) >= 1 for word in words):
            self.fail(f"{value!r} must be whole numbers >= 1 such as 256,128, or none", param, ctx)
        return tuple(map(int, words))


class ClassWeights(ParamType):
    """`balanced`, or weights by class name: `fraud=10,other=1`."""

    name = "weights"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word, or the weights; see click."""
        if value == "balanced" or not isinstance(value, str):
            return value
        weights = {}
        for word in next(csv.reader([value]), []):
            name, _, number = word.rpartition("=")
            try:
                weights[name.strip()] = float(number)
            except ValueError:
                self.fail(f"{value!r} must be balanced, or weights by class name such as fraud=10", param, ctx)
        return weights


STDOUT = Path("/dev/stdout")
NAMES = Names()
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
AT_LEAST_0, AT_LEAST_1 = click.IntRange(min=0), click.IntRange(min=1)


def _tab(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    """Return a delimiter, of which the word tab and a backslash with t stand for a tab."""
    return "\t" if value in ("tab", "\\t") else value


class UserPath(click.Path):
    """Path with expansion of `~`, which shells do not expand in `--out=~/runs`; "-" is standard output, or refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; see click."""
        text = os.fsdecode(super().convert(value, param, ctx))
        if text == "-":
            if self.allow_dash and STDOUT.exists():
                return STDOUT
            self.fail("'-' is not standard output here: name a file or folder, or ./- for one called -", param, ctx)
        return Path(os.path.expanduser(text))  # noqa: PTH111 - ~nobody stays as it is


def shell_words(*words: str | os.PathLike[str]) -> str:
    """Quote and join the words of a command for this system's shell."""
    texts = [os.fspath(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


def examples(*commands: str) -> str:
    """Return the examples at the end of a help page."""
    return "\n\n".join(["Examples:" if len(commands) > 1 else "Example:", *commands])


def model_path(path: Path) -> Path:
    """Return the model file: the path itself, or the one in a run folder."""
    found = existing_path(path)
    return path if found is None or not found.is_dir() else RunFolder(path).model


def load_network(path: Path, *, backend: str) -> MLP:
    """Load a model file, or the newest state of a run.

    The model of a run that was stopped, resumed and killed is older than its checkpoint.

    Raises:
        ConfigError: the run was killed before it saved a model.
    """
    source = model_path(path)
    folder = RunFolder(path)
    if source != folder.model or source == path:
        return load(source, backend=backend)
    folder.refuse_links()
    if folder.checkpoint.exists() and not folder.model.exists():
        raise ConfigError(_unfinished(folder))
    net = load(source, backend=backend)
    if folder.checkpoint.exists() and not folder.summary.exists():
        try:
            checkpoint = Checkpoint.load(folder.checkpoint)
        except ModelFileError as error:
            note(f"{error}; the network is the one that was saved last")
            return net
        newest, older = checkpoint.best or checkpoint.parameters, ""
        if any(not np.array_equal(array, newest.get(name, ())) for name, array in net.parameters().items()):
            checkpoint.check_sizes(net.sizes)
            net.load_parameters(newest)
            older = "; its model is older than its checkpoint, whose network is used"
        note(_unfinished(folder, len(checkpoint.history), older))
    return net


def _unfinished(folder: RunFolder, epochs: int | None = None, more: str = "") -> str:
    """Return a sentence on an unfinished run: how far it has come, if `epochs` are known, and how to complete it."""
    try:
        config = folder.read_config()
    except ModelFileError as error:
        return f"{folder.path} is unfinished{more}, and cannot be completed: {error}"
    done = "" if epochs is None else f", after {epochs} of at most {config.recipe.training.epochs} epochs"
    return f"{folder.path} is unfinished{done}{more}: complete it with {resume_command(folder, config.data)}"


def resume_command(folder: RunFolder, choice: DataChoice) -> str:
    """Return the command that resumes a run."""
    return shell_words("xpnn", "train", "--resume", folder.path, *data_words(choice))


def data_words(choice: DataChoice) -> list[str]:
    """Return the data option that a command needs for a run, ["--data", source]; empty if none."""
    return [] if choice.source is None or choice.source in NAMED else ["--data", choice.source]


# Completion by the Tab key: names that would have to be quoted are left out, since the shells' scripts quote nothing.


def offer(names: Callable[[], Iterable[str]], *, files: bool = False) -> Completer:
    """Return shell completion with names and files."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
        found = [name for name in names() if name.startswith(incomplete) and shlex.quote(name) == name]
        return [CompletionItem(name) for name in found] + [CompletionItem(incomplete, type="file")] * files

    return complete


def _runs() -> list[str]:
    """Return the run folders in `runs`, newest first."""
    configs = sorted(Path("runs").glob("*/config.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [str(path.parent) for path in configs]


def option(
    flags: str | tuple[str, ...], panel: str, words: str, kind: Any = None, metavar: str | None = None, **more: Any
) -> Callable[[Command], Command]:
    """Return an option of a command: its flags, the panel of the help, what the help says, and type and metavar."""
    names = (flags,) if isinstance(flags, str) else flags
    return click.option(*names, panel=panel, help=words, type=kind, metavar=metavar, **more)


# Several options as one decorator, so that the help has them in this order.


def each(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Compose decorators."""

    def add(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


def _silence_log(ctx: click.Context, param: click.Parameter, value: bool) -> bool:  # noqa: ARG001
    """Silence the log for options that ask for the result only."""
    if value:
        logging.getLogger("xpnn").setLevel(logging.WARNING)
    return value


complete_runs = offer(_runs, files=True)
recipe_argument = click.argument(
    "recipe_name", required=False, metavar="[RECIPE]", shell_complete=offer(lambda: RECIPES)
)
source_argument = click.argument(
    "source", default="quickstart", metavar="[RECIPE|RUN|MODEL]",
    shell_complete=offer(lambda: [*_runs(), *RECIPES], files=True),
)  # fmt: skip
model_argument = click.argument("model", type=UserPath(), metavar="RUN|MODEL", shell_complete=complete_runs)
backend_option = option(
    "--backend", "Speed", "auto (the default), numba, numpy, cupy, ...", str, "NAME", default="auto",
    shell_complete=offer(lambda: ["auto", *registered_backends()]),
)  # fmt: skip
json_option = option(
    ("--json", "as_json"), "Output", "Print one JSON object and nothing else.", is_flag=True, callback=_silence_log
)
quiet_option = option("--quiet", "Output", "Print nothing but errors.", is_flag=True)


table_options = each(
    option("--id-column", "Tables", "Column that identifies the rows, or none.", str, "NAME"),
    option("--delimiter", "Tables", "Separator of cells, tab for a tab.", str, "CHARACTER", callback=_tab),
    option("--decimal", "Tables", "Decimal sign.", click.Choice([".", ","]), "SIGN"),
    option("--header/--no-header", "Tables", "Whether there is a header.", default=None),
)


def data_options(*, stratify: bool | None = False, whose: str = "recipe") -> Callable[[Command], Command]:
    """Return the data options with these defaults."""
    label = "label, target, class or y, else the last" if whose == "recipe" else f"the {whose}'s"
    return each(
        option(
            "--data", "Data",
            "A table (.csv, .tsv, .parquet, also in .gz or .zip), an .npz, a folder of .npy or IDX files, or mnist, "
            "fashion-mnist, digits.",
            str, "SOURCE", shell_complete=offer(lambda: NAMED, files=True),
        ),
        option("--label-column", "Tables", f"Label's column; by default {label}.", str, "NAME"),
        table_options,
        option("--drop", "Tables", "Columns to leave out.", NAMES, "NAME,..."),
        option("--categorical", "Tables", "Columns of categories, such as numbers of a code.", NAMES, "NAME,..."),
        option(
            "--test-fraction", "Data", f"Fraction of rows to hold out for testing; by default the {whose}'s, or 0.2.",
            SHARE, "SHARE",
        ),
        option("--stratify/--no-stratify", "Data", "Preserve class proportions in the split.", default=stratify),
    )  # fmt: skip


def take_data_choice(options: dict[str, Any]) -> DataChoice:
    """Take the data options out of a command's options."""
    options["source"] = options.pop("data")
    names = [each.name for each in fields(DataChoice) if each.name in options]
    given = {name: options.pop(name) for name in names}
    return DataChoice(**{name: value for name, value in given.items() if value is not None})


def recipe_for(name: str | None, choice: DataChoice) -> Recipe:
    """Return a recipe by name; without one, `table` for tables and `quickstart` for other data."""
    default = "table" if choice.source is not None and is_table(Path(choice.source)) else "quickstart"
    return look_up("recipe", name or default, RECIPES)


# The options that change a recipe, each None where it is not given.


def _batch_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Parse a batch size, with 0 for `full`; None if not given."""
    if value is None or value == "full":
        return None if value is None else 0
    if not (value.isdecimal() and int(value) >= 1):
        raise click.BadParameter(f"{value!r} is neither a whole number >= 1 nor 'full'", ctx, param)
    return int(value)


def _training_option(name: str, about: Field[Any]) -> Callable[[Command], Command]:
    """Return the option of a field of `TrainingOptions`, with the field's first sentence as help."""
    constraint, flag = about.metadata["constraint"], f"--{name.replace('_', '-')}"

    def check(ctx: click.Context, param: click.Parameter, value: Any) -> Any:  # noqa: ARG001
        if value is not None and constraint is not None:
            constraint.check(flag, value)
        return value

    kind: dict[str, Any] = {"type": READ_AS.get(name) or constraint.kind, "callback": check}
    if name == "batch_size":
        kind = {"callback": _batch_size}
    elif kind["type"] is bool:
        kind = {"is_flag": True, "default": None}
    help_text = about.metadata["words"].partition(". ")[0].removesuffix(".") + "."
    return click.option(flag, panel=about.metadata["panel"], metavar=about.metadata["metavar"], help=help_text, **kind)


READ_AS = {  # settings that may be more in Python
    "class_weight": ClassWeights(),
    "precision": click.Choice(["full", "bfloat16"]),
    "validation": SHARE,
}
SHOWN = {name: about for name, about in options_of(TrainingOptions).items() if about.metadata["panel"]}
training_options = each(
    _training_option("epochs", SHOWN.pop("epochs")),
    option("--lr", "Training", "Learning rate.", float, "RATE"),
    option("--optimizer", "Training", "Rule of the steps.", click.Choice(list(OPTIMIZERS)), "NAME"),
    option("--schedule", "Training", "Schedule of the learning rate.", click.Choice(list(SCHEDULES)), "NAME"),
    option("--hidden", "Network", "Units of the hidden layers, or none.", Units(), "UNITS,..."),
    option("--activation", "Network", "Activation of the hidden layers.", click.Choice(list(ACTIVATIONS)), "NAME"),
    option(
        "--loss", "Network",
        "softmax_cross_entropy for classes; squared_error, absolute_error, huber:DELTA (in standard deviations of the "
        "labels), quantile:LEVEL (pinball loss) or poisson for numbers; by default chosen by the labels.",
        str, "NAME",
    ),
    *(_training_option(name, about) for name, about in SHOWN.items()),
    option(
        "--patience", "Regularization", "Early stopping after EPOCHS without a better validation loss.",
        AT_LEAST_1, "EPOCHS",
    ),
    option("--dtype", "Speed", "float32 or float64.", click.Choice(["float32", "float64"]), "DTYPE"),
)  # fmt: skip


def changed(
    recipe: Recipe,
    *,
    lr: float | None = None,
    patience: int | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
    hidden: tuple[int, ...] | None = None,
    activation: str | None = None,
    loss: str | None = None,
    optimizer: str | None = None,
    **others: Any,
) -> Recipe:
    """Apply options to a recipe, None for those not given."""
    changes = {name: value for name, value in others.items() if value is not None}
    if batch_size is not None:
        changes["batch_size"] = batch_size or None
    rule = recipe.training.optimizer
    if optimizer is not None:
        rule = OPTIMIZERS[optimizer](**({} if lr is None else {"learning_rate": lr}))
    changes["optimizer"] = rule if lr is None else replace(rule, learning_rate=lr)
    if patience is not None:
        changes["early_stopping"] = EarlyStopping(patience)
    network: dict[str, Any] = {"dtype": dtype, "activation": activation, "loss": loss}
    if hidden is not None:
        network["sizes"] = (recipe.sizes[0], *hidden, recipe.sizes[-1])
    given = {name: value for name, value in network.items() if value is not None}
    return replace(recipe.with_options(**changes), **given)

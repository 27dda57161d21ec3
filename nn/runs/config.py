"""Configuration of a run, stored as `config.json` in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ...backends import OPTIMIZERS, ConfigError, look_up
from ..datasets.load import NAMED
from ..files.text import is_plain
from ..training.early_stopping import EarlyStopping
from ..training.options import TrainingOptions
from .data_choice import DataChoice
from .recipes import Recipe

TAB = "\t"  # a delimiter, the only control character of a configuration


@dataclass(frozen=True)
class RunConfig:
    """Configuration of a run.

    Attributes:
        recipe: network and training, with the options of the command line applied.
        data: source of the rows.
        backend: name of the backend.
        seed: seed of weights, split and order.
    """

    recipe: Recipe
    data: DataChoice
    backend: str
    seed: int

    def __post_init__(self) -> None:
        choice = self.data
        of_data = (choice.source, choice.label_column, choice.id_column, *choice.drop, *choice.categorical)
        for text in (self.recipe.name, self.recipe.summary, *(name or "" for name in of_data)):
            if not is_plain(text):  # else the run could not be read again
                raise ConfigError(f"names and paths must be without control characters, got {text!r:.80}: rename it")

    def to_json(self) -> dict[str, Any]:
        """Return the content of `config.json`."""
        return {"recipe": self.recipe.settings(), "data": asdict(self.data), "backend": self.backend, "seed": self.seed}

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> RunConfig:
        """Parse the result of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: it is malformed.
        """
        settings = dict(config["recipe"])
        training = dict(settings["training"])
        optimizer = dict(training["optimizer"])
        training["optimizer"] = _made(look_up("optimizer", optimizer.pop("name"), OPTIMIZERS), optimizer)
        if training.get("early_stopping") is not None:
            training["early_stopping"] = _made(EarlyStopping, dict(training["early_stopping"]))
        recipe = _made(Recipe, settings | {"training": _made(TrainingOptions, training)})
        if recipe.dataset:
            look_up("data set", recipe.dataset, NAMED)  # never a path
        rest = {"recipe": recipe, "data": _made(DataChoice, dict(config["data"]))}
        made: RunConfig = _made(cls, rest | {name: config[name] for name in ("backend", "seed")})
        return made

    def data_from(self, source: str | None) -> DataChoice:
        """Return the source of the rows, given the user's `source`.

        Run folders are untrusted: a path in one is not followed, and the user has to name it again.

        Raises:
            ConfigError: the rows are from a path, and `source` is None.
        """
        if source is not None:
            return replace(self.data, source=source).absolute()
        if self.data.source is None or self.data.source in NAMED:
            return self.data
        raise ConfigError(
            f"the run has its rows from {self.data.source}, a path that is not opened by itself, as a run folder may "
            "come from anyone: add it to the command as --data"
        )


types_of = cache(get_type_hints)


def _made(kind: Any, values: dict[str, Any]) -> Any:
    """Create a dataclass from JSON values of its fields' types; raise TypeError or ValueError."""
    hints = types_of(kind)
    for name, value in values.items():
        if name not in hints:
            raise TypeError(f"{kind.__name__} has no {name!r:.80}")
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} cannot be {value!r:.80}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a JSON value has a field's type."""
    if get_origin(hint) is UnionType:
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:  # of any length
        return isinstance(value, list) and all(_fits(each, get_args(hint)[0]) for each in value)
    if get_origin(hint) is Mapping:
        return isinstance(value, dict) and all(is_plain(name) and _fits(each, float) for name, each in value.items())
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is str:
        return type(value) is str and (is_plain(value) or value == TAB)
    if hint in (int, bool, NoneType):
        return type(value) is hint
    return isinstance(hint, type) and isinstance(value, hint)  # no function or array

"""Constraints on settings, as data beside the field that they hold for: `option` declares one, `check_options` checks.

Python's numbers and NumPy's count alike as numbers, truth values do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, field, fields
from inspect import cleandoc
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeVar

from .errors import ConfigError

Value = TypeVar("Value")
Kind = TypeVar("Kind", bound=type)


def is_whole(number: Any, *, least: int) -> bool:
    """Return whether it is a whole number of at least `least`, and of less than 64 bits."""
    return type(number) is not bool and isinstance(number, Integral) and least <= int(number) < 2**63


def is_finite_number(number: Any, *, least: float) -> bool:
    """Return whether it is a finite number of at least `least`."""
    if type(number) is bool or not isinstance(number, Real):
        return False
    try:
        return math.isfinite(number) and float(number) >= least
    except OverflowError:  # a whole number beyond all floats
        return False


class Constraint(NamedTuple):
    """What a setting may be.

    Attributes:
        words: what it must be, as a message has it.
        accepts: returns whether a value will do.
        kind: of its values, as the command line reads them.
    """

    words: str
    accepts: Callable[[Any], bool]
    kind: type = object

    def or_none(self) -> Constraint:
        """Return the constraint that None, too, fulfils."""
        return Constraint(f"{self.words}, or None", lambda value: value is None or self.accepts(value), self.kind)

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that will not do.

        Raises:
            ConfigError: with the setting's name, what it must be, and the value.
        """
        if not self.accepts(value):
            raise ConfigError(f"{name} must be {self.words}, got {value!r:.80}")


def whole(least: int) -> Constraint:
    """Return the constraint of a whole number of at least `least`."""
    return Constraint(f"a whole number >= {least}", lambda value: is_whole(value, least=least), int)


def instance(kind: type, example: str) -> Constraint:
    """Return the constraint of an instance of a class, such as the one of the example."""
    return Constraint(f"one such as {example}", lambda value: isinstance(value, kind), kind)


NOT_NEGATIVE = Constraint("a finite number >= 0", lambda value: is_finite_number(value, least=0), float)
POSITIVE = Constraint("a finite number > 0", lambda value: is_finite_number(value, least=0) and value > 0, float)
BELOW_1 = Constraint("a number in [0, 1)", lambda value: is_finite_number(value, least=0) and value < 1, float)
FLAG = Constraint("True or False", lambda value: isinstance(value, bool), bool)


def option(
    default: Value,
    constraint: Constraint | None,
    words: str,
    *,
    panel: str = "",
    metavar: str | None = None,
    is_identity: bool = True,
) -> Value:
    """Declare a setting, as a dataclass's field.

    Args:
        default: its value where none is given.
        constraint: what it may be; None where another place checks it.
        words: what it is; the first sentence is the command line's help.
        panel: where it stands in the command line's help; empty for no option there.
        metavar: what stands for its value there.
        is_identity: whether it decides which training it is, so that a checkpoint of one is no start for another.
    """
    about = {"constraint": constraint, "words": words, "panel": panel, "metavar": metavar, "is_identity": is_identity}
    return field(default=default, metadata=about)


def options_of(kind: Any) -> dict[str, Field[Any]]:
    """Return the settings that a class or an instance declares with `option`, by name."""
    return {each.name: each for each in fields(kind) if "words" in each.metadata}


def check_options(options: Any) -> None:
    """Refuse values that break the constraints of their settings.

    Raises:
        ConfigError: for the first that does.
    """
    for name, about in options_of(options).items():
        if (constraint := about.metadata["constraint"]) is not None:
            constraint.check(name, getattr(options, name))


def documented(kind: Kind) -> Kind:
    """Put what the settings are into the docstring of their class, before the errors."""
    text, _, errors = cleandoc(kind.__doc__ or "").partition("Raises:")
    lines = [f"    {name}: {about.metadata['words']}" for name, about in options_of(kind).items()]
    kind.__doc__ = "\n".join([f"{text}Attributes:", *lines, "", f"Raises:{errors}"])
    return kind

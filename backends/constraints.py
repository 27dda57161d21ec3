"""Constraints on settings, declared with the field by `option` and enforced by `check_options`.

Python's and NumPy's numbers are accepted alike; booleans are not numbers.
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
    """Return whether it is an integer of at least `least` that fits into 64 bits."""
    return type(number) is not bool and isinstance(number, Integral) and least <= int(number) < 2**63


def is_finite_number(number: Any, *, least: float) -> bool:
    """Return whether it is a finite number of at least `least`."""
    if type(number) is bool or not isinstance(number, Real):
        return False
    try:
        return math.isfinite(number) and float(number) >= least
    except OverflowError:  # a whole number beyond all floats
        return False


def shown(value: Any) -> str:
    """Return the value as a message shows it, in at most 80 characters."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # what Python says of a whole number of more than 4300 digits, also within something else
        return f"a value of type {type(value).__name__} with thousands of digits"


class Constraint(NamedTuple):
    """Constraint on the value of a setting.

    Attributes:
        words: description for messages: "must be ...".
        accepts: predicate of valid values.
        kind: type of its values on the command line.
    """

    words: str
    accepts: Callable[[Any], bool]
    kind: type = object

    def or_none(self) -> Constraint:
        """Return the constraint that also accepts None."""
        return Constraint(f"{self.words}, or None", lambda value: value is None or self.accepts(value), self.kind)

    def check(self, name: str, value: Any) -> None:
        """Check a value.

        Raises:
            ConfigError: the value is invalid; the message has the setting's name, the constraint, and the value.
        """
        if not self.accepts(value):
            raise ConfigError(f"{name} must be {self.words}, got {shown(value)}")


def whole(least: int) -> Constraint:
    """Return the constraint to integers of at least `least`."""
    return Constraint(f"a whole number >= {least}", lambda value: is_whole(value, least=least), int)


def instance(kind: type, example: str) -> Constraint:
    """Return the constraint to instances of the example's class."""
    return Constraint(f"one such as {example}", lambda value: isinstance(value, kind), kind)


NOT_NEGATIVE = Constraint("a finite number >= 0", lambda value: is_finite_number(value, least=0), float)
# What counts is the float that is computed with: a fraction may lie between 0 and 1 and be neither as a float.
POSITIVE = Constraint("a finite number > 0", lambda value: is_finite_number(value, least=0) and float(value) > 0, float)
BELOW_1 = Constraint("a number in [0, 1)", lambda value: is_finite_number(value, least=0) and float(value) < 1, float)
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
    """Declare a setting as a dataclass field.

    Args:
        default: default value.
        constraint: constraint on its value; None if it is checked elsewhere.
        words: description; its first sentence is the help text on the command line.
        panel: panel of the command line's help; empty for a setting without an option.
        metavar: placeholder of the value in the help.
        is_identity: whether a checkpoint can be resumed only with the same value.
    """
    about = {"constraint": constraint, "words": words, "panel": panel, "metavar": metavar, "is_identity": is_identity}
    return field(default=default, metadata=about)


def options_of(kind: Any) -> dict[str, Field[Any]]:
    """Return the settings that a class or instance declares with `option`, by name."""
    return {each.name: each for each in fields(kind) if "words" in each.metadata}


def check_options(options: Any) -> None:
    """Check all settings against their constraints, and make their numbers Python's.

    A number of NumPy would turn the arithmetic of a float32 network into float64 or overflow, and a fraction would turn
    it into objects.

    Raises:
        ConfigError: a setting violates its constraint.
    """
    for name, about in options_of(options).items():
        if (constraint := about.metadata["constraint"]) is not None:
            value = getattr(options, name)
            constraint.check(name, value)
            if constraint.kind in (int, float) and value is not None:
                object.__setattr__(options, name, constraint.kind(value))


def documented(kind: Kind) -> Kind:
    """Insert the descriptions of the settings into the docstring of their class, before the errors."""
    text, _, errors = cleandoc(kind.__doc__ or "").partition("Raises:")
    lines = [f"    {name}: {about.metadata['words']}" for name, about in options_of(kind).items()]
    kind.__doc__ = "\n".join([f"{text}Attributes:", *lines, "", f"Raises:{errors}"])
    return kind

"""Constraints on settings, as data beside the field that they hold for: `option` declares one, `check_options` checks.

Python's numbers and NumPy's count alike as numbers, truth values do not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from inspect import cleandoc
from numbers import Integral, Real
from typing import Any, TypeVar

from .errors import ConfigError
from .lookup import look_up

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


@dataclass(frozen=True, kw_only=True)
class Constraint(ABC):
    """What a setting may be; in words as `str` gives them.

    Attributes:
        or_none: whether it may be None, too.
    """

    or_none: bool = False

    @abstractmethod
    def accepts(self, value: Any) -> bool:
        """Return whether a value that is not None will do."""

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that will not do.

        Raises:
            ConfigError: with the setting's name, what it must be, and the value.
        """
        if not (self.accepts(value) if value is not None else self.or_none):
            raise ConfigError(f"{name} must be {self}{', or None' if self.or_none else ''}, got {value!r:.80}")


@dataclass(frozen=True)
class Whole(Constraint):
    """A whole number of at least `least`."""

    least: int

    def __str__(self) -> str:
        return f"a whole number >= {self.least}"

    def accepts(self, value: Any) -> bool:
        """See `Constraint.accepts`."""
        return is_whole(value, least=self.least)


@dataclass(frozen=True)
class Number(Constraint):
    """A finite number of at least 0, or above it; or a share, of less than 1."""

    above_0: bool = False
    below_1: bool = False

    def __str__(self) -> str:
        if self.below_1:
            return f"a share in {'(' if self.above_0 else '['}0, 1)"
        return f"a finite number {'>' if self.above_0 else '>='} 0"

    def accepts(self, value: Any) -> bool:
        """See `Constraint.accepts`."""
        is_number = is_finite_number(value, least=0)
        return is_number and not (self.above_0 and value == 0) and not (self.below_1 and value >= 1)


@dataclass(frozen=True)
class Instance(Constraint):
    """An instance of a class, such as the one that `example` makes."""

    kind: type
    example: str = ""

    def __str__(self) -> str:
        return f"one such as {self.example}" if self.example else "True or False"

    def accepts(self, value: Any) -> bool:
        """See `Constraint.accepts`."""
        return isinstance(value, self.kind)


FLAG = Instance(bool)


@dataclass(frozen=True)
class RowOf(Constraint):
    """The name of a row of a table, or, where that may be, a function in place of one."""

    table: Mapping[str, Any]
    function: str = ""  # what it is a function of

    def __str__(self) -> str:
        return f"a name or a function of the {self.function}" if self.function else "a name"

    def accepts(self, value: Any) -> bool:
        """See `Constraint.accepts`."""
        return isinstance(value, str) or bool(self.function and callable(value))

    def check(self, name: str, value: Any) -> None:
        """See `Constraint.check`; the message lists the rows and names the nearest one."""
        super().check(name, value)
        if isinstance(value, str):
            look_up(name, value, self.table)


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
    return field(default=default, metadata=about)  # type: ignore[no-any-return]


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

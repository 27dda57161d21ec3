"""The public names of a network's C source, and the header that documents them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

from ...backends import ConfigError
from ..inputs.inputs import BYTE, Inputs, Pixels
from ..inputs.table import Column, Table
from ..network.mlp import MLP
from .c_text import Identifiers, Parts, comment_text, word_of

WORD = 2**16 - 1  # largest 16-bit pixel


@dataclass(frozen=True)
class ColumnNames:
    """Names of a column.

    Attributes:
        index: enumerator of its index.
        level_function: function from a text to the code of its level; None if cells are numbers.
        levels: enumerators of the codes, (levels,).
    """

    index: str
    level_function: str | None = None
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Interface:
    """Public names of a C source.

    Attributes:
        name: beginning of all of them.
        row: name of the argument that is a row.
        kind: type of its elements.
        columns: names of a table's columns; empty for other inputs.
        has_names: whether the outputs have names.
    """

    name: str
    row: str
    kind: str
    columns: tuple[ColumnNames, ...]
    has_names: bool


def interface_of(net: MLP, inputs: Inputs, name: str) -> Interface:
    """Return the public names of the source of a network.

    Raises:
        ConfigError: the inputs are pixels of more than 16 bits.
    """
    has_names = net.outputs.has_probabilities
    if isinstance(inputs, Table):
        made = Identifiers()
        columns = tuple(_column_names(k, column, name, made) for k, column in enumerate(inputs.columns))
        return Interface(name, "cells", "double", columns, has_names)
    if not isinstance(inputs, Pixels):
        return Interface(name, "numbers", "float", (), has_names)
    if inputs.largest > WORD:
        raise ConfigError(
            f"pixels in C are at most {WORD:,}, but the network's go up to {inputs.largest:,g}: export it as .onnx"
        )
    return Interface(name, "pixels", "uint8_t" if inputs.largest <= BYTE else "uint16_t", (), has_names)


def header_text(net: MLP, inputs: Inputs, interface: Interface, memory: str) -> str:
    """Return the text of the header.

    Args:
        net: the network.
        inputs: its inputs.
        interface: its public names.
        memory: sentence about the memory that it needs.
    """
    parts = Parts("c_header.h", {"name": interface.name, "NAME": interface.name.upper(), "row": interface.row,
                                 "type": interface.kind})  # fmt: skip
    shape = f"{'-'.join(map(str, net.sizes))}, {net.activation}"
    about = f"Network {shape}, exported by xpnn {version('xpnn')}."
    pieces = [parts.fill("head", about=about, memory=memory, inputs=inputs.width or net.features,
                         outputs=net.num_outputs)]  # fmt: skip
    if isinstance(inputs, Table):
        pieces += _table_pieces(inputs, interface, parts)
    elif isinstance(inputs, Pixels):
        order = "{} rows of {}".format(*inputs.image_shape) if inputs.image_shape else "in the order of the training"
        pieces.append(parts.fill("pixels", order=order, largest=f"{inputs.largest:g}"))
    else:
        pieces.append(parts.fill("numbers"))
    pieces.append(parts.fill(net.outputs.function if interface.has_names else "values"))
    if interface.has_names:
        names = "\n".join(f" *   {k}: {comment_text(name)}" for k, name in enumerate(net.names))
        pieces.append(parts.fill("names", names=names))
    return "\n".join([*pieces, parts.fill("end")])


def _table_pieces(table: Table, interface: Interface, parts: Parts) -> Iterator[str]:
    """Return the description of a table's cells, with the enumerations of columns and levels."""
    both = list(zip(table.columns, interface.columns, strict=True))
    columns = [(names.index, _cell_words(column, names)) for column, names in both]
    yield parts.fill("cells", columns=_enumeration(columns))
    for column, names in both:
        if names.level_function:
            levels = [(name, comment_text(level)) for name, level in zip(names.levels, column.levels, strict=True)]
            yield parts.fill("levels", column=comment_text(column.name), levels=_enumeration(levels),
                             function=names.level_function)  # fmt: skip


def _enumeration(members: list[tuple[str, str]]) -> str:
    """Return an enumeration of names, from 0, each with a comment."""
    last = len(members) - 1
    lines = [f"    {name} = {k}{',' * (k < last)} /* {words} */" for k, (name, words) in enumerate(members)]
    return "\n".join(["enum {", *lines, "};"])


def _cell_words(column: Column, names: ColumnNames) -> str:
    """Describe a cell of a column."""
    what = comment_text(column.name)
    if column.kind == "truth":
        what += ": 0 or 1"
    elif column.kind == "number":
        what += f": number, in training {column.mean:.6g} +- {column.std:.6g}"
    elif names.level_function:
        what += f": {names.level_function}(text)"
    else:
        what += f": category, one of {comment_text(', '.join(column.levels))}"
    can_be_missing = column.kind == "category" or column.fill is not None
    return f"{what}{'; may be missing' if can_be_missing else ''}"


def _column_names(k: int, column: Column, name: str, made: Identifiers) -> ColumnNames:
    """Return the names of column `k`; a category whose cells are its levels as numbers needs no others."""
    word, upper = word_of(column.name, k), name.upper()
    index = made.make(f"{upper}_COLUMN_{word.upper()}")
    if not column.levels or column.codes.tolist() != list(range(len(column.levels))):
        return ColumnNames(index)
    words = [word_of(level, code) for code, level in enumerate(column.levels)]
    levels = tuple(made.make(f"{upper}_LEVEL_{word}_{each}".upper()) for each in words)
    return ColumnNames(index, made.make(f"{name}_level_{word.lower()}"), levels)

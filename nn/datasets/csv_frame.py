"""Text tables as polars frames: parsed as inferred from the first rows, or as text whose types all rows decide.

Imports polars, which is optional.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import polars as pl

from ...backends.errors import DataError
from ..files import limits
from .csv_dialect import MISSING, Head, TableOptions, read_head
from .csv_lines import check_text, count_lines, count_rows, walk, without_blank_lines, without_quotes
from .polars_package import polars_errors

BOM = b"\xef\xbb\xbf"
INFERENCE_ROWS = 1000  # from which polars infers types; where a later row contradicts, all rows decide
STRAY_SHARE = 0.05  # of a column's cells that are no numbers, up to which it is said that they are odd
EXPRESSIONS = 200  # that polars plans at once: its time grows with the square
CELL_BYTES = 8  # of a parsed number
ZLIB_START = (b"x\x01", b"x^")  # text that polars would take for a compressed file
TIMES = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
Lines = Sequence[int] | npt.NDArray[np.int64]  # in which rows begin, (rows,)


def read_csv(
    file: IO[bytes], path: Path, options: TableOptions
) -> tuple[pl.DataFrame, Lines, tuple[str, ...], tuple[str, ...]]:
    """Read a text table; `read_table` says how.

    Args:
        file: the text, at its beginning.
        path: its name in messages.
        options: what is known of the dialect.

    Returns:
        The typed columns, the lines of the rows, sentences on what was detected, and the columns that have no name.

    Raises:
        DataError: the text is no table, or exceeds `limits`.
    """
    if file.read(len(BOM)) != BOM:
        file.seek(0)
    head = read_head(file, path, options)
    file.seek(head.begin)
    text, first_line = _without_outer_blank_lines(file.read(), head.line)
    if not text:
        raise DataError(f"{path} must hold rows below its header, got none")
    check_text(text, path, first_line)
    if head.has_spaces_before_quotes:
        text = _without_spaces_before_quotes(text, head.delimiter)
    outside = without_quotes(text, head.delimiter, path, first_line) if b'"' in text else text
    frame, lines = _read_rows(text, outside, head, path, first_line)
    frame, words = _with_types(frame, head, lines)
    unnamed = head.unnamed
    if len(head.names) > 1 and head.names[-1] in unnamed and frame[head.names[-1]].null_count() == frame.height:
        frame, unnamed = frame.drop(head.names[-1]), unnamed[:-1]  # each row ends with a delimiter
    if unnamed:
        names = ", ".join(unnamed[:6]) + (", ..." if len(unnamed) > 6 else "")
        words.append(f"no name in the header for {names}")
    return frame, lines, (*head.words, *words), unnamed


def _without_outer_blank_lines(text: bytes, first_line: int) -> tuple[bytes, int]:
    """Cut blank lines off both ends; return the text, and the number of its first line."""
    if text[:1] in (b"\n", b"\r", b" "):
        blank = text[: len(text) - len(text.lstrip(b" \r\n"))]
        begin = blank.rfind(b"\n") + 1
        text, first_line = text[begin:], first_line + blank.count(b"\n")
    if text[-3:].count(b"\n") > 1 or text.endswith((b" ", b"\r")):
        text = text.rstrip(b" \r\n")
    return text, first_line


def _without_spaces_before_quotes(text: bytes, delimiter: str) -> bytes:
    """Join quotes to the delimiter before them; polars reads others as text. Two quotes may be one within a cell."""
    sign = re.escape(delimiter.encode())
    return re.sub(rb'(?<=[\n%b]) +(?="(?!")|"""|""(?:[%b\r\n]|\Z))' % (sign, sign), b"", text)


def _read_rows(text: bytes, outside: bytes, head: Head, path: Path, first_line: int) -> tuple[pl.DataFrame, Lines]:
    """Parse a text, of which `outside` has no quotes; return the frame, and the line in which each row begins.

    Polars fills rows that are too short with nulls. So where the last of several columns has none, and each line made
    a row, all rows are complete; elsewhere their cells are counted, which takes longer.
    """
    columns = len(head.names)
    num_lines = count_lines(text)
    frame = None
    if num_lines * columns * CELL_BYTES <= limits.DATA_BYTES:
        with suppress(DataError):  # which is raised again below, where the line is known
            frame = _parse(text, head, path)
            if columns > 1 and frame.shape == (num_lines, columns) and not frame.to_series(columns - 1).null_count():
                return frame, range(first_line, first_line + num_lines)
    num_rows, lines = count_rows(outside), None
    if num_rows != num_lines or outside.count(head.delimiter.encode()) != num_rows * (columns - 1):
        lines = walk(text, head.delimiter, columns, path, first_line)
        num_rows = len(lines)
    if num_rows * columns * CELL_BYTES > limits.DATA_BYTES:
        raise DataError(
            f"{path} holds {num_rows} rows of {columns} cells, {CELL_BYTES} bytes each, more than the limit of "
            f"{limits.DATA_BYTES} bytes: leave out rows or columns, or write the table as .npz"
        )
    try:
        if frame is None or frame.height != num_rows:
            frame = _parse(text if lines is None else without_blank_lines(text), head, path)
        if frame.shape != (num_rows, columns):
            raise DataError(f"{path} must have {num_rows} rows, got {frame.height}: quote only whole cells")
    except DataError:
        walk(text, head.delimiter, columns, path, first_line)  # which may find the line
        raise
    return frame, range(first_line, first_line + num_rows) if lines is None else lines


def _parse(text: bytes, head: Head, path: Path) -> pl.DataFrame:
    """Parse by the types that polars infers; all columns as text if a row contradicts them."""
    if text.startswith(ZLIB_START):
        text = re.sub(rb"[^\r\n%b]+" % re.escape(head.delimiter.encode()), rb'"\g<0>"', text, count=1)

    def parse(inference_rows: int) -> pl.DataFrame:
        return pl.read_csv(
            text,
            has_header=False,
            separator=head.delimiter,
            decimal_comma=head.decimal == "," and inference_rows > 0,
            infer_schema_length=inference_rows,  # 0: all text
        )

    with polars_errors(path, "quote only whole cells"):
        try:
            frame = parse(INFERENCE_ROWS)
        except pl.exceptions.ComputeError:
            frame = parse(0)
    return frame


def _with_types(frame: pl.DataFrame, head: Head, lines: Lines) -> tuple[pl.DataFrame, list[str]]:
    """Give each column its type; return the frame, and sentences on columns with few cells that are no numbers.

    The frame has names of its own until then: in expressions of polars, some names are patterns.
    """
    changed: list[pl.Series] = []
    for name, dtype in frame.schema.items():
        if dtype.is_float() and math.isnan(frame[name].sum() or 0):  # infinities of both signs are no NaN, but kept
            changed.append(frame[name].fill_nan(None))
        elif dtype.is_integer() and dtype != pl.Int64:
            changed.append(frame[name].cast(pl.Float64))
    titles = dict(zip(frame.columns, head.names, strict=True))
    names = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    words = []
    for begin in range(0, len(names), EXPRESSIONS):
        typed = _typed(frame.select(_stripped(pl.col(names[begin : begin + EXPRESSIONS]))), head.decimal)
        changed.extend(typed.get_columns())
        for name, row in _strays(typed, head.decimal):
            where = f"{typed[name][row]!r:.40} in line {lines[row]}"
            words.append(f"column {titles[name]!r:.80} is text: {where} is not a number")
    frame = frame.with_columns(changed)
    frame.columns = list(head.names)
    return frame, words


def _stripped(text: pl.Expr) -> pl.Expr:
    """Return text without the spaces around, null where it is a word for a missing cell."""
    stripped = text.str.strip_chars()
    return pl.when(~stripped.is_in(MISSING)).then(stripped)


def _typed(text: pl.DataFrame, decimal: str) -> pl.DataFrame:
    """Return columns of text, each as the first type that holds all its cells."""
    typed = text
    remaining = [column.name for column in text if column.null_count() < text.height]
    times = [partial(_time, form=form) for form in TIMES]
    conversions: list[Callable[[pl.Expr], pl.Expr]] = [_integer, partial(_float, decimal=decimal), _truth_value, *times]
    for convert in conversions:
        fitting = _fitting(text, _fitting(text.head(INFERENCE_ROWS), remaining, convert), convert)
        if fitting:
            typed = typed.with_columns(convert(pl.col(fitting)))
            remaining = [name for name in remaining if name not in fitting]
    return typed


def _fitting(text: pl.DataFrame, names: Sequence[str], convert: Callable[[pl.Expr], pl.Expr]) -> list[str]:
    """Return the names of the columns that a conversion leaves without further nulls."""
    if not names:
        return []
    columns = pl.col(names)  # one expression for all
    fits = text.select((convert(columns).is_null() == columns.is_null()).all())
    return [name for name in names if fits[name].item()]


def _strays(typed: pl.DataFrame, decimal: str) -> Iterator[tuple[str, int]]:
    """Yield the columns of text whose cells are nearly all numbers, with the first row that has another."""
    names = [name for name, dtype in typed.schema.items() if dtype == pl.String]
    first = typed.head(INFERENCE_ROWS).select(_is_stray(pl.col(names), decimal).mean()) if names else typed
    for name in names:
        if first[name].item() <= 2 * STRAY_SHARE:
            is_stray = typed.select(_is_stray(pl.col(name), decimal)).to_series()  # (rows,)
            if 0 < is_stray.sum() <= STRAY_SHARE * (typed.height - typed[name].null_count()):
                yield name, int(is_stray.arg_max() or 0)


def _is_stray(text: pl.Expr, decimal: str) -> pl.Expr:
    return _float(text, decimal).is_null() & text.is_not_null()


def _integer(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.Int64, strict=False)


def _float(text: pl.Expr, decimal: str) -> pl.Expr:
    if decimal == ",":
        text = pl.when(~text.str.contains(".", literal=True)).then(text.str.replace(",", ".", literal=True))
    return text.cast(pl.Float64, strict=False)


def _truth_value(text: pl.Expr) -> pl.Expr:
    words = {"true": True, "false": False}
    return text.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


def _time(text: pl.Expr, form: str) -> pl.Expr:
    text = pl.when(text.str.contains(r"^[12]\d{3}-\d\d-\d\d")).then(text)  # polars also takes a year of one digit
    return text.str.to_datetime(form, strict=False) if "%H" in form else text.str.to_date(form, strict=False)

"""Bytes of a text table, checked before they are parsed: encoding, length of lines, cells in each row."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ..files import limits

BLOCK = 2**18  # bytes that are scanned at a time: they stay in the cache
NEWLINE, RETURN, SPACE, QUOTE = b'\n\r "'
_BLANK_LINE = re.compile(rb" *\r?\n")
_BLANK_LINES = re.compile(rb'"[^"]*"|(?<=\n)[ \r\n]*\n')  # outside quotes


@dataclass(frozen=True)
class Scan:
    """Counts of a text's bytes outside quotes, and where its rows begin.

    Attributes:
        rows: lines that are not blank; a quoted cell may span several.
        delimiters: number of delimiters.
        lines: line in which each row begins (rows,); None if each line is a row.
    """

    rows: int
    delimiters: int
    lines: npt.NDArray[np.int64] | None


@dataclass(frozen=True)
class _Block:
    ends: npt.NDArray[np.int64]  # of lines: positions in the text (lines,)
    outside: npt.NDArray[np.bool_]  # whether each of them is outside quotes (lines,)
    delimiters: int  # outside quotes


def check_text(text: bytes, path: Path, first_line: int) -> None:
    """Check that the bytes are text in UTF-8 with lines of bounded length.

    Raises:
        DataError: a zero byte, another encoding, or a line longer than `limits.CSV_LINE`; with the number of the line,
            counted from `first_line`.
    """
    if (place := text.find(b"\0")) >= 0:
        _raise_zero_byte(path, first_line + text.count(b"\n", 0, place))
    begin = 0
    while len(text) - begin > limits.CSV_LINE:
        end = text.rfind(b"\n", begin, begin + limits.CSV_LINE + 1)
        if end < 0:
            _raise_long_line(path, first_line + text.count(b"\n", 0, begin))
        begin = end + 1
    if not text.isascii():
        decoder = codecs.getincrementaldecoder("utf-8")()
        for begin in range(0, len(text), BLOCK):
            block = text[begin : begin + BLOCK]
            try:
                decoder.decode(block, final=begin + BLOCK >= len(text))
            except UnicodeDecodeError as error:
                place = begin + len(block) - len(error.object) + error.start  # it had kept the end of the last block
                _raise_not_utf8(path, first_line + text.count(b"\n", 0, place), error)


def decoded(line: bytes, path: Path, number: int) -> str:
    """Decode one line, held to the same limits as by `check_text`."""
    if len(line) > limits.CSV_LINE:
        _raise_long_line(path, number)
    if b"\0" in line:
        _raise_zero_byte(path, number)
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        _raise_not_utf8(path, number, error)


def count_lines(text: bytes) -> int:
    """Return the number of lines, blank ones included."""
    values = np.frombuffer(text, np.uint8)
    ends = sum(int(np.count_nonzero(values[k : k + BLOCK] == NEWLINE)) for k in range(0, len(values), BLOCK))
    return ends + (not text.endswith(b"\n"))


def scan(text: bytes, delimiter: str, first_line: int) -> Scan:
    """Count rows and delimiters of a text whose first line is not blank.

    Args:
        text: the rows.
        delimiter: a single ASCII character.
        first_line: number of the text's first line.
    """
    rows, lines, delimiters = 1, 1, 0
    for block in _blocks(text, delimiter):
        rows += int(_begins_row(text, block).sum())
        lines += len(block.ends)
        delimiters += block.delimiters
    lines -= text.endswith(b"\n")
    return Scan(rows, delimiters, None if rows == lines else _row_lines(text, delimiter, first_line))


def walk(text: bytes, delimiter: str, columns: int, path: Path, first_line: int) -> npt.NDArray[np.int64]:
    """Parse a text row by row, which is slow, to find the row that has too few or too many cells.

    Returns:
        The line in which each row begins (rows,), if there is no such row.

    Raises:
        DataError: a row of another number of cells, or a quote that is not closed.
    """
    begins: list[int] = []
    begin = 0  # lines that are read before the row
    reader = csv.reader(
        (line.decode() for line in BytesIO(text)), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        for row in reader:
            if len(row) > 1 or (row and (columns == 1 or row[0].strip())):
                if len(row) != columns:
                    raise DataError(
                        f"{path}: expected {columns} cells in each row, got {len(row)} in line {first_line + begin}: "
                        "fix that line"
                    )
                begins.append(first_line + begin)
            begin = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path} cannot be read ({error}) in the row of line {first_line + begin}: close its quotes, and "
            "quote only whole cells"
        ) from error
    return np.array(begins, np.int64)  # (rows,)


def check_quotes(text: bytes, delimiter: str, path: Path, first_line: int) -> None:
    """Check that quotes enclose whole cells, where readers agree on what they mean.

    Raises:
        DataError: a quote within a cell that is not doubled, or one that is not closed; with the number of the line.
    """
    values = np.frombuffer(text, np.uint8)
    last = len(values) - 1
    before_quote, after_quote = (ord(delimiter), NEWLINE, QUOTE), (ord(delimiter), NEWLINE, RETURN, QUOTE)
    is_inside, opening = False, 0
    for begin in range(0, len(values), BLOCK):
        places = np.flatnonzero(values[begin : begin + BLOCK] == QUOTE) + begin  # (quotes,)
        opens = (np.arange(len(places)) + is_inside) % 2 == 0
        fits_open = np.isin(values[np.maximum(places - 1, 0)], before_quote) | (places == 0)
        fits_close = np.isin(values[np.minimum(places + 1, last)], after_quote) | (places == last)
        fits = np.where(opens, fits_open, fits_close)
        if not fits.all():
            line = first_line + text.count(b"\n", 0, int(places[fits.argmin()]))
            raise DataError(
                f"{path}: quotes must enclose whole cells, got one within a cell in line {line}: enclose that cell, "
                "and double the quotes in it"
            )
        is_inside ^= len(places) % 2 == 1
        opening = int(places[opens][-1]) if opens.any() else opening
    if is_inside:
        line = first_line + text.count(b"\n", 0, opening)
        raise DataError(f"{path}: a quote must be closed, got an open one in line {line}: close it")


def without_blank_lines(text: bytes) -> bytes:
    """Remove the blank lines that are outside quotes."""
    return _BLANK_LINES.sub(lambda found: found[0] if found[0].startswith(b'"') else b"", text)


def _blocks(text: bytes, delimiter: str) -> Iterator[_Block]:
    values = np.frombuffer(text, np.uint8)
    is_inside = False
    for begin in range(0, len(values), BLOCK):
        block = values[begin : begin + BLOCK]
        ends = np.flatnonzero(block == NEWLINE)  # (lines,)
        is_delimiter = block == ord(delimiter)
        is_quote = block == QUOTE
        if is_quote.any():
            inside = (np.cumsum(is_quote, dtype=np.uint8) + is_inside) & 1  # as many quotes before as are odd
            is_delimiter &= inside == 0
            outside = inside[ends] == 0
            is_inside = bool(inside[-1])
        else:
            outside = np.full(len(ends), not is_inside)
            if is_inside:
                is_delimiter[:] = False
        yield _Block(ends + begin, outside, int(np.count_nonzero(is_delimiter)))


def _begins_row(text: bytes, block: _Block) -> npt.NDArray[np.bool_]:
    """Return whether a row begins behind each end of a line (lines,)."""
    values = np.frombuffer(text, np.uint8)
    begins = block.outside & (block.ends + 1 < len(values))
    following = values[np.minimum(block.ends + 1, len(values) - 1)]
    begins &= following != NEWLINE
    for k in np.flatnonzero(begins & ((following == RETURN) | (following == SPACE))):
        begins[k] = _BLANK_LINE.match(text, int(block.ends[k]) + 1) is None
    return begins


def _row_lines(text: bytes, delimiter: str, first_line: int) -> npt.NDArray[np.int64]:
    parts = [np.array([first_line])]
    line = first_line
    for block in _blocks(text, delimiter):
        numbers = line + 1 + np.arange(len(block.ends))  # of the lines behind the ends
        parts.append(numbers[_begins_row(text, block)])
        line += len(block.ends)
    return np.concatenate(parts)  # (rows,)


def _raise_zero_byte(path: Path, line: int) -> NoReturn:
    raise DataError(f"{path} must be text, got a zero byte in line {line}: is it UTF-16, or no table?")


def _raise_long_line(path: Path, line: int) -> NoReturn:
    raise DataError(
        f"{path}: a line must have at most {limits.CSV_LINE} bytes, got more in line {line}: is it a table?"
    )


def _raise_not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> NoReturn:
    raise DataError(
        f"{path} must be text in UTF-8, got the byte 0x{error.object[error.start]:02x} in line {line}: convert it with "
        "iconv -f cp1252 -t utf-8, or save it as CSV UTF-8"
    ) from error

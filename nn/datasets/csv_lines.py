"""Bytes of a text table, checked before they are parsed: encoding, length of lines, quotes, cells in each row."""

from __future__ import annotations

import codecs
import csv
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...backends.errors import DataError
from ..files import limits

BLOCK = 2**18  # bytes that are decoded at a time
_BLANK_LINE = re.compile(rb"\n(?= *\r?\n)")
_BLANK_LINES = re.compile(rb'"[^"]*"|(?<=\n)[ \r\n]*\n')  # outside quotes


def check_text(text: bytes, path: Path, first_line: int) -> None:
    """Check that the bytes are text in UTF-8 with lines of bounded length.

    Raises:
        DataError: a zero byte, another encoding, or a line longer than `limits.CSV_LINE`; with the number of the line,
            counted from `first_line`.
    """

    def line(place: int) -> int:
        return first_line + text.count(b"\n", 0, place)

    if (place := text.find(b"\0")) >= 0:
        raise DataError(f"{path} must be text, got a zero byte in line {line(place)}: is it UTF-16, or no table?")
    begin = 0
    while len(text) - begin > limits.CSV_LINE:
        end = text.rfind(b"\n", begin, begin + limits.CSV_LINE + 1)
        if end < 0:
            raise DataError(
                f"{path}: a line must have at most {limits.CSV_LINE} bytes, got more in line {line(begin)}: is it a "
                "table?"
            )
        begin = end + 1
    if text.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for begin in range(0, len(text), BLOCK):
        block = text[begin : begin + BLOCK]
        try:
            decoder.decode(block, final=begin + BLOCK >= len(text))
        except UnicodeDecodeError as error:
            place = begin + len(block) - len(error.object) + error.start  # it had kept the end of the last block
            raise DataError(
                f"{path} must be text in UTF-8, got the byte 0x{text[place]:02x} in line {line(place)}: convert it "
                "with iconv -f cp1252 -t utf-8, or save it as CSV UTF-8"
            ) from error


def count_lines(text: bytes) -> int:
    """Return the number of lines, blank ones included."""
    return text.count(b"\n") + (not text.endswith(b"\n"))


def count_rows(text: bytes) -> int:
    """Return the number of lines that are not blank, of a text without quotes whose first line is not."""
    return count_lines(text) - len(_BLANK_LINE.findall(text))


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


def without_quotes(text: bytes, delimiter: str, path: Path, first_line: int) -> bytes:
    """Return the text with "_" for each cell in quotes, which must enclose whole cells, where readers agree on them.

    Raises:
        DataError: a quote within a cell that is not doubled, or one that is not closed; with the number of the line.
    """
    sign = re.escape(delimiter.encode())
    quoted = re.compile(  # it begins with the quote that is searched for, which is fast
        rb'"(?:(?<=[\n%b]")|(?<=\A"))[^"]*+(?:""[^"]*+)*+"(?=[%b\r\n]|\Z)' % (sign, sign)
    )
    outside = quoted.sub(b"_", text)
    if b'"' not in outside:
        return outside
    rest = quoted.sub(lambda cell: b"_" + b"\n" * cell[0].count(b"\n"), text)  # with all lines
    place = rest.index(b'"')
    line = first_line + rest.count(b"\n", 0, place)
    if rest.count(b'"') == 1 and rest[max(0, place - 1) : place] in (b"", b"\n", delimiter.encode()):
        raise DataError(f"{path}: a quote must be closed, got an open one in line {line}: close it")
    raise DataError(
        f"{path}: quotes must enclose whole cells, got one within a cell in line {line}: enclose that cell, and double "
        "the quotes in it"
    )


def without_blank_lines(text: bytes) -> bytes:
    """Remove the blank lines that are outside quotes."""
    return _BLANK_LINES.sub(lambda found: found[0] if found[0].startswith(b'"') else b"", text)

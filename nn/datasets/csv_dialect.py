"""Detection of a csv dialect from the first lines: delimiter, decimal sign, header."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ...backends.errors import ConfigError, DataError
from ..files import limits
from .csv_lines import check_text

DELIMITERS = ("\t", ";", "|", ",")  # of several that fit, the first: a comma may also be a decimal comma
DELIMITER_WORDS = {"\t": "tabs", ";": "';'", "|": "'|'", ",": "','"}
SAMPLE_LINES, SAMPLE_BYTES = 200, 2**18  # that are read for the detection, whichever ends first; two lines at least
UTF16 = "UTF-16: convert it with iconv -f utf-16 -t utf-8, or save it as CSV UTF-8"
SIGNATURES = {  # first bytes of other files -> their kind, and what to do
    b"\xff\xfe": UTF16,
    b"\xfe\xff": UTF16,
    b"\x89PNG": "a PNG picture: pictures are for xpnn predict, by a name that ends in .png",
    b"\xff\xd8\xff": "a JPEG picture: pictures are for xpnn predict, by a name that ends in .jpg",
    b"PK\x03\x04": "a zip archive or an Excel workbook: rename it to .zip or .npz, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the sheet as CSV UTF-8",
    b"\x1f\x8b": "a gzip file: rename it to .csv.gz",
    b"PAR1\x15": "a parquet file: rename it to .parquet",
    b"\x93NUMPY": "a NumPy array: put it as images.npy and labels.npy into a folder, and name that",
    b"%PDF-": "a PDF document: export its table as CSV UTF-8",
    b"\x89HDF": "an HDF5 file: write its table as .csv or .parquet",
    b"SQLite format 3\0": "an SQLite database: export its table as CSV UTF-8",
}
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "NAN", "nan", "null", "Null", "NULL", "None", "?")

_EXPONENT = r"([eE][+-]?\d+)?"
_WHOLE = re.compile(rf"[+-]?\d+{_EXPONENT}")
_FRACTION = {sign: re.compile(rf"[+-]?(\d+{sign}\d*|{sign}\d+){_EXPONENT}") for sign in (r"\.", ",")}


@dataclass(frozen=True)
class TableOptions:
    """Dialect of a text table, as far as it is known; None means detected.

    Attributes:
        delimiter: what separates cells: a comma, a semicolon, a tab or a vertical bar.
        decimal: decimal sign, "." or ","; a comma needs another delimiter.
        header: whether the first row holds the names of the columns.

    Raises:
        ConfigError: another delimiter or decimal sign, or a comma for both.
    """

    delimiter: str | None = None
    decimal: str | None = None
    header: bool | None = None

    def __post_init__(self) -> None:
        if self.delimiter not in (None, *DELIMITERS):
            raise ConfigError(f"delimiter must be ',', ';', '|' or a tab, got {self.delimiter!r:.80}")
        if self.decimal not in (None, ".", ","):
            raise ConfigError(f"decimal must be '.' or ',', got {self.decimal!r:.80}")
        if self.delimiter == self.decimal == ",":
            raise ConfigError("delimiter must differ from decimal, got ',' for both: name another delimiter")


@dataclass(frozen=True)
class Head:
    """Dialect of a file and place of its data.

    Attributes:
        delimiter: separator of cells.
        decimal: decimal sign.
        names: of the columns (columns,).
        unnamed: those of them that have no name in the file's header.
        begin: bytes before the first data row.
        line: line in which the first data row begins, from 1.
        has_spaces_before_quotes: whether quotes do not begin their cells, as in `1, "a"`.
        words: sentences on what differs from commas, points and a header.
    """

    delimiter: str
    decimal: str
    names: tuple[str, ...]
    unnamed: tuple[str, ...]
    begin: int
    line: int
    has_spaces_before_quotes: bool
    words: tuple[str, ...]


Row = list[str]  # cells without the spaces around them (columns,)


def read_head(file: IO[bytes], path: Path, options: TableOptions) -> Head:
    """Detect the dialect of a text table from its first lines.

    Args:
        file: the text, behind a byte order mark.
        path: its name in messages.
        options: what is known of the dialect.

    Raises:
        DataError: the first lines are no text in UTF-8, or no table; a name appears twice; the decimal sign cannot be
            told.
    """
    start = file.tell()
    raw = _first_lines(file, path)
    check_text(b"".join(raw), path, 1)
    skipped = next((k for k, line in enumerate(raw) if line.strip(b" \r\n")), len(raw))
    lines = [line.decode() for line in raw[skipped:]]
    if not lines:
        raise DataError(f"{path} must hold a table, got no text: check that this is the right file")
    delimiter = options.delimiter or _detect_delimiter(lines, options)
    rows, header_lines = _rows(lines, delimiter, path, skipped)
    decimal = options.decimal or _detect_decimal(rows, delimiter, path)
    has_header = _has_header(rows, decimal) if options.header is None else options.header
    names, unnamed = _names(rows, path) if has_header else (_numbered(rows), ())
    if len(names) > limits.CSV_COLUMNS:
        raise DataError(
            f"{path} must have at most {limits.CSV_COLUMNS} columns, got {len(names)}: leave some out, or write "
            "the table as .npz"
        )
    before = skipped + header_lines * has_header  # lines
    begin = start + sum(map(len, raw[:before]))
    words = []
    if delimiter != "," and options.delimiter is None:
        words.append(f"separated by {DELIMITER_WORDS[delimiter]}")
    if decimal == "," and options.decimal is None:
        words.append("decimal comma")
    if not has_header:
        words.append("no header: columns are named column_1, column_2, ...")
    is_spaced = any(f'{delimiter} "' in line for line in lines)
    return Head(delimiter, decimal, names, unnamed, begin, before + 1, is_spaced, tuple(words))


def _first_lines(file: IO[bytes], path: Path) -> list[bytes]:
    lines: list[bytes] = []
    length = 0
    while len(lines) < 2 or (len(lines) < SAMPLE_LINES and length < SAMPLE_BYTES):
        line = file.readline(limits.CSV_LINE + 1)
        if not line:
            break
        if not lines and (found := next(filter(line.startswith, SIGNATURES), None)):
            raise DataError(f"{path} must be text in UTF-8, got {SIGNATURES[found]}")
        lines.append(line)
        length += len(line)
    return lines


def _detect_delimiter(lines: Sequence[str], options: TableOptions) -> str:
    """Return the delimiter that cuts most rows into the same number of cells, two at least; else a comma."""
    best, most = ",", 0.0
    for delimiter in DELIMITERS:
        if delimiter == options.decimal:
            continue
        try:
            widths = Counter(
                len(row) for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if any(row)
            )
        except csv.Error:
            continue
        width, count = widths.most_common(1)[0] if widths else (0, 0)
        share = count / widths.total() if width > 1 else 0.0
        if share > most:
            best, most = delimiter, share
    return best if best != options.decimal else ";"


def _rows(lines: Sequence[str], delimiter: str, path: Path, skipped: int) -> tuple[list[Row], int]:
    """Parse the sample, without blank lines and without a last row that may be cut off.

    Returns:
        The rows, one at least, and the number of lines that end with the first.
    """
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows: list[Row] = []
    first_lines = 0
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip(" "):
                rows.append([cell.strip() for cell in cells])
                first_lines = first_lines or reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path} cannot be read ({error}) near line {skipped + reader.line_num}: end lines with a line feed, and "
            "close quotes"
        ) from error
    if rows[1:] and "".join(lines).count('"') % 2:  # the last row is in the midst of a quoted cell
        rows.pop()
    if not rows:
        raise DataError(f"{path} must hold a table, got nothing but blank lines: check that this is the right file")
    return rows, first_lines


def _is_number(cell: str, decimal: str) -> bool:
    sign = r"\." if decimal == "." else ","
    return bool(_WHOLE.fullmatch(cell) or _FRACTION[sign].fullmatch(cell)) or cell.lower() in ("true", "false")


def _detect_decimal(rows: Sequence[Row], delimiter: str, path: Path) -> str:
    if delimiter == ",":
        return "."
    cells = [cell for row in rows for cell in row]
    comma, point = (next(filter(_FRACTION[sign].fullmatch, cells), None) for sign in (",", r"\."))
    if comma and point:
        raise DataError(
            f"{path} must have one decimal sign, got {comma!r:.40} and {point!r:.40}: name it, decimal=',' or "
            "decimal='.'"
        )
    return "," if comma else "."


def _has_header(rows: Sequence[Row], decimal: str) -> bool:
    """Return whether the first row names the columns.

    It is a row of data if it has a number wherever the rows below have only numbers and, should it have text, some of
    that text appears again below. Names may be numbers where they count from 0, as pandas writes them.
    """
    first, below = rows[0], rows[1:]
    is_number = [_is_number(cell, decimal) for cell in first]
    if not below:
        return not any(is_number)
    numbers = [int(cell) for cell in first if cell.isascii() and cell.isdigit()]
    if len(numbers) > 2 and numbers == list(range(len(numbers))):
        return True
    text_recurs, has_text = False, False
    for k, cell in enumerate(first):
        column = [row[k] for row in below if k < len(row) and row[k] not in MISSING]
        if column and all(_is_number(other, decimal) for other in column):
            if not is_number[k] and cell not in MISSING:
                return True
        elif not is_number[k] and cell not in MISSING:
            has_text = True
            text_recurs = text_recurs or cell in column
    return has_text and not text_recurs


def _numbered(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return names for the usual number of cells in a row, (columns,)."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    return tuple(f"column_{k + 1}" for k in range(width))


def _names(rows: Sequence[Row], path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names in the header (columns,), and those of them that were given because a cell is empty."""
    header, below = rows[0], rows[1:]
    if below and all(len(row) == len(header) + 1 and not row[-1] for row in below):
        header = [*header, ""]  # each row ends with a delimiter
    names = [name or f"column_{k + 1}" for k, name in enumerate(header)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{path} must name each column once in its header, got {', '.join(twice)!r:.200} more than once: rename "
            "them, or say that there is no header"
        )
    return tuple(names), tuple(name for name, cell in zip(names, header, strict=True) if not cell)

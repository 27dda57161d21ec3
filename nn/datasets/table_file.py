"""Tables in files, as typed polars frames: csv in its dialects, tsv, gzip, zip, parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...backends.errors import DataError
from ..files import limits
from ..files.data_file import opened
from .csv_dialect import TableOptions
from .dataset import Origin
from .packed_text import unpack
from .parquet_frame import read_parquet
from .polars_package import require_polars

if TYPE_CHECKING:
    import polars as pl

PARQUET_SUFFIXES = (".parquet", ".pq")
PACKED_SUFFIXES = (".csv.gz", ".tsv.gz", ".txt.gz", ".zip")
SUFFIXES = (".csv", ".tsv", ".txt", *PACKED_SUFFIXES, *PARQUET_SUFFIXES)

__all__ = ["SUFFIXES", "TableFile", "TableOptions", "is_table", "read_table"]


@dataclass(frozen=True)
class TableFile:
    """Table that was read from a file.

    Attributes:
        frame: all columns, in the order of the file. Of text: Int64, Float64, Boolean, Date, Datetime or String; of
            parquet: their own types. A missing cell is null.
        origin: line of the file in which each row begins; of parquet the number of each row, from 1.
        words: sentences on what was detected, other than commas, decimal points and a header.
        unnamed: columns that have no name in the header, as an index that pandas wrote; here they are called
            `column_` and their number, from 1.
    """

    frame: pl.DataFrame
    origin: Origin
    words: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()


def is_table(path: Path) -> bool:
    """Return whether a file's name ends as those of tables do, in `SUFFIXES`, upper or lower case."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path, options: TableOptions = TableOptions()) -> TableFile:  # noqa: B008 - it is immutable
    """Read a table from a file of text or parquet.

    Text is UTF-8, with or without a byte order mark, and as `options` says or as its first lines look: separated by
    commas, semicolons, tabs or vertical bars; with a decimal point, or a comma if commas do not separate; with a header
    unless the first row looks like those below. Cells that hold delimiters or line ends are in double quotes. Blank
    lines are skipped, and spaces around cells dropped. Missing are the cells that are empty or one of NA, N/A, n/a,
    #N/A, NaN, NAN, nan, null, Null, NULL, None and ?.

    A column is of the first type that holds all its cells: Int64, Float64 (whole numbers beyond 64 bits too), Boolean
    (true and false in any case), Date (2026-01-31), Datetime (2026-01-31 12:00:00), else String. A number column with a
    word anywhere is thus text; where at most one cell in twenty is no number, `words` names the first.

    Args:
        path: a file whose name ends in one of `SUFFIXES`; a .zip holds one text table.
        options: dialect of a text table, as far as it is known.

    Raises:
        DataError: the file is no such table, has rows of differing length, an unclosed quote, a name twice in its
            header or a column that is nested or binary, is damaged, or exceeds `limits`.
        MissingDependency: polars is not installed.
    """
    require_polars()
    from .csv_frame import read_csv

    if not is_table(path):
        raise DataError(f"{path} must end in {', '.join(SUFFIXES)}: rename it, or write it as one of them")
    name = path.name.lower()
    with opened(path) as (file, size):
        if size > limits.DATA_BYTES:
            raise DataError(f"{path} has {size} bytes, more than the limit of {limits.DATA_BYTES}: leave out rows")
        if name.endswith(PARQUET_SUFFIXES):
            frame = read_parquet(file, path)
            return TableFile(frame, Origin(range(1, len(frame) + 1), str(path), "in row"))
        text = unpack(file, size, path) if name.endswith(PACKED_SUFFIXES) else file
        frame, lines, words, unnamed = read_csv(text, path, options)
        return TableFile(frame, Origin(lines, str(path), "in line"), words, unnamed)

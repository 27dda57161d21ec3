"""Program that decodes parquet: from standard input, to Arrow's IPC format on standard output.

It is a process of its own since a damaged file may end it: polars allocates what a page's header promises, and aborts
if that fails. Exit code `REFUSED` means that standard output holds a sentence instead, on what is wrong.

Usage: python parquet_decoder.py MAX_CELLS MAX_COLUMNS
"""

from __future__ import annotations

import sys
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

REFUSED = 3


class RefusedError(Exception):
    """The file is intact, but no table for training."""


def main(max_cells: int, max_columns: int) -> int:
    """Decode standard input; return the exit code."""
    import polars as pl

    try:
        frame = decode(sys.stdin.buffer.read(), max_cells, max_columns)
    except (Exception, pl.exceptions.PanicException) as error:  # a panic is no Exception
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        reason = reason if isinstance(error, RefusedError) else f"it is damaged ({reason:.200}): write it again"
        sys.stdout.buffer.write(reason.encode(errors="replace"))
        return REFUSED
    frame.write_ipc(sys.stdout.buffer)
    return 0


def decode(content: bytes, max_cells: int, max_columns: int) -> pl.DataFrame:
    """Decode a parquet file of numbers, truth values, text and times.

    Raises:
        RefusedError: it has no rows, too many cells or columns, or a column that is nested or binary.
    """
    import polars as pl

    lazy = pl.scan_parquet(BytesIO(content))
    schema = lazy.collect_schema()
    if len(schema) > max_columns:
        raise RefusedError(f"it must have at most {max_columns} columns, got {len(schema)}: leave some out")
    for name, dtype in schema.items():
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Unknown):
            raise RefusedError(
                f"columns must hold numbers, truth values, text or times, got {dtype!s:.40} in {name!r:.80}: drop that "
                "column, or write its parts as columns"
            )
    num_rows = int(lazy.select(pl.len()).collect().item())
    if num_rows == 0 or not schema:
        raise RefusedError(f"it must hold rows, got {num_rows} of {len(schema)} columns")
    if num_rows * len(schema) > max_cells:
        raise RefusedError(
            f"it promises {num_rows} rows of {len(schema)} columns, more than the limit of {max_cells} cells: leave "
            "out rows or columns"
        )
    return lazy.collect()


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

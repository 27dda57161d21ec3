"""Data sets by name, from files, and from arrays."""

from .arrays import from_arrays
from .dataset import Dataset, Split
from .idx import read_idx
from .load import load_dataset
from .raw_rows import Reading
from .split import resplit, split_places
from .table_file import TableOptions

__all__ = [
    "Dataset",
    "Reading",
    "Split",
    "TableOptions",
    "from_arrays",
    "load_dataset",
    "read_idx",
    "resplit",
    "split_places",
]

"""Source and split of the rows of a run."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...backends import ConfigError
from ..datasets import Dataset, load_dataset, resplit
from ..datasets.idx_folder import find_parts, idx_prefix
from ..datasets.load import NAMED
from ..datasets.mnist import SOURCES
from ..datasets.npy_folder import find_arrays
from ..datasets.table_file import TableOptions, is_table
from ..files.data_file import existing_path
from ..inputs.inputs import Inputs

if TYPE_CHECKING:
    from .recipes import Recipe

OF_TABLES = {"label_column", "id_column", "drop", "categorical", "delimiter", "decimal", "header"}
TEST_FRACTION = 0.2  # where neither the choice nor the recipe names one


@dataclass(frozen=True)
class DataChoice:
    """Source and split of the rows of a run.

    Attributes:
        source: name or path for `load_dataset`, or the parent of a folder with the recipe's data set; None for the
            recipe's data set.
        label_column: label's column of a table; None to find it.
        id_column: column of a table that identifies the rows; None to find it, "none" if there is none.
        drop: columns of a table to leave out.
        categorical: columns of a table that are categories, whatever they hold.
        delimiter: what separates the cells of a text table; None to find it.
        decimal: decimal sign of a text table; None to find it.
        header: whether a text table has a header; None to find out.
        test_fraction: fraction of rows to hold out if the source has no test set or the recipe splits all rows again;
            None for the recipe's own, else 0.2.
        stratify: whether to preserve class proportions in the split.
    """

    source: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    delimiter: str | None = None
    decimal: str | None = None
    header: bool | None = None
    test_fraction: float | None = None
    stratify: bool = False

    def load(
        self,
        recipe: Recipe,
        *,
        seed: int,
        regression: bool | None = None,
        inputs: Inputs | None = None,
        is_whole: bool = False,
    ) -> Dataset:
        """Load and split the rows of a recipe.

        A given folder is never ignored in favour of other data. Four IDX files are loaded as the data set that they
        contain, whatever the recipe's own.

        Args:
            recipe: the recipe.
            seed: seed of the split.
            regression: whether labels are numbers to predict; None to find out.
            inputs: inputs of a trained network, by which the rows are read; None to learn them.
            is_whole: whether to hold out no rows.

        Raises:
            ConfigError, DataError, MissingDependency: as in `load_dataset`.
        """
        source, data_dir = self.source, None
        if source is None:
            source = recipe.dataset
            if not source:
                raise ConfigError(f"the recipe {recipe.name} has no data of its own: name a file by --data")
        elif source not in NAMED and _is_parent(existing_path(source), recipe.dataset):
            source, data_dir = recipe.dataset, source
        test_fraction = self.test_fraction
        if test_fraction is None:
            test_fraction = TEST_FRACTION if recipe.test_fraction is None else recipe.test_fraction
        columns = {"id_column": self.id_column, "drop": self.drop, "categorical": self.categorical}
        data = load_dataset(
            source,
            data_dir=data_dir,
            label_column=self.label_column,
            dialect=TableOptions(self.delimiter, self.decimal, self.header),
            test_fraction=None if is_whole else test_fraction,
            seed=seed,
            stratify=self.stratify,
            regression=regression,
            inputs=inputs,
            **(columns if is_table(Path(source)) else {}),
        )
        if recipe.test_fraction is None or is_whole:
            return data
        return resplit(data, test_fraction=test_fraction, seed=seed, stratify=self.stratify)

    def has_test_rows(self, recipe: Recipe) -> bool:
        """Return whether the source has its own test rows, which the recipe keeps."""
        source = recipe.dataset if self.source is None else self.source
        return recipe.test_fraction is None and (source in NAMED or _has_test_rows(existing_path(source)))

    def refuse_idle(self, options: Collection[str], recipe: Recipe) -> None:
        """Reject options without effect on these rows.

        Args:
            options: names of attributes set by the user.
            recipe: recipe, which may split all rows again.

        Raises:
            ConfigError: an option would have no effect.
        """
        source = recipe.dataset if self.source is None else self.source
        if not source:
            return  # `load` refuses
        if idle := sorted(OF_TABLES & set(options)) if not is_table(Path(source)) else []:
            option = "header/--no-header" if idle[0] == "header" else idle[0].replace("_", "-")
            raise ConfigError(f"--{option} is for a table such as .csv, got {source}: leave it out")
        if self.has_test_rows(recipe) and (idle := sorted({"test_fraction", "stratify"} & set(options))):
            option = idle[0].replace("_", "-")
            raise ConfigError(f"--{option} is for rows that are still to be split, but {source} has its own test rows")

    def absolute(self) -> DataChoice:
        """Return the choice with an absolute path, valid in any working directory."""
        if self.source is None or self.source in NAMED or (path := existing_path(self.source)) is None:
            return self
        return replace(self, source=os.fspath(path.resolve()))


def _has_test_rows(path: Path | None) -> bool:
    """Return whether it is a folder with a test set, or one of four IDX files; two `.npy` files are yet to be split."""
    if path is None or not path.is_dir():
        return path is not None and idx_prefix(path) is not None
    arrays = None if find_parts(path) is not None else find_arrays(path)
    return arrays is None or len(arrays) == 4


def _is_parent(folder: Path | None, dataset: str) -> bool:
    """Return whether `folder` has no data itself, and so must contain a folder named `dataset`."""
    is_source = dataset in {source.name for source in SOURCES}
    has_none = folder is not None and folder.is_dir() and find_parts(folder) is None and find_arrays(folder) is None
    return is_source and has_none

"""Which rows a run works on: from where they come and how they are split."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...backends import ConfigError
from ..datasets import Dataset, load_dataset, resplit
from ..datasets.idx_folder import find_parts
from ..datasets.load import NAMED
from ..datasets.mnist import SOURCES
from ..datasets.npy_folder import find_arrays
from ..files.data_file import existing_path

if TYPE_CHECKING:
    from .recipes import Recipe

TEST_FRACTION = 0.2  # where neither the choice nor the recipe names one


@dataclass(frozen=True)
class DataChoice:
    """Where the rows of a run come from.

    Attributes:
        source: a name or path for `load_dataset`, or the parent of a folder with the recipe's own data set; None for
            that data set, wherever it is found.
        label_column: the header of the label's column in a `.csv`.
        test_fraction: share of the rows held back where the source has no test part or the recipe splits all rows
            anew; None for the recipe's own, else 0.2.
        stratify: whether each class keeps its share among them.
    """

    source: str | None = None
    label_column: str = "label"
    test_fraction: float | None = None
    stratify: bool = False

    def load(self, recipe: Recipe, *, seed: int) -> Dataset:
        """Load the rows for a recipe and split them as it asks.

        A folder that is named is never passed over for other data. One with the four IDX files is taken as what it
        holds, whatever the recipe's own data set.

        Raises:
            ConfigError, DataError, MissingDependency: as `load_dataset`.
        """
        source, data_dir = self.source, None
        if source is None:
            source = recipe.dataset
        elif source not in NAMED and _is_parent(existing_path(source), recipe.dataset):
            source, data_dir = recipe.dataset, source
        test_fraction = self.test_fraction
        if test_fraction is None:
            test_fraction = TEST_FRACTION if recipe.test_fraction is None else recipe.test_fraction
        data = load_dataset(
            source,
            data_dir=data_dir,
            label_column=self.label_column,
            test_fraction=test_fraction,
            seed=seed,
            stratify=self.stratify,
        )
        if recipe.test_fraction is None:
            return data
        return resplit(data, test_fraction=test_fraction, seed=seed, stratify=self.stratify)

    def refuse_idle(self, options: Collection[str], recipe: Recipe) -> None:
        """Refuse options that would change nothing with these rows.

        Args:
            options: names of attributes that the user has set.
            recipe: may split all rows anew, whatever the source.

        Raises:
            ConfigError: one of them would have no effect.
        """
        source = recipe.dataset if self.source is None else self.source
        if "label_column" in options and not source.lower().endswith(".csv"):
            raise ConfigError(f"--label-column is for a .csv, got {source}: leave it out")
        path = existing_path(source)
        is_divided = recipe.test_fraction is None and (source in NAMED or _has_test_rows(path))
        if is_divided and (idle := sorted({"test_fraction", "stratify"} & set(options))):
            option = idle[0].replace("_", "-")
            raise ConfigError(f"--{option} is for rows that are still to be split, but {source} has its own test rows")

    def absolute(self) -> DataChoice:
        """Return the same choice with its path made absolute, so that it holds from any folder."""
        if self.source is None or self.source in NAMED or (path := existing_path(self.source)) is None:
            return self
        return replace(self, source=os.fspath(path.resolve()))


def _has_test_rows(path: Path | None) -> bool:
    """Whether it is a folder with test rows of their own; two `.npy` files are images and labels still to be split."""
    if path is None or not path.is_dir() or find_parts(path) is not None:
        return path is not None and path.is_dir()
    arrays = find_arrays(path)
    return arrays is None or len(arrays) == 4


def _is_parent(folder: Path | None, dataset: str) -> bool:
    """Whether `folder` has no data itself, and so must have the files of `dataset` in a folder of that name."""
    is_source = dataset in {source.name for source in SOURCES}
    has_none = folder is not None and folder.is_dir() and find_parts(folder) is None and find_arrays(folder) is None
    return is_source and has_none

"""Source and split of the rows of a run."""

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
    """Source and split of the rows of a run.

    Attributes:
        source: name or path for `load_dataset`, or the parent of a folder with the recipe's data set; None for the
            recipe's data set.
        label_column: header of the label column of a `.csv`.
        test_fraction: fraction of rows to hold out if the source has no test set or the recipe splits all rows again;
            None for the recipe's own, else 0.2.
        stratify: whether to preserve class proportions in the split.
    """

    source: str | None = None
    label_column: str = "label"
    test_fraction: float | None = None
    stratify: bool = False

    def load(self, recipe: Recipe, *, seed: int) -> Dataset:
        """Load and split the rows of a recipe.

        A given folder is never ignored in favour of other data. Four IDX files are loaded as the data set that they
        contain, whatever the recipe's own.

        Raises:
            ConfigError, DataError, MissingDependency: as in `load_dataset`.
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
        """Reject options without effect on these rows.

        Args:
            options: names of attributes set by the user.
            recipe: recipe, which may split all rows again.

        Raises:
            ConfigError: an option would have no effect.
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
        """Return the choice with an absolute path, valid in any working directory."""
        if self.source is None or self.source in NAMED or (path := existing_path(self.source)) is None:
            return self
        return replace(self, source=os.fspath(path.resolve()))


def _has_test_rows(path: Path | None) -> bool:
    """Return whether it is a folder with a test set; two `.npy` files are images and labels to be split."""
    if path is None or not path.is_dir() or find_parts(path) is not None:
        return path is not None and path.is_dir()
    arrays = find_arrays(path)
    return arrays is None or len(arrays) == 4


def _is_parent(folder: Path | None, dataset: str) -> bool:
    """Return whether `folder` has no data itself, and so must contain a folder named `dataset`."""
    is_source = dataset in {source.name for source in SOURCES}
    has_none = folder is not None and folder.is_dir() and find_parts(folder) is None and find_arrays(folder) is None
    return is_source and has_none

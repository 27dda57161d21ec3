"""The rows that a workload trains on: MNIST as it is, or drawn so that anybody gets the same ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError
from ...nn import Dataset, Split
from ...nn.runs.data_choice import DataChoice
from ...nn.runs.recipes import RECIPES
from .workloads import CLASSES, FEATURES, TEST_ROWS, TRAIN_ROWS, Workload

SEED = 20


class DataSource:
    """Makes the data of each workload, and keeps the last so that equal data are the same object.

    Args:
        mnist: where MNIST is, as for `xpnn train --data`; None for wherever it is found.
    """

    def __init__(self, mnist: str | None = None) -> None:
        self._mnist = mnist
        self._key: tuple[str, float, int | None] | None = None
        self._last: Dataset | None = None

    def load(self, workload: Workload) -> Dataset:
        """Return training and test rows that fit the workload.

        Raises:
            ConfigError: the data have other numbers of features or classes than the network.
        """
        key = (workload.data, workload.density, workload.rows)
        if self._last is None or key != self._key:
            self._key, self._last = key, self._make(workload)
        data = self._last
        if (workload.sizes[0], workload.sizes[-1]) != (data.features, data.num_classes):
            raise ConfigError(
                f"workload {workload.name} is for {workload.sizes[0]} features and {workload.sizes[-1]} classes, but "
                f"{data.name} has {data.features} and {data.num_classes}: name a folder of MNIST by --data"
            )
        return data

    def _make(self, workload: Workload) -> Dataset:
        if workload.data == "mnist":
            data = DataChoice(self._mnist).load(RECIPES["mnist-98"], seed=0)
        elif workload.data == "normal":
            data = draw_normal()
        else:
            data = draw_pixels(workload.density)
        train = Split(data.train.images[: workload.rows], data.train.labels[: workload.rows])
        return replace(data, train=train)


def draw_normal(*, rows: int = TRAIN_ROWS, test_rows: int = TEST_ROWS) -> Dataset:
    """Return standard-normal float32 rows of 784 features, labelled by a random linear teacher."""
    generator = np.random.default_rng(SEED)
    images = generator.standard_normal((rows + test_rows, FEATURES), dtype=np.float32)  # (samples, features)
    return _labelled("normal", images, rows, generator)


def draw_pixels(density: float, *, rows: int = TRAIN_ROWS, test_rows: int = TEST_ROWS) -> Dataset:
    """Return uint8 rows of 784 pixels, each 1 to 255 with probability `density`, else 0; labelled likewise.

    Raises:
        ConfigError: the density is not in (0, 1].
    """
    if not 0 < density <= 1:
        raise ConfigError(f"the density must be in (0, 1], got {density}")
    generator = np.random.default_rng(SEED)
    images = generator.integers(1, 256, (rows + test_rows, FEATURES), dtype=np.uint8)  # (samples, features)
    images *= generator.random(images.shape, dtype=np.float32) < density
    return _labelled("pixels", images, rows, generator)


def _labelled(name: str, images: npt.NDArray[Any], rows: int, generator: np.random.Generator) -> Dataset:
    """Label images by a fixed linear map of what is left after their mean, and split them after `rows`."""
    teacher = generator.standard_normal((FEATURES, CLASSES), dtype=np.float32)
    scores = images.astype(np.float32) @ teacher  # (samples, classes)
    labels = np.argmax(scores - scores.mean(axis=0), axis=1).astype(np.int64)  # (samples,)
    names = tuple(map(str, range(CLASSES)))
    return Dataset(name, Split(images[:rows], labels[:rows]), Split(images[rows:], labels[rows:]), names)

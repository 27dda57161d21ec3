"""Data of workloads: MNIST, or reproducible random rows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends import ConfigError
from ...nn import Dataset, Numbers, Pixels, Split
from ...nn.runs.data_choice import DataChoice
from ...nn.runs.recipes import RECIPES
from .workloads import CLASSES, FEATURES, TEST_ROWS, TRAIN_ROWS, Workload

SEED = 20


def load_data(workload: Workload, mnist: str | None = None) -> Dataset:
    """Return training and test rows of a workload, cached for consecutive equal ones; `mnist` is the option `--data`.

    Raises:
        ConfigError: the numbers of features or classes differ from the network's.
    """
    data = _load(workload.data, workload.sizes[0], workload.sizes[-1], workload.density, workload.rows, mnist)
    if (workload.sizes[0], workload.sizes[-1]) != (data.features, data.num_classes):
        raise ConfigError(
            f"workload {workload.name} is for {workload.sizes[0]} features and {workload.sizes[-1]} classes, but "
            f"{data.name} has {data.features} and {data.num_classes}: name a folder of MNIST by --data"
        )
    return data


@lru_cache(maxsize=1)
def _load(kind: str, features: int, classes: int, density: float, rows: int | None, mnist: str | None) -> Dataset:
    if kind == "mnist":
        data = DataChoice(mnist).load(RECIPES["mnist-98"], seed=0)
    else:
        data = draw_normal(features, classes) if kind == "normal" else draw_pixels(density)
    return replace(data, train=data.train.take(slice(rows)))


def draw_normal(
    features: int = FEATURES, classes: int = CLASSES, *, rows: int = TRAIN_ROWS, test_rows: int = TEST_ROWS
) -> Dataset:
    """Draw standard normal float32 rows, labelled by a random linear teacher."""
    generator = np.random.default_rng(SEED)
    images = generator.standard_normal((rows + test_rows, features), dtype=np.float32)  # (samples, features)
    return _labelled("normal", images, classes, rows, generator)


def draw_pixels(density: float, *, rows: int = TRAIN_ROWS, test_rows: int = TEST_ROWS) -> Dataset:
    """Draw uint8 rows of 784 pixels, each 1 to 255 with probability `density`, else 0; labelled likewise."""
    generator = np.random.default_rng(SEED)
    images = generator.integers(1, 256, (rows + test_rows, FEATURES), dtype=np.uint8)  # (samples, features)
    images *= generator.random(images.shape, dtype=np.float32) < density
    return _labelled("pixels", images, CLASSES, rows, generator)


def _labelled(name: str, images: npt.NDArray[Any], classes: int, rows: int, generator: np.random.Generator) -> Dataset:
    """Label images by a fixed linear map of their centred pixels, and split them after `rows`."""
    teacher = generator.standard_normal((images.shape[1], classes), dtype=np.float32)  # (features, classes)
    scores = images.astype(np.float32) @ teacher  # (samples, classes)
    labels = np.argmax(scores - scores.mean(axis=0), axis=1).astype(np.int64)  # (samples,)
    names = tuple(map(str, range(classes)))
    inputs = Pixels(class_names=names) if images.dtype == np.uint8 else Numbers(class_names=names)
    return Dataset(name, Split(images[:rows], labels[:rows]), Split(images[rows:], labels[rows:]), inputs)

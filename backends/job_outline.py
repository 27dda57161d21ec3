"""What is known of a training before a backend is chosen for it, and what a backend expects of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .mapped import is_mapped
from .optimizers import Optimizer

# Below this share of numbers that are not zero, it pays to skip the zeros.
SPARSE_DENSITY = 0.5
# From so many rows on, a batch is worth a narrow network's addition of gradients over shards.
LARGE_BATCH = 1024
# Of fewer rows, a batch is done faster by each thread than what it changes travels between them (784-11-334-107-738-10:
# 28 rows 281 ms alone, 386 ms shared; 784-11-327-121-10: 241 rows 229 ms alone, 181 ms shared).
FEW_ROWS = 100
SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class JobOutline:
    """The size and kind of a training.

    Attributes:
        sizes: features, units of each hidden layer, classes.
        rows: training rows.
        epochs: passes over them.
        batch_size: rows of a step.
        optimizer: how gradients become steps.
        activation: of the hidden layers.
        dtype: of weights and arithmetic.
        images_dtype: of the images as they came.
        density: share of the images' numbers that are not zero, in [0, 1].
        loss: a row of `LOSSES`.
        needs_generic_plan: as of the `TrainingJob`.
    """

    sizes: tuple[int, ...]
    rows: int
    epochs: int
    batch_size: int
    optimizer: Optimizer
    activation: str = "relu"
    dtype: str = "float32"
    images_dtype: str = "uint8"
    density: float = 1.0
    loss: str = "softmax_cross_entropy"
    needs_generic_plan: bool = False

    @property
    def multiply_adds_of_row(self) -> float:
        """Multiply-adds of one row in one pass: three products a layer, all but the first layer's grad_x."""
        return float(sum(3 * a * b for a, b in pairwise(self.sizes)) - self.sizes[0] * self.sizes[1])

    @property
    def rows_in_all(self) -> int:
        """Rows of all epochs together."""
        return self.rows * self.epochs

    @property
    def steps(self) -> int:
        """Optimizer steps of all epochs together."""
        return self.epochs * -(-self.rows // self.batch_size)


class Probe(NamedTuple):
    """What was measured on this machine before the choice.

    Attributes:
        numpy_seconds: what the training would take on NumPy.
        slowness: how many times longer Python code takes here than on the machine of the constants, at least 1.
        one_thread_seconds: what it would take on NumPy with one thread of BLAS.
    """

    numpy_seconds: float
    slowness: float = 1.0
    one_thread_seconds: float = math.inf

    @property
    def quiet_seconds(self) -> float:
        """What it would take on NumPy if no thread of BLAS were in another's way, as they are on a busy machine."""
        return min(self.numpy_seconds, self.one_thread_seconds)


class Estimate(NamedTuple):
    """What a backend expects to take for a training, evaluation left out: it costs much the same on each.

    Attributes:
        start: seconds until the first step, with imports and compilation.
        training: seconds of all steps.
        note: what the start consists of, else empty.
    """

    start: float
    training: float
    note: str = ""

    @property
    def total(self) -> float:
        """Seconds until the training is done."""
        return self.start + self.training

    def __str__(self) -> str:
        start = f" ({_seconds(self.start)} to start, {self.note})" if self.start else ""
        return f"about {_seconds(self.total)}{start}"


def density_of(images: npt.NDArray[Any]) -> float:
    """Return the share of numbers that are not zero in some thousand rows, of all parts of `images`, (samples, ...).

    It is 1 for images that are mapped from a file: their zeros are not skipped.
    """
    if is_mapped(images):
        return 1.0
    sample = images[:: max(len(images) // SAMPLE_ROWS, 1)]  # 1000 to 1999 rows, or all
    return float(np.count_nonzero(sample) / max(sample.size, 1))


def _seconds(seconds: float) -> str:
    """Write a rough time."""
    if seconds < 0.01:
        return "0.01 s"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"

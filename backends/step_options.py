"""Settings of a step of gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .constraints import BELOW_1, FLAG, NOT_NEGATIVE, POSITIVE, check_options, documented, instance, option, whole
from .optimizers import Adam, Optimizer

Sizes = TypeVar("Sizes", float, npt.NDArray[np.float64])


@documented
@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Settings of a training step.

    Raises:
        ConfigError: a setting has an invalid value.
    """

    optimizer: Optimizer = option(
        Adam(), instance(Optimizer, "nn.Adam(1e-3)"), "How gradients become steps.",
    )  # fmt: skip
    batch_size: int | None = option(
        128, whole(1).or_none(),
        "Rows of one step, or full for all of them. The last batch of an epoch has what is left; None takes all rows.",
        panel="Training", metavar="ROWS",
    )  # fmt: skip
    accumulate: int = option(
        1, whole(1),
        "Batches whose gradients make one step. It has `accumulate * batch_size` rows, in the memory of `batch_size`.",
        panel="Training", metavar="N",
    )  # fmt: skip
    clip_norm: float | None = option(
        None, POSITIVE.or_none(),
        "Longest gradient. That of all parameters together is made no longer than this (Pascanu et al. 2013).",
        panel="Training", metavar="LENGTH",
    )  # fmt: skip
    l2: float = option(
        0.0, NOT_NEGATIVE,
        "Penalty on squared weights. The objective is the mean loss plus `l2 / 2` times the sum of the squared "
        "weights, biases left out.",
        panel="Regularization", metavar="STRENGTH",
    )  # fmt: skip
    l2_per_batch: bool = option(
        False, FLAG, "Whether `l2` is divided by the rows of each batch, as scikit-learn has its `alpha`.",
    )  # fmt: skip
    dropout: float = option(
        0.0, BELOW_1,
        "Share of the hidden units that each step leaves out. The others grow by as much (Srivastava et al. 2014).",
        panel="Regularization", metavar="SHARE",
    )  # fmt: skip
    label_smoothing: float = option(
        0.0, BELOW_1,
        "Share of each row's target that all classes have evenly. For softmax cross-entropy (Szegedy et al. 2016); the "
        "training loss has it, losses of test and validation rows do not.",
        panel="Regularization", metavar="SHARE",
    )  # fmt: skip
    precision: str = option(
        "full", None,
        "Of matrix products: full, or bfloat16 on a GPU. `full` is that of the network's dtype; the backend's "
        "`precisions` are what it has.",
        panel="Speed", metavar="KIND", is_identity=False,
    )  # fmt: skip
    reproducible: bool = option(
        False, FLAG,
        "Same bits on any number of processes, on machines of one kind. Slower: each batch is cut into at most 32 "
        "shards, of at least 8 rows, whose gradients are added up in a fixed order. There must be a shard for each "
        "process.",
        panel="Training",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)

    def rows_of_step(self, rows: int) -> int:
        """Return the number of rows per step, including all accumulated batches."""
        return rows if self.batch_size is None else self.batch_size * self.accumulate

    def penalty(self, size: Sizes) -> Sizes | float:
        """Return the L2 strength of a step whose mean loss is over `size`: rows, or the sum of their weights."""
        return self.l2 / size if self.l2_per_batch else float(self.l2)

    @property
    def needs_generic_plan(self) -> bool:
        """Whether a step uses features of the generic plan only: dropout or clipping."""
        return self.dropout != 0 or self.clip_norm is not None

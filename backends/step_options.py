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
        Adam(), instance(Optimizer, "nn.Adam(1e-3)"), "Optimizer.",
    )  # fmt: skip
    batch_size: int | None = option(
        128, whole(1).or_none(),
        "Batch size, or full for full batches. The last batch of an epoch may be smaller; None is the full batch.",
        panel="Training", metavar="ROWS",
    )  # fmt: skip
    accumulate: int = option(
        1, whole(1),
        "Batches per step (gradient accumulation). A step has `accumulate * batch_size` rows.",
        panel="Training", metavar="N",
    )  # fmt: skip
    clip_norm: float | None = option(
        None, POSITIVE.or_none(),
        "Maximum gradient norm. The gradient of all parameters is clipped to this norm (Pascanu et al. 2013).",
        panel="Training", metavar="LENGTH",
    )  # fmt: skip
    l2: float = option(
        0.0, NOT_NEGATIVE,
        "L2 penalty on the weights. The objective is the mean loss plus `l2 / 2` times the sum of squared weights, "
        "without biases.",
        panel="Regularization", metavar="STRENGTH",
    )  # fmt: skip
    l2_per_batch: bool = option(
        False, FLAG, "Whether to divide `l2` by the batch size, as scikit-learn does with `alpha`.",
    )  # fmt: skip
    dropout: float = option(
        0.0, BELOW_1,
        "Probability of dropping a hidden unit. The others are scaled up to match (Srivastava et al. 2014).",
        panel="Regularization", metavar="SHARE",
    )  # fmt: skip
    label_smoothing: float = option(
        0.0, BELOW_1,
        "Label smoothing: probability mass spread evenly over the classes. For softmax cross-entropy (Szegedy et al. "
        "2016); it affects the training loss, not test and validation losses.",
        panel="Regularization", metavar="SHARE",
    )  # fmt: skip
    precision: str = option(
        "full", None,
        "Precision of matrix products: full, or bfloat16 on a GPU. `full` is the network's dtype; a backend lists its "
        "`precisions`.",
        panel="Speed", metavar="KIND", is_identity=False,
    )  # fmt: skip
    reproducible: bool = option(
        False, FLAG,
        "Bit-identical results for any number of processes, on machines of one kind. Slower: gradients of at most 32 "
        "shards per batch, of at least 8 rows each, are summed in a fixed order. Every process needs a shard.",
        panel="Training",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)

    def rows_of_step(self, rows: int) -> int:
        """Return the number of rows per step, including all accumulated batches: all of fewer rows."""
        return rows if self.batch_size is None else min(int(self.batch_size * self.accumulate), rows)

    def penalty(self, size: Sizes) -> Sizes | float:
        """Return the L2 strength of a step whose mean loss is over `size`: rows, or the sum of their weights."""
        return self.l2 / size if self.l2_per_batch else float(self.l2)

    @property
    def drops_or_clips(self) -> bool:
        """Whether a step has dropout or clipping, which some compiled plans do not support."""
        return self.dropout != 0 or self.clip_norm is not None

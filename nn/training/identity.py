"""Which training it is: what a checkpoint must fit, and all ranks must agree on."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..datasets.dataset import Split
from ..inputs.arguments import row_blocks
from ..network.mlp import MLP
from .options import TrainingOptions
from .sources import RowSource


@dataclass(frozen=True)
class Identity:
    """What decides which training it is: a checkpoint of one is no start for another.

    The number of epochs and the patience are no part of it: a training may be resumed for longer.

    Attributes:
        net: the network.
        options: of the training.
        source: the training rows.
        validation: the rows that early stopping may go by, or None.
        scale: what their integers are multiplied by.
        dropout_seed: what decides which units the steps leave out.
        first_step: number of the first step, from 1; more where the optimizer continues from an earlier training.
    """

    net: MLP
    options: TrainingOptions
    source: RowSource
    validation: Split | None
    scale: float
    dropout_seed: int
    first_step: int

    @cached_property
    def parts(self) -> dict[str, Any]:
        """Each thing by its name, as JSON has it; found when asked for, since all rows are read for it."""
        net, rows = self.net, self.source.rows
        return {
            "sizes": list(net.sizes),
            "activation": net.activation,
            "loss": net.loss,
            "dtype": net.dtype,
            **self.options.identity(),
            "batch_size": self.source.step_rows,
            "dropout seed": self.dropout_seed,
            "first step": self.first_step,
            "input_scale": float(self.scale),
            "number of rows": len(rows),
            "check sum of the rows": check_sum(rows),
            "check sum of the validation rows": None if self.validation is None else check_sum(self.validation),
        }


def check_sum(rows: Split) -> int:
    """Return a number that changes with any pixel, label or weight: CRC-32, quick and no protection from intent."""
    labels = np.asarray(rows.labels, dtype=np.int64 if rows.labels.ndim == 1 else np.float64)
    number = rows.facts.check_sum
    for array in (labels, rows.weights):
        for _, block in row_blocks(array) if array is not None else ():
            number = zlib.crc32(np.ascontiguousarray(block).data.cast("B"), number)
    return number

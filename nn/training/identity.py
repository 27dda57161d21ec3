"""Identity of a run, which a checkpoint must match and all ranks must agree on."""

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
    """Identity of a run: checkpoints can be resumed only by a run of the same identity.

    The number of epochs and the patience are not part of it: a run may be resumed for longer.

    Attributes:
        net: the network.
        options: training options.
        source: training rows.
        validation: validation rows for early stopping, or None.
        dropout_seed: seed of the dropout masks.
        first_step: number of the first step, from 1; more if the optimizer state of an earlier run is used.
    """

    net: MLP
    options: TrainingOptions
    source: RowSource
    validation: Split | None
    dropout_seed: int
    first_step: int

    @cached_property
    def parts(self) -> dict[str, Any]:
        """Properties by name, as JSON; computed lazily, since it reads all rows."""
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
            "inputs": None if rows.inputs is None else rows.inputs.settings(),
            "number of rows": len(rows),
            "check sum of the rows": check_sum(rows),
            "check sum of the validation rows": None if self.validation is None else check_sum(self.validation),
        }


def check_sum(rows: Split) -> int:
    """Return a CRC-32 of pixels, labels and weights: fast, but no protection against tampering."""
    labels = np.asarray(rows.labels, dtype=np.int64 if rows.labels.ndim == 1 else np.float64)
    number = rows.facts.check_sum
    for array in (labels, rows.weights):
        for _, block in row_blocks(array) if array is not None else ():
            number = zlib.crc32(np.ascontiguousarray(block).data.cast("B"), number)
    return number

"""The plain script as a contestant."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....nn import Dataset
from ..contestant import Array, Contestant, as_float32
from ..plain_numpy import PlainNumPy


class Script(Contestant):
    """`PlainNumPy` on float32 images."""

    xp: Any = np  # whose arrays it computes on

    def place(self, data: Dataset) -> None:
        """See `Contestant.place`."""
        task, put = self.task, self.xp.array
        images, self.test = (put(as_float32(split.images, data.scale)) for split in (data.train, data.test))
        self.script = PlainNumPy(
            [put(array) for array in task.start],
            images,
            put(data.train.labels),
            task.optimizer,
            task.batch_size,
            activation=task.activation,
            xp=self.xp,
        )

    def compile(self) -> None:
        """See `Contestant.compile`; nothing."""

    def run_epochs(self) -> float:
        """See `Contestant.run_epochs`."""
        losses = [self.script.run_epoch(order) for order in self.orders]
        return float(losses[0])

    def predict(self) -> Array:
        """See `Contestant.predict`."""
        classes: Array = self.xp.argmax(self.script.forward(self.test)[-1], axis=1)
        return classes
